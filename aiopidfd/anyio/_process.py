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
from .._pidfd.wait import Patience
from .._spawn.handle import AsyncHandle
from .._spawn.hub import Hub, current_hub, news_of
from .._spawn.kernel import clone_call
from .._spawn.options import Command, Options, Request, Stdio, make_request
from .._spawn.program import FINAL, Program
from .._spawn.shutdown import end_tree
from .._spawn.start import start
from .._spawn.stdio import NO_STREAM, Descriptors
from .._spawn.tree import KILL_DEADLINE, kill_now
from .._streams.terminal import HasTerminal, Terminal
from ._streams import ReceivePipe, SendPipe
from ._terminal import ReceiveTerminal, SendTerminal

__all__ = ["Process", "Running", "make_anyio_request", "open_process", "start_process"]

_LOOK_AGAIN: Final = 0.05  # seconds


class Running:
    """A program that was started, and its streams: what a `Process` has inside."""

    def __init__(self, program: Program) -> None:
        """It has no streams yet. Those that it gets are its own."""
        self.program = program
        self.stdin: SendPipe | None = None
        self.stdout: ReceivePipe | None = None
        self.stderr: ReceivePipe | None = None
        self.terminal: Terminal | None = None
        self._waiting = anyio.Lock()

    def poll(self) -> int | None:
        """The return code if it is known by now, else None."""
        code = self.program.poll()
        if code is not None and self.terminal is not None:
            self.terminal.close()
        return code

    async def wait(self) -> int:
        """Wait for the exit; the return code. See `Process.wait`."""
        # One of us listens to the hub, the others wait for the lock.
        async with self._waiting:
            await _until_exited(self.program, current_hub())
        code = self.poll()
        if code is None:
            raise self.program.failure()
        return code

    def close_pipes(self) -> None:
        """Close our ends of them."""
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
        """SIGTERM to its tree, `grace` seconds, SIGKILL, reap; or leave what the kernel holds.

        Shielded. asyncio's own cancellation comes through a shield: that kills at once, and is
        raised when the program is reaped.

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
    """A running program, as `anyio.abc.Process`.

    As everywhere in anyio, `async with` and `aclose` close the pipes and then wait for the program;
    cancelled, they kill it. So a program that is cancelled may read the end of its input before it
    is killed, and take a part for the whole. Where that matters call `kill()` first, or use
    `supervise` or `run_process`, which close nothing before the program is ended. Closing a
    terminal sends it SIGHUP.
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
        """The stream to the program, or None unless PIPE or PTY was asked for."""
        return self._running.stdin

    @property
    def stdout(self) -> ReceivePipe | None:
        """The stream of what it writes, or None."""
        return self._running.stdout

    @property
    def stderr(self) -> ReceivePipe | None:
        """Likewise."""
        return self._running.stderr

    @property
    def returncode(self) -> int | None:
        """None while the program runs; then its exit status, or minus the signal's number."""
        return self._running.poll()

    async def wait(self) -> int:
        """Wait until the program has exited, whoever still holds its pipes.

        Any number of tasks may wait. A cancelled wait leaves the program alone.

        A program whose PIPE nobody reads stops when that is full, and never exits: receive it
        meanwhile, or use `run_process`.

        Returns:
            The return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        return await self._running.wait()

    def send_signal(self, signal: int) -> None:
        """Send a signal, by pidfd: never to another process that got the same pid.

        Raises:
            ProcessLookupError: the program has exited and that is known. Not on trio, where that is
                silent, as of anyio's own processes.
            PermissionError: it runs with ids that we may not signal (kill(2)).
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

    async def aclose(self) -> None:
        """Close the pipes and wait for the exit. Cancelled, kill the program and reap it."""
        self._running.close_pipes()
        try:
            await self.wait()
            self._program.reap_guardian()
        except GeneratorExit:  # thrown away: nothing can be awaited any more
            kill_now(self._program)
            raise
        except BaseException:
            await self._running.end(0)
            raise

    def __del__(self) -> None:
        """Warn if it still runs. It lives on, and a later spawn reaps it."""
        program: Program | None = getattr(self, "_program", None)
        if program is not None and not program.abandoned and program.advance() not in FINAL:
            message = f"subprocess {program.pid} is still running"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


async def _until_exited(program: Program, hub: Hub) -> None:
    patience = Patience()
    program.move_to(hub)  # it may have been started on another loop
    while (state := program.advance()) not in FINAL:
        if not program.has_exited():
            await news_of(program.native, hub)
        elif state != _native.ORPHANED:  # the guardian is about to tell how
            with anyio.move_on_after(_LOOK_AGAIN):
                await news_of(program.native, hub)
        elif patience.over:  # its guardian was killed, and whoever adopted it does not reap it
            program.native.give_up_status()
        else:
            await anyio.sleep(patience.next())
    program.native.close()
    program.reap_guardian()


async def _until_started(program: Program, hub: Hub) -> None:
    """Wait for the exec. Cancelled, leave nothing.

    Raises:
        OSError: it failed.
    """
    try:
        while program.advance() in (_native.STARTING, _native.DYING):
            # If its guardian was killed: is there a program?
            with anyio.move_on_after(_LOOK_AGAIN):
                await news_of(program.native, hub)
    except GeneratorExit:  # thrown away: nothing can be awaited any more
        program.abandon()
        raise
    except BaseException:
        program.abandon()
        # The normal case takes a millisecond; an exec that hangs is left to itself.
        with anyio.move_on_after(1, shield=True):
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
    """Start a program, invisible to the rest of the process; `anyio.open_process` otherwise.

    On asyncio, uvloop and trio. The loop is not blocked while the kernel execs the program.

    Args:
        command: a sequence or a path runs a program; a string or bytes is run by `/bin/sh -c`.
        stdin, stdout, stderr: PIPE (the default), PTY, DEVNULL, STDOUT for stderr, a descriptor, a
            file, or None to inherit.
        startupinfo, creationflags: for Windows, in anyio; must be left alone.
        options: see `aiopidfd.Options`.

    Returns:
        The `Process`, once the program was exec'd.

    Raises:
        OSError, TypeError, ValueError: as `aiopidfd.create_subprocess_exec`.
    """
    windows = (startupinfo, creationflags)
    request = make_anyio_request(open_process, command, (stdin, stdout, stderr), options, windows)
    return Process(await start_process(request))


def make_anyio_request(
    function: Callable[..., object],
    command: Command,
    stdio: tuple[Stdio, Stdio, Stdio],
    options: Mapping[str, Any],
    windows: tuple[Any, int] = (None, 0),
) -> Request:
    """As anyio has it: a string or bytes is a command for the shell. See `make_request`.

    A path is a program, as everywhere here: anyio hands that to the shell as well, where a space
    would split it.

    `windows` is startupinfo and creationflags, which must be left alone. Raises ValueError; and
    TypeError for a stream of ours, whose descriptor does not block, as programs expect of theirs.
    """
    for name, choice in zip(("stdin", "stdout", "stderr"), stdio, strict=True):
        if isinstance(choice, (ReceivePipe, SendPipe)):
            raise TypeError(NO_STREAM.format(name=name, kind=type(choice).__name__))
    shell = isinstance(command, (str, bytes))
    given: dict[str, Any] = {**options}
    if windows != (None, 0):
        given["startupinfo"], given["creationflags"] = windows
    return make_request(function, command, shell, stdio, given)


async def start_process(request: Request) -> Running:
    """Start a program, on the loop that runs; returns once it was exec'd."""
    await checkpoint()
    clone_call()  # says what is missing here, before anything is opened
    hub = current_hub()
    with Descriptors() as descriptors:
        await hub.take_turn()
        try:
            program = start(request, descriptors, hub)
            await _until_started(program, hub)
        finally:
            hub.give_turn()
        return _open_streams(program, descriptors)


def _open_streams(program: Program, descriptors: Descriptors) -> Running:
    running = Running(program)
    try:
        if (fd := descriptors.hand_over_terminal()) is not None:
            running.terminal = Terminal(fd)

        def output(number: int) -> ReceivePipe | None:
            if (fd := descriptors.hand_over(number)) is None:
                return None
            if running.terminal is None or number not in descriptors.on_terminal:
                return ReceivePipe(fd)
            return ReceiveTerminal(fd, running.terminal)

        if (fd := descriptors.hand_over(0)) is not None:
            running.stdin = SendTerminal(fd) if 0 in descriptors.on_terminal else SendPipe(fd)
        running.stdout = output(1)
        running.stderr = output(2)
    except BaseException:
        program.abandon()  # first: it must not read the end of file
        running.close_pipes()
        raise
    return running
