"""`run_process`: run a program from start to end, with its output, on any backend of anyio."""

from subprocess import PIPE, CompletedProcess
from typing import Any, Unpack, overload

import anyio

from .._asyncio.attend import DRAIN
from .._asyncio.process import GRACE
from .._pidfd.durations import check_seconds
from .._spawn.capture import BoundedProcess, OnLimit, check_limit
from .._spawn.encoding import check_bytes
from .._spawn.options import Command, Options, OutputChoice, Stdio
from .._spawn.outputs import OnOutput, Outputs, read_choices
from .._spawn.sinks import listen
from .._spawn.terminal import PTY
from ._process import Process, make_anyio_request, start_process
from ._sinks import OutputStream, make_pumps, stream_sink
from ._supervise import attend

__all__ = ["run_process"]


class RunOptions(Options, total=False):
    """What `run_process` takes beside its limit. See there. A type only."""

    input: bytes | None
    stdin: Stdio
    stdout: OutputChoice | OutputStream
    stderr: OutputChoice | OutputStream
    on_output: OnOutput | None
    check: bool
    idle_timeout: float | None
    startupinfo: Any
    creationflags: int
    grace: float
    drain: float | None


@overload
async def run_process(
    command: Command,
    *,
    output_limit: int,
    on_limit: OnLimit = ...,
    **options: Unpack[RunOptions],
) -> BoundedProcess[bytes]: ...
@overload
async def run_process(
    command: Command,
    *,
    input: bytes | None = ...,
    stdin: Stdio = ...,
    stdout: OutputChoice | OutputStream = ...,
    stderr: OutputChoice | OutputStream = ...,
    on_output: OnOutput | None = ...,
    output_limit: int | None = ...,
    on_limit: OnLimit = ...,
    check: bool = ...,
    idle_timeout: float | None = ...,
    startupinfo: Any = ...,
    creationflags: int = ...,
    grace: float = ...,
    drain: float | None = ...,
    **options: Unpack[Options],
) -> CompletedProcess[bytes]: ...
async def run_process(
    command: Command,
    *,
    input: bytes | None = None,
    stdin: Stdio = None,
    stdout: OutputChoice | OutputStream = PIPE,
    stderr: OutputChoice | OutputStream = PIPE,
    on_output: OnOutput | None = None,
    output_limit: int | None = None,
    on_limit: OnLimit = "raise",
    check: bool = True,
    idle_timeout: float | None = None,
    startupinfo: Any = None,
    creationflags: int = 0,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    **options: Any,
) -> CompletedProcess[bytes]:
    """Run a program to its end; else as `anyio.run_process`.

    If the call is cancelled, it sends SIGTERM to the program and to all that it has started, waits
    `grace` seconds, sends SIGKILL and reaps the program before it goes on. A grandchild that
    holds a pipe cannot make it wait for ever.

    Args:
        command: a sequence or a path runs a program; a string or bytes is run by `/bin/sh -c`.
        input: sent to the program's stdin, which is then a pipe, unless it is PTY.
        stdin: as in `open_process`.
        stdout, stderr: as in `open_process`; captured by default. Or a function or a stream, as in
            `supervise`. Or a list of these, of files, and of PIPE (or PTY) to capture the output as
            well.
        on_output: as in `supervise`.
        output_limit: how many bytes of each output are captured; None for no limit.
        on_limit: what is done at the limit. "raise": the program is ended, and OutputLimitError is
            raised. "head", "tail": it runs on, and the first or the last bytes are kept.
        check: raise CalledProcessError if the return code is not 0.
        idle_timeout: how many seconds may pass in which the program writes nothing to the outputs
            that come to us.
        startupinfo, creationflags: for Windows, in anyio; they must have their defaults.
        grace: seconds between SIGTERM and SIGKILL.
        drain: seconds to read on after the exit while something else holds the pipes. None: until
            the pipes close.
        options: see `aiopidfd.Options`.

    Returns:
        A `subprocess.CompletedProcess` with the output that was captured. With `output_limit` it is
        a `BoundedProcess`, which tells how many bytes were not kept.

    Raises:
        subprocess.CalledProcessError: with the output.
        IdleTimeoutError: a subprocess.TimeoutExpired; `idle_timeout` has passed.
        OutputLimitError: see `on_limit`.
        Exception: what a function or a stream for an output raised; the program was ended.
        ExceptionGroup: several of these errors.
        OSError, TypeError, ValueError: as `open_process`.
    """
    check_seconds(grace=grace, drain=drain, idle_timeout=idle_timeout)
    check_limit(output_limit, on_limit)
    if input is not None:
        check_bytes(input)
        if stdin not in (None, PTY):
            raise ValueError("only one of stdin and input is allowed")
    stdin = PIPE if stdin is None and input is not None else stdin
    choices = read_choices(stdout, stderr, on_output, (None, None), stream_sink, capturing=True)
    outputs = Outputs(command, choices, output_limit, on_limit, shared=on_output is not None)
    outputs.check_idle(idle_timeout)
    stdio = (stdin, choices[0].stdio, choices[1].stdio)
    windows = (startupinfo, creationflags)
    request = make_anyio_request(run_process, command, stdio, options, windows)
    try:
        running = await start_process(request)
        async with Process(running):
            silence = listen(command, idle_timeout, anyio.current_time)
            pumps = make_pumps(running.stdout, running.stderr, outputs, silence)
            await attend([running], input, pumps, grace, drain, silence)
            code = await running.wait()
    except BaseException as exc:
        if not isinstance(exc, GeneratorExit):  # closed: nothing can be awaited any more
            await outputs.abort()
        outputs.tell(exc)
        raise
    result: CompletedProcess[bytes]
    if output_limit is None:
        result = CompletedProcess(command, code, *outputs.values())
    else:
        result = BoundedProcess(command, code, *outputs.values(), *outputs.dropped())
    if check:
        result.check_returncode()
    return result
