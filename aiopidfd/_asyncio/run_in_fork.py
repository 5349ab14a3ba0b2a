"""`run_in_fork`: call a Python function in an invisible forked process, and await its result."""

import contextlib
import errno
import inspect
import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

from .. import _native
from .._pidfd import unpatched
from .._pidfd.any_loop import check_loop, readable, shielded, sleep
from .._pidfd.wait import Patience
from .._spawn.fds_above_stdio import epoll_above_stdio, pipe_above_stdio
from .._spawn.fork import fork_on
from .._spawn.hub_of_each_loop import Hub, current_hub, news_of
from .._spawn.program import FINAL, Program
from .._spawn.tree import KILL_DEADLINE, kill_now

__all__ = ["NoResultError", "run_in_fork"]

P = ParamSpec("P")
T = TypeVar("T")

_HEADER: Final = struct.Struct("=Q")  # the number of bytes of the pickle that follows
_CHUNK: Final = 1 << 20


class NoResultError(ChildProcessError):
    """The forked process ended before the function returned or raised.

    Attributes:
        pid: the process id of the forked process.
        returncode: its exit status, or minus the number of the signal that ended it.
    """

    __module__ = "aiopidfd"

    def __init__(self, pid: int, returncode: int) -> None:
        """Store how process `pid` ended."""
        super().__init__(pid, returncode)
        self.pid = pid
        self.returncode = returncode

    def __str__(self) -> str:
        """Say how the process ended."""
        how = f"exited with status {self.returncode}"
        if self.returncode < 0:
            how = f"was killed by signal {-self.returncode}"
        return f"the forked process {self.pid} {how} before it had a result"


async def run_in_fork(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a forked process, which nothing else in this one can see, and await it.

    This works on any asyncio loop and on trio. The function starts with a copy of everything in
    this process, so the function and its arguments are not pickled. What it returns or raises is
    pickled. Then sys.stdout and sys.stderr are flushed and the process ends by `os._exit`: no
    atexit function runs, and threads that the function has left behind end. The manual's page fork
    says what is safe in such a process.

    The loop that runs here does not run in the new process; `asyncio.run` works in it. Signals that
    had a handler in Python have their default actions in it, and SIGINT has Python's default
    handler. Descriptors are inherited. The loop here is blocked while the process is forked (as by
    `os.fork`: the more memory there is, the longer it takes) and while the result is unpickled.

    If the call is cancelled, it kills the process and what that has started (SIGKILL), and reaps
    it.

    Args:
        func: the function to call, which must not be a coroutine function.
        args, kwargs: its arguments.

    Returns:
        What the function returned.

    Raises:
        Exception: what the function raised, with its traceback as a note.
        pickle.PicklingError: the result or the exception cannot be pickled; the text says why.
        NoResultError: the process ended before the function did: it was killed, or called
            `os._exit` or `sys.exit`.
        TypeError: `func` cannot be called so.
        OSError, RuntimeError: the process could not be forked; see `fork`. Or no loop runs here.
    """
    if not callable(func) or inspect.iscoroutinefunction(func):
        hint = "; asyncio.run() works in one" if inspect.iscoroutinefunction(func) else ""
        raise TypeError(f"a function is needed that is no coroutine function, not {func!r}{hint}")
    check_loop("run_in_fork()", "fork() needs none")
    _flush()  # else both processes would write what is in the buffers
    with contextlib.ExitStack() as stack:
        news = stack.enter_context(contextlib.closing(epoll_above_stdio()))
        read, write = pipe_above_stdio()  # else a print() of the function could write into it
        stack.callback(os.close, read)
        with contextlib.ExitStack() as the_childs:
            the_childs.callback(os.close, write)
            hub = current_hub()
            program = _fork_to_call(hub, lambda: _send(read, write, func, args, kwargs))
        try:
            message = await _message(program, hub, read, news)
        except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
            kill_now(program)
            raise
        except BaseException:
            kill_now(program)
            await shielded(lambda: _until_over(program, hub), KILL_DEADLINE)
            raise
        finally:
            program.native.close()
    result: T = _outcome(program, message)
    return result


# ---- This process -------------------------------------------------------------------------------


def _fork_to_call(hub: Hub, call: Callable[[], object]) -> Program:
    # A signal must not raise its exception in the new process before that is ready: the exception
    # would be raised in the copy of the code that awaits us here.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = None
    try:
        program = fork_on(hub)
        if program is None:
            _be_the_child(mask, call)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except BaseException:  # raised by a signal after the line above, or by fork_on()
        if program is not None:
            program.abandon()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    return program


async def _message(program: Program, hub: Hub, read: int, news: unpatched.epoll) -> bytearray:
    """What the process has written by its exit. Others that hold the pipe are not waited for."""
    os.set_blocking(read, False)
    # One descriptor tells of both events, because a loop can wait for one only.
    news.register(read, unpatched.EPOLLIN)
    if (pidfd := program.pidfd) >= 0:  # else another thread has seen the exit
        news.register(pidfd, unpatched.EPOLLIN)
    data = bytearray()
    patience = Patience()
    while program.advance() not in FINAL:
        if program.has_exited():
            await _be_patient(program, hub, patience)
        else:
            await readable(news.fileno())
        if _read(read, data) == b"":
            with contextlib.suppress(FileNotFoundError):  # it was unregistered before
                news.unregister(read)
    while not _is_complete(data) and _read(read, data):
        pass
    return data


def _read(read: int, data: bytearray) -> bytes | None:
    """Add to `data` what the pipe holds now. Returns b"" at the end, None if there is nothing."""
    try:
        chunk = unpatched.read(read, _CHUNK)
    except BlockingIOError:
        return None
    data += chunk
    return chunk


def _is_complete(data: bytearray) -> bool:
    return len(data) >= _HEADER.size and len(data) - _HEADER.size >= _HEADER.unpack_from(data)[0]


async def _until_over(program: Program, hub: Hub) -> None:
    patience = Patience()
    while program.advance() not in FINAL:
        await _be_patient(program, hub, patience)


async def _be_patient(program: Program, hub: Hub, patience: Patience) -> None:
    """Wait for news. If the guardian was killed and nobody has reaped the process yet, sleep."""
    if program.advance() != _native.ORPHANED or not program.has_exited():
        if program.advance() not in FINAL:
            await news_of(program.native, hub)
    elif patience.over:
        program.native.give_up_status()
    else:
        await sleep(patience.next())


def _outcome(program: Program, message: bytearray) -> Any:
    if program.returncode is None:
        raise program.failure()
    if not _is_complete(message):
        raise NoResultError(program.pid, program.returncode)
    try:
        returned, value, text = pickle.loads(memoryview(message)[_HEADER.size :])  # our function's
    except Exception as exc:
        exc.add_note(f"What the forked process {program.pid} returned cannot be unpickled.")
        raise
    if returned:
        return value
    if text:
        with contextlib.suppress(Exception):  # e.g. a frozen dataclass takes no notes
            value.add_note(f"In the forked process {program.pid}:\n{text}")
    try:
        raise value
    finally:
        del value  # a cycle: the exception, its traceback, this frame


# ---- The forked process -------------------------------------------------------------------------


def _be_the_child(mask: set[signal.Signals | int], call: Callable[[], object]) -> NoReturn:
    """Run `call` and end the process, whatever happens: the copied code must not go on here."""
    status = 1
    try:
        _forget_handlers()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        call()
        status = 0
    except SystemExit as exc:
        status = _exit_status(exc)
    except KeyboardInterrupt:
        _end_by_sigint()
    except BrokenPipeError:
        pass  # the reader has gone: the result is not wanted any more
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            _flush()
        os._exit(status)


def _forget_handlers() -> None:
    """Drop the handlers: a loop's handlers would wake the parent's loop by a shared descriptor."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _send(
    read: int, write: int, func: Callable[..., object], args: Any, kwargs: dict[str, Any]
) -> None:
    os.close(read)  # then a write fails once our parent is gone
    pid, pipe = os.getpid(), os.fstat(write)
    try:
        data = _pickled_result(func(*args, **kwargs))
    except Exception as exc:
        if os.getpid() != pid:
            raise
        if exc.__traceback__ is not None:  # its first frame is this one, which tells nothing
            exc.__traceback__ = exc.__traceback__.tb_next
        data = _pickled_exception(exc)
    if os.getpid() != pid:  # the function has forked, and this is the other process
        return
    if not os.path.samestat(pipe, os.fstat(write)):  # the function has closed our descriptor
        raise OSError(errno.EBADF, "the function has closed the descriptor for its result")
    for part in (_HEADER.pack(len(data)), data):
        view = memoryview(part)
        while view:
            view = view[os.write(write, view) :]


def _pickled_result(result: object) -> bytes:
    try:
        return pickle.dumps((True, result, ""), pickle.HIGHEST_PROTOCOL)
    except Exception as why:
        kind = type(result).__name__
        reason = f"the result, of type {kind}, cannot be pickled: {_described(why)}"
        return pickle.dumps((False, pickle.PicklingError(reason), ""), pickle.HIGHEST_PROTOCOL)


def _pickled_exception(exc: Exception) -> bytes:
    text = "".join(traceback.format_exception(exc)).rstrip()
    try:
        data = pickle.dumps((False, exc, text), pickle.HIGHEST_PROTOCOL)
        _, again, _ = pickle.loads(data)  # many exceptions can be pickled, but not unpickled
        if not isinstance(again, BaseException):
            raise TypeError(f"it is made again as {type(again).__name__}")
    except Exception as why:
        reason = f"the exception {_described(exc)} cannot be pickled: {_described(why)}"
        substitute = pickle.PicklingError(reason)
        data = pickle.dumps((False, substitute, text), pickle.HIGHEST_PROTOCOL)
    return data


def _described(exc: Exception) -> str:
    try:
        return repr(exc)
    except Exception:
        return type(exc).__name__


def _exit_status(exc: SystemExit) -> int:
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code & 0xFF if -(2**63) <= exc.code < 2**63 else 255  # as Python itself does
    print(exc.code, file=sys.stderr)
    return 1


def _end_by_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.kill(os.getpid(), signal.SIGINT)


# ---- Both ---------------------------------------------------------------------------------------


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # the stream is None or closed
            stream.flush()
