"""`run_process`: a program from start to end, with its output, on any of anyio's backends."""

import io
from subprocess import PIPE, CalledProcessError, CompletedProcess
from typing import Any, Unpack

import anyio.abc

from .._asyncio.process import DRAIN, GRACE, check_bytes
from .._pidfd.durations import check_seconds
from .._spawn.options import Command, Options, Stdio
from .._spawn.terminal import PTY
from ._process import Process, make_anyio_request, start_process
from ._sinks import Pump, make_decoder
from ._streams import ReceivePipe
from ._supervise import attend

__all__ = ["run_process"]


async def run_process(
    command: Command,
    *,
    input: bytes | None = None,
    stdin: Stdio = None,
    stdout: Stdio = PIPE,
    stderr: Stdio = PIPE,
    check: bool = True,
    startupinfo: Any = None,
    creationflags: int = 0,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    **options: Unpack[Options],
) -> CompletedProcess[bytes]:
    """Run a program to its end; `anyio.run_process` otherwise.

    Cancelled, it sends SIGTERM to the program and to all that it has started, waits `grace`
    seconds, sends SIGKILL and reaps the program before it goes on. It never
    waits for ever because a grandchild holds a pipe.

    Args:
        command: a sequence or a path runs a program; a string or bytes is run by `/bin/sh -c`.
        input: for its stdin, which is a pipe then unless it is PTY.
        stdin, stdout, stderr: as `open_process`; the outputs are captured by default.
        check: raise CalledProcessError if the return code is not 0.
        startupinfo, creationflags: for Windows, in anyio; must be left alone.
        grace: seconds between SIGTERM and SIGKILL.
        drain: seconds to read on after the exit while something else holds the pipes; None: until
            they close.
        options: see `aiopidfd.Options`.

    Returns:
        `subprocess.CompletedProcess` with the output that was captured.

    Raises:
        subprocess.CalledProcessError: with the output.
        OSError, TypeError, ValueError: as `open_process`.
    """
    check_seconds(grace=grace, drain=drain)
    if input is not None:
        check_bytes(input)
        if stdin not in (None, PTY):
            raise ValueError("only one of stdin and input is allowed")
    stdin = PIPE if stdin is None and input is not None else stdin
    windows = (startupinfo, creationflags)
    request = make_anyio_request(run_process, command, (stdin, stdout, stderr), options, windows)
    running = await start_process(request)
    async with Process(running):
        captures = [_Capture(pipe) for pipe in (running.stdout, running.stderr)]
        pumps = [capture.pump for capture in captures if capture.pump is not None]
        await attend(running, input, pumps, grace, drain)
        code = await running.wait()
    out, err = (capture.data for capture in captures)
    if check and code:
        raise CalledProcessError(code, command, out, err)
    return CompletedProcess(command, code, out, err)


class _Capture(anyio.abc.ByteSendStream):
    """A sink that keeps all it gets."""

    def __init__(self, pipe: ReceivePipe | None) -> None:
        self._buffer = io.BytesIO()
        self.pump = None if pipe is None else Pump(pipe, self, make_decoder(self, None, None))

    @property
    def data(self) -> bytes | None:
        """All of it; None if there is no pipe."""
        return None if self.pump is None else self._buffer.getvalue()

    async def send(self, item: bytes) -> None:
        self._buffer.write(item)

    async def aclose(self) -> None:
        """Nothing to do."""
