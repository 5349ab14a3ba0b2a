"""`run_process`: run a program from start to end, with its output, on any backend of anyio."""

from subprocess import PIPE, CompletedProcess
from typing import Any, Literal, Unpack, overload

import anyio

from .._asyncio.process import GRACE
from .._spawn.choose_sinks import OnOutput
from .._spawn.encoding import read_text
from .._spawn.failures import denied_once
from .._spawn.idle_timeout import listen
from .._spawn.options import Command, Options, OutputChoice, Stdio
from .._spawn.output_limit import BoundedProcess, OnLimit
from .._spawn.run_arguments import DRAIN, read_call
from .._spawn.tree import kill_now
from ._carry_to_sinks import carry_output
from ._end_several import end_all
from ._process import ONE_INPUT, make_anyio_request, start_process
from ._pumps import make_pumps
from ._stream_sink import OutputStream, stream_sink

__all__ = ["run_process"]


class RunOptions(Options, total=False):
    """What `run_process` takes beside its input, its limit and the text. A type only."""

    stdin: Stdio
    stdout: OutputChoice | OutputStream
    stderr: OutputChoice | OutputStream
    on_output: OnOutput | None
    check: bool
    timeout: float | None
    idle_timeout: float | None
    startupinfo: Any
    creationflags: int
    grace: float
    drain: float | None


@overload
async def run_process(
    command: Command,
    *,
    input: bytes | None = ...,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[RunOptions],
) -> CompletedProcess[bytes]: ...
@overload
async def run_process(
    command: Command,
    *,
    text: Literal[True],
    input: str | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    encoding: str,
    input: str | None = ...,
    text: bool | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    errors: str,
    input: str | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    **options: Unpack[RunOptions],
) -> CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    output_limit: int,
    on_limit: OnLimit = ...,
    input: bytes | None = ...,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[RunOptions],
) -> BoundedProcess[bytes]: ...
@overload
async def run_process(
    command: Command,
    *,
    output_limit: int,
    on_limit: OnLimit = ...,
    input: bytes | str | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> BoundedProcess[Any]: ...
@overload
async def run_process(
    command: Command,
    *,
    output_limit: int | None = ...,
    on_limit: OnLimit = ...,
    input: bytes | str | None = ...,
    stdin: Stdio = ...,
    stdout: OutputChoice | OutputStream = ...,
    stderr: OutputChoice | OutputStream = ...,
    on_output: OnOutput | None = ...,
    check: bool = ...,
    timeout: float | None = ...,
    idle_timeout: float | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    startupinfo: Any = ...,
    creationflags: int = ...,
    grace: float = ...,
    drain: float | None = ...,
    **options: Unpack[Options],
) -> CompletedProcess[Any]: ...
async def run_process(
    command: Command,
    *,
    input: bytes | str | None = None,
    stdin: Stdio = None,
    stdout: OutputChoice | OutputStream = PIPE,
    stderr: OutputChoice | OutputStream = PIPE,
    on_output: OnOutput | None = None,
    output_limit: int | None = None,
    on_limit: OnLimit = "raise",
    check: bool = True,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    startupinfo: Any = None,
    creationflags: int = 0,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    **options: Any,
) -> CompletedProcess[Any]:
    """Run a program to its end; else as `anyio.run_process`.

    On timeout, or if the call is cancelled, it sends SIGTERM to the program and to all that it has
    started, waits `grace` seconds, sends SIGKILL and reaps the program before it goes on. A
    grandchild that holds a pipe cannot make it wait for ever.

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
        timeout: seconds from the call on; None for no limit.
        idle_timeout: how many seconds may pass in which the program writes nothing to the outputs
            that come to us.
        text, encoding, errors: any of them makes input and output str.
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
        subprocess.TimeoutExpired: with what was read so far, always as bytes.
        IdleTimeoutError: a TimeoutExpired; `idle_timeout` has passed.
        OutputLimitError: see `on_limit`.
        Exception: what a function or a stream for an output raised; the program was ended.
        ExceptionGroup: several of these errors.
        OSError, TypeError, ValueError: as `open_process`.
    """
    call = read_call(
        command,
        (stdin, stdout, stderr),
        input,
        read_text(text, encoding, errors, options.pop("universal_newlines", None)),
        stream_sink,
        capturing=True,
        check=check,
        on_output=on_output,
        output_limit=output_limit,
        on_limit=on_limit,
        idle_timeout=idle_timeout,
        both=ONE_INPUT,
        timeout=timeout,
        grace=grace,
        drain=drain,
    )
    outputs = call.outputs
    windows = (startupinfo, creationflags)
    request = make_anyio_request(run_process, command, call.stdio, options, windows)
    try:
        with anyio.move_on_after(timeout) as scope:
            running = await start_process(request)
            try:
                silence = listen(command, idle_timeout, anyio.current_time)
                pumps = make_pumps(running.stdout, running.stderr, outputs, silence)
                await carry_output([running], call.input, pumps, grace, drain, silence, scope)
            except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
                kill_now(running.program)
                raise
            except BaseException as exc:
                with denied_once(exc):
                    await end_all([running], grace)
                raise
            finally:
                running.close_pipes()
        if scope.cancelled_caught:
            raise outputs.expired(timeout)
        code = await running.wait()
    except BaseException as exc:
        if not isinstance(exc, GeneratorExit):  # closed: nothing can be awaited any more
            await outputs.abort()
        outputs.tell(exc)
        raise
    return outputs.completed(code, *outputs.result(), check)
