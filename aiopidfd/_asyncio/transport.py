"""An `asyncio.SubprocessTransport` on an invisible program, for any protocol and on any loop."""

import asyncio
import contextlib
import contextvars
import errno
import functools
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from signal import SIGKILL, SIGTERM
from typing import Any

from .._pidfd.not_copyable import Lent, Owner
from .._spawn.options import Request, StrOrBytesPath
from .._spawn.program import Program
from .._spawn.stdio_and_pass_fds import Descriptors
from .._streams.pipe_transports import ReadPipe, WritePipe
from .._streams.terminal import Terminal, TerminalReader, TerminalWriter
from .exit_on_loop import Watch
from .start_on_loop import start_on_loop

__all__ = ["PopenView", "SubprocessTransport", "connect"]


class PopenView(Owner):
    """A running program as a `subprocess.Popen` would show it: the transport's "subprocess".

    It has no streams, because the transport has them.
    """

    stdin = stdout = stderr = None

    def __init__(self, program: Program) -> None:
        """Internal: `SubprocessTransport.get_extra_info("subprocess")` returns one."""
        self._program = program
        self.pid: int = program.pid

    def __repr__(self) -> str:
        """The return code and the command, as in Popen's repr."""
        return f"<{type(self).__name__}: returncode: {self.returncode} args: {self.args!r}>"

    @property
    def args(self) -> Sequence[StrOrBytesPath]:
        """The command line as it was given."""
        return self._program.args

    @property
    def returncode(self) -> int | None:
        """The return code, or None as long as the exit is not known."""
        return self._program.returncode

    def poll(self) -> int | None:
        """Look whether the program has exited; returns `returncode`. The transport is told, too."""
        return self._program.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Block until the exit. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        self._program.block(timeout)
        return self._program.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal by pidfd. As with Popen, nothing happens if the program has exited."""
        with contextlib.suppress(ProcessLookupError):
            self._program.send_signal(sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            self._program.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._program.kill()


class SubprocessTransport(Owner, asyncio.SubprocessTransport):
    """Connects a protocol with a program, and calls the protocol in asyncio's order.

    First it calls `connection_made`. Then it calls `pipe_data_received`, `pipe_connection_lost` for
    each pipe, and `process_exited`, as these events come. After all of them it calls
    `connection_lost`.

    If the transport is dropped while the program runs on a closed loop, it warns (ResourceWarning)
    and leaves the program alone. It never calls a loop that it may not call.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        watch: Watch,
        descriptors: Descriptors,
    ) -> None:
        """Internal: `connect` makes transports. The transport takes over our ends of the pipes.

        If this fails, the pipes are closed and the program is killed.
        """
        super().__init__()
        self._loop = loop
        self._protocol: Any = protocol
        self._watch = watch
        self._popen = PopenView(watch.program)
        self._finished = False
        self._told_exit = False
        self._pipes: dict[int, ReadPipe | WritePipe] = {}
        self._connected: set[int] = set()
        self._terminal: Terminal | None = None
        self._closed = False  # from now on a repr tells something
        try:
            if (fd := descriptors.hand_over_terminal()) is not None:
                self._terminal = Terminal(fd)
            for number in range(3):
                if (fd := descriptors.hand_over(number)) is not None:
                    self._pipes[number] = self._open_pipe(number, fd, descriptors)
                    self._connected.add(number)
            if self._terminal is not None and not descriptors.reads_terminal:
                self._terminal.drop_output(loop, descriptors.watches.pop())
            # This comes before the pipes can deliver anything: some loops look at the pipes before
            # they call what was given to call_soon().
            self._tell("connection_made", self)
            # Not at once: a protocol may run the loop until other programs have exited, too.
            context = contextvars.copy_context()  # the hub has none
            watch.on_exit(functools.partial(loop.call_soon, self._on_exit, context=context))
        except BaseException:
            self._closed = True
            watch.program.abandon()  # first of all: the program must not read the end of file
            self._close_pipes()
            raise

    def __repr__(self) -> str:
        """The pid, the state, and the pipes."""
        code = self.get_returncode()
        state = ["closed"] if self._closed else []
        state.append(f"pid={self._popen.pid}")
        state.append("running" if code is None else f"returncode={code}")
        names = ("stdin", "stdout", "stderr")
        state += [f"{names[number]}={pipe!r}" for number, pipe in self._pipes.items()]
        return f"<{type(self).__name__} {' '.join(state)}>"

    def get_pid(self) -> int:
        """The program's process id."""
        return self._popen.pid

    def get_returncode(self) -> int | None:
        """None until the loop knows of the exit; after that as `Process.returncode`."""
        return self._watch.program.returncode if self._watch.over else None

    def handle(self) -> AbstractContextManager[int]:
        """A pidfd of the program that is valid for the block. See `Process.handle`."""
        return Lent(self, "handle", self._watch.program.handle)

    def get_pipe_transport(self, fd: int) -> ReadPipe | WritePipe | None:
        """The transport of stdin (0), stdout (1) or stderr (2), or None if that is not a pipe."""
        return self._pipes.get(fd)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """For "subprocess" a `PopenView`; for "terminal" a `Terminal`, if there is one.

        The `Terminal` has `window_size` and `set_window_size`. For other names the default.
        """
        if name == "terminal":
            return default if self._terminal is None else self._terminal
        return self._popen if name == "subprocess" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Use another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol in use; None after its `connection_lost`."""
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def send_signal(self, signal: int) -> None:
        """Send a signal, by pidfd.

        Raises:
            ProcessLookupError: the program has exited, and its exit is known.
            PermissionError: the program runs with ids that we may not signal (kill(2)).
        """
        if self.get_returncode() is not None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        self._popen.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM. Raises as `send_signal`."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises as `send_signal`."""
        self.send_signal(SIGKILL)

    def close(self) -> None:
        """Kill the program if it runs, and close the pipes. The program is still reaped."""
        if self._closed:
            return
        self._closed = True
        # The kill comes first: the program must not read the end of file, and take half of its
        # input for the whole. It goes through the view, so that tools which instrument asyncio's
        # Popen see it too.
        if self._popen.poll() is None and self._watch.alive:
            with contextlib.suppress(PermissionError):  # it has other ids: it is left alone
                self._popen.kill()
        self._close_pipes()

    async def _wait(self) -> int:
        """Wait for the exit, whoever holds the pipes. asyncio.subprocess.Process calls this."""
        return await self._watch.returncode()

    def _open_pipe(self, number: int, fd: int, descriptors: Descriptors) -> ReadPipe | WritePipe:
        protocol = _PipeProtocol(number, self._tell, self._on_pipe_lost)
        if self._terminal is not None and number in descriptors.on_terminal:
            if number == 0:
                return TerminalWriter(self._loop, fd, protocol, descriptors.watches.pop())
            return TerminalReader(self._loop, fd, protocol, self._terminal)
        if number == 0:
            return WritePipe(self._loop, fd, protocol)
        return ReadPipe(self._loop, fd, protocol)

    def _close_pipes(self) -> None:
        for pipe in self._pipes.values():
            if isinstance(pipe, TerminalWriter):
                pipe.abort()  # the hang-up comes now, without an end of file before it
            else:
                pipe.close()
        if self._terminal is not None:
            self._terminal.close()

    def _on_exit(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
        try:
            # None: a forked copy, not our program. Told: this was interrupted, and is called again.
            if self.get_returncode() is not None and not self._told_exit:
                self._told_exit = True
                self._tell("process_exited")
        finally:  # although the protocol may have raised SystemExit
            self._finish_if_done()

    def _on_pipe_lost(self, number: int, exc: Exception | None) -> None:
        self._connected.discard(number)
        self._tell("pipe_connection_lost", number, exc)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._watch.over and not self._connected and not self._finished:
            self._finished = True
            self._loop.call_soon(self._lose_connection)

    def _lose_connection(self) -> None:
        self._tell("connection_lost", None)
        self._protocol = None

    def _tell(self, event: str, *args: object) -> None:
        """Call the protocol. The loop reports its errors, and they do no harm here."""
        try:
            getattr(self._protocol, event)(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler(
                {
                    "message": f"{type(self._protocol).__name__}.{event}() failed",
                    "exception": exc,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._finished:
            message = f"unclosed transport {self!r}"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


class _PipeProtocol(asyncio.Protocol):
    """Passes on the events of one pipe, with the pipe's number."""

    def __init__(
        self,
        number: int,
        tell: Callable[..., None],
        on_lost: Callable[[int, Exception | None], None],
    ) -> None:
        self._number = number
        self._tell = tell
        self._on_lost = on_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self._tell("pipe_data_received", self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(self._number, exc)

    def pause_writing(self) -> None:
        self._tell("pause_writing")

    def resume_writing(self) -> None:
        self._tell("resume_writing")


async def connect(
    loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, request: Request
) -> SubprocessTransport:
    """Start a program and connect `protocol` to it, on `loop`, which must be the running loop.

    Raises as `create_subprocess_exec`. A cancelled call leaves no program behind.
    """
    descriptors = Descriptors()
    try:
        watch = await start_on_loop(request, descriptors)
        transport = SubprocessTransport(loop, protocol, watch, descriptors)
        descriptors.close()
        return transport
    except BaseException:
        descriptors.abort()
        raise
