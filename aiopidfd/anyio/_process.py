"""`open_process` and the `Process` that it returns: anyio's interface, with invisible programs."""

import asyncio
import warnings
from collections.abc import Callable, Mapping
from signal import SIGKILL, SIGTERM
from subprocess import PIPE
from typing import Any, Final, Unpack

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from .. import _native
from .._pidfd.any_loop import has_loop
from .._pidfd.locks import make_lock
from .._pidfd.wait import Patience
from .._spawn.command import is_shell_command
from .._spawn.end_with_grace import end_tree
from .._spawn.handle import AsyncHandle
from .._spawn.hub_of_each_loop import Hub, current_hub, news_of
from .._spawn.options import Command, Options, Request, Stdio, make_request
from .._spawn.program import FINAL, Program
from .._spawn.start import start
from .._spawn.stdio_and_pass_fds import NO_STREAM, Descriptors
from .._spawn.tree import KILL_DEADLINE, kill_now
from .._streams.terminal import HasTerminal, Terminal
from ._streams import OutputPipe, ReceivePipe, SendPipe
from ._terminal import ReceiveTerminal, SendTerminal

__all__ = [
    "ONE_INPUT",
    "Process",
    "Running",
    "make_anyio_request",
    "open_process",
    "start_process",
]

ONE_INPUT: Final = "only one of stdin and input is allowed"  # anyio's words


_LOOK_AGAIN: Final = 0.05  # seconds

_moving = make_lock()  # held while a program is given to another loop, and while it may not be


class Running:
    """A program that was started, and its streams. A `Process` has one of these inside."""

    def __init__(self, program: Program) -> None:
        """Begin without streams. Streams that it gets later belong to it."""
        self.program = program
        self.stdin: SendPipe | None = None
        self.stdout: OutputPipe | None = None
        self.stderr: OutputPipe | None = None
        self.terminal: Terminal | None = None
        self._waiting = anyio.Lock()
        self._waiters = 0

    def poll(self) -> int | None:
        """The return code if it is known already, else None."""
        code = self.program.poll()
        if code is not None and self.terminal is not None:
            self.terminal.close()
        return code

    async def wait(self) -> int:
        """Wait for the exit. Returns the return code. See `Process.wait`."""
        hub = current_hub()
        with _moving:
            if self.program.hub is not hub:  # another loop has started it
                if self._waiters:
                    raise RuntimeError(
                        f"the program {self.program.pid} is awaited on another event loop; here "
                        "PidFd.from_process() makes a handle that can be awaited, too"
                    )
                self._waiting = anyio.Lock()  # one is for the tasks of one loop
                self.program.move_to(hub)
            self._waiters += 1
            waiting = self._waiting
        try:
            # One task listens to the hub, and the others wait for the lock.
            async with waiting:
                await _until_exited(self.program, hub)
        finally:
            with _moving:
                self._waiters -= 1
        code = self.poll()
        if code is None:
            raise self.program.failure()
        return code

    def close_pipes(self) -> None:
        """Close our ends of the pipes."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        if self.terminal is not None:
            self.terminal.close()

    def let_go_of_pipes(self) -> None:
        """Close our ends after the exit. What the program has written can still be received."""
        for output in (self.stdout, self.stderr):
            if output is not None:
                output.close_after_exit()
        if self.stdin is not None:
            self.stdin.close()
        if self.terminal is not None:
            self.terminal.close()

    async def end(self, grace: float) -> None:
        """SIGTERM to its tree, `grace` seconds, SIGKILL, reap; or leave what the kernel delays.

        This is shielded. asyncio's own cancellation gets through a shield: then the program is
        killed at once, and the cancellation is raised when the program is reaped.

        Raises:
            PermissionError: we may not signal the program, or what is left of its tree.
        """
        try:
            with anyio.CancelScope(shield=True):
                await end_tree(self.program, grace)
            with anyio.move_on_after(KILL_DEADLINE, shield=True):
                await self.wait()
            self.program.reap_guardian()
        except BaseException as exc:
            kill_now(self.program)
            if isinstance(exc, anyio.get_cancelled_exc_class()):
                await self.end(0)
            raise


class Process(HasTerminal, AsyncHandle, anyio.abc.Process):
    """A running program, as an `anyio.abc.Process`.

    As everywhere in anyio, `async with` and `aclose` close the pipes and then wait for the program;
    if they are cancelled, they kill it. So a program may read the end of its input before it is
    killed, and take a part of the input for the whole. If that matters, call `kill()` first, or use
    `supervise` or `run_process`, which close nothing before the program is ended. If a terminal is
    closed, the program gets SIGHUP.
    """

    def __init__(self, running: Running) -> None:
        """Internal: `open_process` makes processes."""
        self._running = running
        self._program = running.program
        self._terminal = running.terminal
        self._on_trio = anyio.get_cancelled_exc_class() is not asyncio.CancelledError

    def _described(self) -> str:
        named = {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr}
        pipes = [f"{name}={stream!r}" for name, stream in named.items() if stream is not None]
        return " ".join([super()._described(), *pipes])

    @property
    def stdin(self) -> SendPipe | None:
        """The stream to the program; None unless it is PIPE or PTY."""
        return self._running.stdin

    @property
    def stdout(self) -> ReceivePipe | None:
        """The stream of the program's output, or None."""
        output = self._running.stdout
        return None if output is None else output.stream

    @property
    def stderr(self) -> ReceivePipe | None:
        """The stream of the program's stderr, or None."""
        output = self._running.stderr
        return None if output is None else output.stream

    @property
    def returncode(self) -> int | None:
        """None while the program runs; then its exit status, or minus the signal's number."""
        return self._running.poll()

    async def wait(self) -> int:
        """Wait until the program has exited, even if others still hold its pipes.

        Any number of tasks may wait. A cancelled wait leaves the program alone.

        If nobody reads a program's PIPE, the program stops when the pipe is full, and never exits.
        Receive from the pipe meanwhile, or use `run_process`.

        Returns:
            The return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
            RuntimeError: another event loop awaits it.
        """
        return await self._running.wait()

    def send_signal(self, signal: int) -> None:
        """Send a signal by pidfd, so never to another process that got the same pid.

        Raises:
            ProcessLookupError: the program has exited, and its exit is known. On trio nothing is
                raised, as with anyio's own processes.
            PermissionError: the program runs with ids that we may not signal (kill(2)).
        """
        try:
            super().send_signal(signal)
        except ProcessLookupError:
            if not self._on_trio:
                raise

    def terminate(self) -> None:
        """Send SIGTERM. Raises as `send_signal`."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises as `send_signal`."""
        self.send_signal(SIGKILL)

    def _close_pipes(self) -> None:
        self._running.close_pipes()

    async def aclose(self) -> None:
        """Close the pipes and wait for the exit. If cancelled, kill the program and reap it."""
        if not has_loop():  # a block is thrown away with its loop: nothing can be awaited
            kill_now(self._program)
            self._running.close_pipes()
            return
        self._running.close_pipes()
        try:
            await self.wait()
            self._program.reap_guardian()
        except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
            kill_now(self._program)
            raise
        except BaseException:
            await self._running.end(0)
            raise

    def __del__(self) -> None:
        """Warn if the program still runs. The program goes on, and a later start reaps it."""
        program: Program | None = getattr(self, "_program", None)
        if program is not None and not program.abandoned and program.advance() not in FINAL:
            message = f"subprocess {program.pid} is still running"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


async def _until_exited(program: Program, hub: Hub) -> None:
    patience = Patience()
    program.move_to(hub)  # another loop may have started it
    while (state := program.advance()) not in FINAL:
        if not program.has_exited():
            await news_of(program.native, hub)
        elif state != _native.ORPHANED:  # the guardian will tell the status very soon
            with anyio.move_on_after(_LOOK_AGAIN):
                await news_of(program.native, hub)
        elif patience.over:  # its guardian was killed, and its new parent does not reap it
            program.native.give_up_status()
        else:
            await anyio.sleep(patience.next())
    program.native.close()
    program.reap_guardian()


async def _until_started(program: Program, hub: Hub) -> None:
    """Wait for the exec. If cancelled, leave nothing behind.

    Raises:
        OSError: the start failed.
    """
    try:
        while program.advance() in (_native.STARTING, _native.DYING):
            # If its guardian was killed, look again: is there a program?
            with anyio.move_on_after(_LOOK_AGAIN) as look:
                await news_of(program.native, hub)
            if look.cancelled_caught:
                hub.native.look_again()  # somebody may have stopped the guardian
    except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
        kill_now(program)
        raise
    except BaseException:
        program.advance()  # the exec may have succeeded, and the program have started others
        # Usually this takes a millisecond. If the exec hangs, we do not wait for it.
        with anyio.move_on_after(1, shield=True):
            await end_tree(program, 0)
            await _until_exited(program, hub)
        program.reap_guardian()
        raise
    if program.advance() in (_native.FAILED, _native.FOREIGN):
        program.native.close()
        raise program.failure()


async def open_process(
    command: Command,
    *,
    stdin: Stdio = PIPE,
    stdout: Stdio = PIPE,
    stderr: Stdio = PIPE,
    startupinfo: Any = None,
    creationflags: int = 0,
    **options: Unpack[Options],
) -> Process:
    """Start a program that is invisible to the rest of the process; else as `anyio.open_process`.

    This works on asyncio, uvloop and trio. The loop is not blocked while the kernel execs the
    program.

    Args:
        command: a sequence or a path runs a program; a string or bytes is run by `/bin/sh -c`.
        stdin, stdout, stderr: PIPE (the default), PTY, DEVNULL, a descriptor, a file, or None to
            inherit; for stderr also STDOUT.
        startupinfo, creationflags: for Windows, in anyio; they must have their defaults.
        options: see `aiopidfd.Options`.

    Returns:
        The `Process`, once the exec has succeeded.

    Raises:
        OSError, TypeError, ValueError: as `aiopidfd.create_subprocess_exec`.
    """
    windows = (startupinfo, creationflags)
    request = make_anyio_request(open_process, command, (stdin, stdout, stderr), options, windows)
    running = None
    try:
        running = await start_process(request)
        return Process(running)
    except BaseException:
        if running is not None:  # a signal handler has raised it
            kill_now(running.program)
            running.close_pipes()
        raise


def make_anyio_request(
    function: Callable[..., object],
    command: Command,
    stdio: tuple[Stdio, Stdio, Stdio],
    options: Mapping[str, Any],
    windows: tuple[Any, int] = (None, 0),
) -> Request:
    """Make a request as anyio means it: a string or bytes is a command for the shell.

    A path is a program, as everywhere here. anyio passes that to the shell, too, where a space
    would split it. See `make_request`.

    `windows` is startupinfo and creationflags, which must have their defaults. Raises ValueError;
    and TypeError for a stream of ours, because its descriptor does not block, and programs expect
    that theirs do.
    """
    for name, choice in zip(("stdin", "stdout", "stderr"), stdio, strict=True):
        if isinstance(choice, (ReceivePipe, SendPipe)):
            raise TypeError(NO_STREAM.format(name=name, kind=type(choice).__name__))
    shell = is_shell_command(command)
    given: dict[str, Any] = {**options}
    if windows != (None, 0):
        given["startupinfo"], given["creationflags"] = windows
    return make_request(function, command, shell, stdio, given)


async def start_process(request: Request) -> Running:
    """Start a program on the running loop. Returns after the exec."""
    await checkpoint()
    hub = current_hub()
    descriptors = Descriptors()
    try:
        await hub.take_turn()
        try:
            program = start(request, descriptors, hub)
            await _until_started(program, hub)
        finally:
            hub.give_turn()
        running = _open_streams(program, descriptors)
        descriptors.close()
        return running
    except BaseException:
        descriptors.abort()
        raise


def _open_streams(program: Program, descriptors: Descriptors) -> Running:
    running = Running(program)
    try:
        if (fd := descriptors.hand_over_terminal()) is not None:
            running.terminal = Terminal(fd)

        def output(number: int) -> OutputPipe | None:
            if (fd := descriptors.hand_over(number)) is None:
                return None
            pipe = OutputPipe()
            if running.terminal is None or number not in descriptors.on_terminal:
                ReceivePipe(fd, pipe)
            else:
                ReceiveTerminal(fd, pipe, running.terminal)
            return pipe

        if (fd := descriptors.hand_over(0)) is not None:
            running.stdin = SendTerminal(fd) if 0 in descriptors.on_terminal else SendPipe(fd)
        running.stdout = output(1)
        running.stderr = output(2)
    except BaseException:
        program.abandon()  # first of all: the program must not read the end of file
        running.close_pipes()
        raise
    return running
