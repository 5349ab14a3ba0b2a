"""`open_process` and the `Process` that it returns: anyio's interface, with invisible programs."""

import asyncio
import os
import warnings
from signal import SIGKILL, SIGTERM
from subprocess import PIPE
from typing import Any, Final, Unpack

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from .. import _native
from ..child import FINAL, Child, start
from ..ending import end_tree
from ..exits import Patience
from ..handle import Handle
from ..hub import Hub, current_hub, news_of
from ..kernel import clone_call
from ..plan import Command, Options
from ..stdio import Descriptors, Stdio
from ..terminal import HasTerminal, Terminal
from ..tree import KILL_DEADLINE, kill_now
from .streams import ReceivePipe, SendPipe
from .terminal import ReceiveTerminal, SendTerminal

__all__ = ["Process", "end", "open_process"]

_LOOK_AGAIN: Final = 0.05  # seconds


class Process(HasTerminal, Handle, anyio.abc.Process):
    """A running program, as `anyio.abc.Process`.

    As everywhere in anyio, `async with` and `aclose` close the pipes and then wait for the program;
    cancelled, they kill it. Closing a terminal sends it SIGHUP.
    """

    def __init__(
        self,
        child: Child,
        stdin: SendPipe | None,
        stdout: ReceivePipe | None,
        stderr: ReceivePipe | None,
        terminal: Terminal | None = None,
    ) -> None:
        """Internal: `open_process` makes processes."""
        self._child = child
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._terminal = terminal
        self._waiting = anyio.Lock()
        self._on_trio = anyio.get_cancelled_exc_class() is not asyncio.CancelledError

    @property
    def stdin(self) -> SendPipe | None:
        """The stream to the program, or None unless PIPE or PTY was asked for."""
        return self._stdin

    @property
    def stdout(self) -> ReceivePipe | None:
        """The stream of what it writes, or None."""
        return self._stdout

    @property
    def stderr(self) -> ReceivePipe | None:
        """Likewise."""
        return self._stderr

    @property
    def returncode(self) -> int | None:
        """None while the program runs; then its exit status, or minus the signal's number."""
        code = self._child.poll()
        if code is not None and self._terminal is not None:
            self._terminal.close()
        return code

    async def wait(self) -> int:
        """Wait until the program has exited, whoever still holds its pipes.

        Any number of tasks may wait. A cancelled wait leaves the program alone.

        Returns:
            The return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        # A loop has one reader for a descriptor: one of us waits for it, the others for the lock.
        async with self._waiting:
            await _until_exited(self._child, current_hub())
        code = self.returncode
        if code is None:
            raise self._child.failure()
        return code

    def close_pipes(self) -> None:
        """Close our ends of them."""
        for stream in (self._stdin, self._stdout, self._stderr):
            if stream is not None:
                stream.close()
        if self._terminal is not None:
            self._terminal.close()

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

    def abandon(self) -> None:
        """SIGKILL to its tree, and no more: for where nothing can be awaited."""
        kill_now(self._child)

    async def aclose(self) -> None:
        """Close the pipes and wait for the exit. Cancelled, kill the program and reap it."""
        self.close_pipes()
        try:
            await self.wait()
            self._child.reap_guardian()
        except GeneratorExit:  # thrown away: nothing can be awaited any more
            kill_now(self._child)
            raise
        except BaseException:
            await end(self, 0)
            raise

    def __del__(self) -> None:
        """Warn if it still runs. It lives on, and a later spawn reaps it."""
        child: Child | None = getattr(self, "_child", None)
        if child is not None and not child.doomed and child.advance() not in FINAL:
            message = f"subprocess {child.pid} is still running"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


async def _until_exited(child: Child, hub: Hub) -> None:
    patience = Patience()
    hub.native.adopt(child.native)  # it may have been started on another loop
    while (state := child.advance()) not in FINAL:
        if not child.has_exited():
            await news_of(child.native, hub)
        elif state != _native.ORPHANED:  # the guardian is about to tell how
            with anyio.move_on_after(_LOOK_AGAIN):
                await news_of(child.native, hub)
        elif patience.over:  # its guardian was killed, and whoever adopted it does not reap it
            child.native.give_up_status()
        else:
            await anyio.sleep(patience.next())
    child.native.close()
    child.reap_guardian()


async def _until_started(child: Child, hub: Hub) -> None:
    """Wait for the exec. Cancelled, leave nothing.

    Raises:
        OSError: it failed.
    """
    try:
        while child.advance() in (_native.STARTING, _native.DYING):
            with anyio.move_on_after(
                _LOOK_AGAIN
            ):  # if its guardian was killed: is there a program?
                await news_of(child.native, hub)
    except GeneratorExit:  # thrown away: nothing can be awaited any more
        child.abandon()
        raise
    except BaseException:
        child.abandon()
        # The normal case takes a millisecond; an exec that hangs is left to itself.
        with anyio.move_on_after(1, shield=True):
            await _until_exited(child, hub)
        child.reap_guardian()
        raise
    if child.advance() in (_native.FAILED, _native.FOREIGN):
        child.native.close()
        raise child.failure()


async def end(process: Process, grace: float) -> None:
    """SIGTERM to its tree, `grace` seconds, SIGKILL, reap; or leave what the kernel holds.

    Shielded. asyncio's own cancellation comes through a shield: that kills at once, and is raised
    when the program is reaped.

    Raises:
        PermissionError: we may not signal the program, or what is left of its tree.
    """
    try:
        with anyio.CancelScope(shield=True):
            await end_tree(process._child, grace)  # noqa: SLF001
        with anyio.move_on_after(KILL_DEADLINE, shield=True):
            await process.wait()
        process._child.reap_guardian()  # noqa: SLF001
    except BaseException as exc:
        process.abandon()
        if isinstance(exc, anyio.get_cancelled_exc_class()):
            await end(process, 0)
        raise


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
        command: a sequence runs a program; a string, bytes or a path is run by `/bin/sh -c`.
        stdin, stdout, stderr: PIPE (the default), PTY, DEVNULL, STDOUT for stderr, a descriptor, a
            file, or None to inherit.
        startupinfo, creationflags: for Windows, in anyio; must be left alone.
        options: see `aiopidfd.Options`.

    Returns:
        The `Process`, once the program was exec'd.

    Raises:
        OSError, TypeError, ValueError: as `aiopidfd.create_subprocess_exec`.
    """
    await checkpoint()
    shell = isinstance(command, (str, bytes, os.PathLike))
    if isinstance(command, os.PathLike):
        command = os.fspath(command)
    clone_call()  # says what is missing here, before anything is opened
    hub = current_hub()
    with Descriptors() as descriptors:
        await hub.take_turn()
        try:
            child = start(
                command,
                shell=shell,
                descriptors=descriptors,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                startupinfo=startupinfo,
                creationflags=creationflags,
                hub=hub.native,
                **options,
            )
            await _until_started(child, hub)
        finally:
            hub.give_turn()
        terminal = None
        if (fd := descriptors.hand_over_terminal()) is not None:
            terminal = Terminal(fd)

        def output(number: int) -> ReceivePipe | None:
            if (fd := descriptors.hand_over(number)) is None:
                return None
            if terminal is None or number not in descriptors.on_terminal:
                return ReceivePipe(fd)
            return ReceiveTerminal(fd, terminal)

        stdin_pipe = None
        if (fd := descriptors.hand_over(0)) is not None:
            stdin_pipe = SendTerminal(fd) if 0 in descriptors.on_terminal else SendPipe(fd)
        return Process(child, stdin_pipe, output(1), output(2), terminal)
