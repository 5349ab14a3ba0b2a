"""`run_in_fork`: a Python function in an invisible forked process, its result awaited."""

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
from .._pidfd.backend import readable, shielded, sleep
from .._pidfd.epoll import EPOLLIN, epoll
from .._pidfd.wait import Patience
from .._spawn.fds import epoll_above_stdio, pipe_above_stdio
from .._spawn.fork import fork_on
from .._spawn.hub import Hub, current_hub, news_of
from .._spawn.program import FINAL, Program
from .._spawn.tree import KILL_DEADLINE, kill_now

__all__ = ["NoResultError", "run_in_fork"]

P = ParamSpec("P")
T = TypeVar("T")

_HEADER: Final = struct.Struct("=Q")  # how many bytes of a pickle follow
_CHUNK: Final = 1 << 20


class NoResultError(ChildProcessError):
    """The forked process ended before the function had returned or raised.

    Attributes:
        pid: the process id that it had.
        returncode: its exit status, or minus the number of the signal that ended it.
    """

    __module__ = "aiopidfd"

    def __init__(self, pid: int, returncode: int) -> None:
        """Say how process `pid` ended."""
        super().__init__(pid, returncode)
        self.pid = pid
        self.returncode = returncode

    def __str__(self) -> str:
        """How it ended."""
        how = f"exited with status {self.returncode}"
        if self.returncode < 0:
            how = f"was killed by signal {-self.returncode}"
        return f"the forked process {self.pid} {how} before it had a result"


async def run_in_fork(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a forked process, which nothing else in this one can see, and await it.

    On any asyncio loop and on trio. The function starts with a copy of all that is here, so neither
    it nor its arguments are pickled; what it returns or raises is. Then the process ends by
    `os._exit`, after sys.stdout and sys.stderr were flushed: no atexit function runs, and threads
    that the function leaves behind end with it. docs/fork.md says what is safe in such a process.

    The loop that runs here does not run there; `asyncio.run` works there. Signals that had a
    handler in Python are at their defaults there, SIGINT at Python's. Descriptors are inherited.
    The loop here is blocked while the process is forked (as by `os.fork`: the longer the more
    memory there is) and while the result is unpickled.

    Cancelled, this kills the process and what it has started (SIGKILL), and reaps it.

    Args:
        func: what to call; no coroutine function.
        args, kwargs: its arguments.

    Returns:
        What the function returned.

    Raises:
        Exception: what the function raised, with the traceback from there as a note; or, if the
            result or the exception cannot be pickled, the error that pickle has for it.
        NoResultError: the process ended before: it was killed, or called `os._exit` or `sys.exit`.
        TypeError: `func` cannot be called so.
        OSError, RuntimeError: it could not be forked; see `fork`.
    """
    if not callable(func) or inspect.iscoroutinefunction(func):
        raise TypeError(f"a function is needed that is no coroutine function, not {func!r}")
    _flush()  # or both processes would write what is in the buffers
    with contextlib.ExitStack() as stack:
        news = stack.enter_context(contextlib.closing(epoll_above_stdio()))
        read, write = pipe_above_stdio()  # lest the function prints into it
        stack.callback(os.close, read)
        with contextlib.ExitStack() as the_childs:
            the_childs.callback(os.close, write)
            hub = current_hub()
            program = _fork_to_call(hub, lambda: _send(read, write, func, args, kwargs))
        try:
            message = await _message(program, hub, read, news)
        except GeneratorExit:  # thrown away: nothing can be awaited any more
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
    # No signal's exception may come in the new process before it is ready for one: it would be
    # raised into the copy of whatever awaits us here.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = None
    try:
        program = fork_on(hub)
        if program is None:
            _be_the_child(mask, call)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except BaseException:  # a signal's, from the line above, or there is no child
        if program is not None:
            program.abandon()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    return program


async def _message(program: Program, hub: Hub, read: int, news: epoll) -> bytearray:
    """What the process has written by its exit. Whoever else holds the pipe is not waited for."""
    os.set_blocking(read, False)
    # One descriptor that tells of both: a loop waits for one.
    news.register(read, EPOLLIN)
    news.register(program.pidfd, EPOLLIN)
    data = bytearray()
    patience = Patience()
    while program.advance() not in FINAL:
        if program.has_exited():
            await _be_patient(program, hub, patience)
        else:
            await readable(news.fileno())
        if _read(read, data) == b"":
            with contextlib.suppress(FileNotFoundError):  # done before
                news.unregister(read)
    while not _is_complete(data) and _read(read, data):
        pass
    return data


def _read(read: int, data: bytearray) -> bytes | None:
    """Add to `data` what there is now: b"" at the end, None if there is nothing yet."""
    try:
        chunk = os.read(read, _CHUNK)
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
    """Wait for news; or a while, if its guardian was killed and nobody has reaped it yet."""
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
    returned, value, text = pickle.loads(memoryview(message)[_HEADER.size :])  # our own function's
    if returned:
        return value
    with contextlib.suppress(Exception):  # a frozen dataclass takes none
        value.add_note(f"In the forked process {program.pid}:\n{text}")
    raise value


# ---- The forked process -------------------------------------------------------------------------


def _be_the_child(mask: set[signal.Signals | int], call: Callable[[], object]) -> NoReturn:
    """Whatever happens, the process ends here, and nothing of the copied program goes on."""
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
        pass  # nobody wants the result any more
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            _flush()
        os._exit(status)


def _forget_handlers() -> None:
    """A loop's handlers would tell the parent's loop, through a descriptor that both have."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _send(
    read: int, write: int, func: Callable[..., object], args: Any, kwargs: dict[str, Any]
) -> None:
    os.close(read)  # so that a write fails once our parent is gone
    pid, pipe = os.getpid(), os.fstat(write)
    try:
        data = pickle.dumps((True, func(*args, **kwargs), ""), pickle.HIGHEST_PROTOCOL)
    except Exception as exc:
        if os.getpid() != pid:
            raise
        data = _pickled_exception(exc)
    if os.getpid() != pid:  # a process that the function forked has come here too
        return
    if not os.path.samestat(pipe, os.fstat(write)):  # it closed all that it did not know
        raise OSError(errno.EBADF, "the function has closed the descriptor for its result")
    for part in (_HEADER.pack(len(data)), data):
        view = memoryview(part)
        while view:
            view = view[os.write(write, view) :]


def _pickled_exception(exc: Exception) -> bytes:
    text = "".join(traceback.format_exception(exc)).rstrip()
    try:
        data = pickle.dumps((False, exc, text), pickle.HIGHEST_PROTOCOL)
        _, again, _ = pickle.loads(data)  # many can be pickled and not be made again of that
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
        return exc.code & 0xFF if -(2**63) <= exc.code < 2**63 else 255  # as Python's own
    print(exc.code, file=sys.stderr)
    return 1


def _end_by_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.kill(os.getpid(), signal.SIGINT)


# ---- Both ---------------------------------------------------------------------------------------


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # there is none, or it is closed
            stream.flush()
