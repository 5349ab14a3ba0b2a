"""`run_process`: run a command to its end and return its output."""

import asyncio
import contextlib
import subprocess
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from .._spawn.choose_sinks import OnOutput
from .._spawn.command import is_shell_command
from .._spawn.encoding import decode_output, read_text
from .._spawn.failures import denied_once
from .._spawn.idle_timeout import listen
from .._spawn.options import (
    Command,
    Options,
    OutputChoice,
    RunOptions,
    Stdio,
    make_request,
)
from .._spawn.output_limit import BoundedProcess, OnLimit
from .._spawn.run_arguments import DRAIN, read_call
from .._spawn.tree import kill_now
from .carry_to_sinks import carry_output
from .communicate import communicate, gather, send_input
from .end_although_cancelled import end
from .process import GRACE, start_process
from .process_streams import NO_STREAMS, Streams
from .pumps import make_pumps
from .start_on_loop import running_loop
from .stream_sink import stream_sink

if TYPE_CHECKING:
    from .exit_on_loop import Watch

__all__ = ["run_process"]


@overload
async def run_process(
    command: Command,
    *,
    input: bytes | None = ...,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[bytes]: ...
@overload
async def run_process(
    command: Command,
    *,
    text: Literal[True],
    input: str | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    encoding: str,
    input: str | None = ...,
    text: bool | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    errors: str,
    input: str | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[str]: ...
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
    stdout: OutputChoice = ...,
    stderr: OutputChoice = ...,
    on_output: OnOutput | None = ...,
    check: bool = ...,
    timeout: float | None = ...,
    idle_timeout: float | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    shell: bool | None = ...,
    grace: float = ...,
    drain: float | None = ...,
    **options: Unpack[Options],
) -> subprocess.CompletedProcess[Any]: ...
async def run_process(
    command: Command,
    *,
    input: bytes | str | None = None,
    stdin: Stdio = None,
    stdout: OutputChoice = subprocess.PIPE,
    stderr: OutputChoice = subprocess.PIPE,
    on_output: OnOutput | None = None,
    output_limit: int | None = None,
    on_limit: OnLimit = "raise",
    check: bool = True,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    shell: bool | None = None,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end, on the running loop.

    On timeout or cancellation the program, and all that it has started, gets SIGTERM, `grace`
    seconds, SIGKILL, and is reaped before this raises. A second cancellation kills at once. A
    grandchild that holds a pipe cannot make this wait for ever.

    Args:
        command: a sequence runs a program; a string is run by `/bin/sh -c`.
        input: sent to stdin, which is then a pipe, unless it is PTY.
        stdin: as in `create_subprocess_exec`.
        stdout, stderr: as in `create_subprocess_exec`; captured by default. Or a function, which is
            called with each line, without its line end, and awaited if it is asynchronous. Or an
            `asyncio.StreamWriter`, which gets chunks as they come and is closed at the end. Or a
            list of these, of files, and of PIPE (or PTY) to capture the output as well:
            `[PIPE, sys.stdout]`. A slow sink makes the program wait. A sink that raises ends it.
        on_output: a function that is called with "stdout" or "stderr" and one line of that output,
            in the order of arrival. The outputs still go to their other sinks, too.
        output_limit: how many bytes of each output are captured; None for no limit.
        on_limit: what is done at the limit. "raise": the program is ended, and OutputLimitError is
            raised. "head", "tail": it runs on, and the first or the last bytes are kept.
        check: raise CalledProcessError when the return code is not 0.
        timeout: seconds from the call on; None for no limit.
        idle_timeout: how many seconds may pass in which the program writes nothing to the outputs
            that come to us.
        text, encoding, errors: any of them makes input and output str.
        shell: say yourself whether a shell runs the command, as with `subprocess.run`.
        grace: seconds between SIGTERM and SIGKILL.
        drain: seconds to read on after the exit while something else holds the pipes. None: until
            the pipes close.
        options: see `aiopidfd.Options`.

    Returns:
        A `subprocess.CompletedProcess` with the output that was captured. With `output_limit` it is
        a `BoundedProcess`, which tells how many bytes were not kept.

    Raises:
        subprocess.CalledProcessError: with the output.
        subprocess.TimeoutExpired: with what was read so far, always as bytes, as in subprocess.
        IdleTimeoutError: a TimeoutExpired; `idle_timeout` has passed.
        OutputLimitError: see `on_limit`.
        Exception: what a function or a stream for an output raised; the program was ended.
        ExceptionGroup: several of these errors.
        OSError, TypeError, ValueError: as `create_subprocess_exec`.
        RuntimeError: no asyncio loop runs. The text says what to use on trio and in plain code.
    """
    running_loop("run_process()")
    wanted = read_text(text, encoding, errors, options.pop("universal_newlines", None))
    call = read_call(
        command,
        (stdin, stdout, stderr),
        input,
        wanted,
        stream_sink,
        capturing=True,
        check=check,
        on_output=on_output,
        output_limit=output_limit,
        on_limit=on_limit,
        idle_timeout=idle_timeout,
        timeout=timeout,
        grace=grace,
        drain=drain,
    )
    if shell is None:
        shell = is_shell_command(command)
    request = make_request(run_process, command, shell, call.stdio, options)
    outputs = call.outputs
    # Without any of these options the loop itself gathers the output.
    plain = outputs.plain and idle_timeout is None

    watch: Watch | None = None
    streams = NO_STREAMS
    gathering = contextlib.ExitStack()
    timer = asyncio.timeout(timeout)
    try:
        async with timer:
            watch, streams = await start_process(request, grace=grace)
            if plain:
                # Also in its grace: on a full pipe it would wait for a reader until it is killed.
                gathering = gather(streams)
                said = await communicate(watch, streams, call.input, drain)
                out, err = [decode_output(each, *wanted) for each in said]
            else:
                send_input(streams, call.input)
                silence = listen(command, idle_timeout, asyncio.get_running_loop().time)
                pumps = make_pumps(streams.stdout, streams.stderr, outputs, silence)
                await carry_output([watch], pumps, grace, drain, silence=silence, limit=timer)
                out, err = outputs.result()
    except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
        if watch is not None:
            kill_now(watch.program)
        raise
    except BaseException as exc:
        try:
            if watch is not None:
                with denied_once(exc):
                    await end(watch, grace)
        finally:
            await outputs.abort()
        outputs.tell(exc)
        if not isinstance(exc, TimeoutError) or not timer.expired():
            raise
        if not plain:
            raise outputs.expired(timeout) from None
        out, err = _what_was_read(streams)
        raise subprocess.TimeoutExpired(command, timeout or 0, out or None, err or None) from None
    finally:
        del timer  # a cycle: timer, task, its exception, the traceback, this frame
        gathering.close()
        streams.close()

    return outputs.completed(await watch.returncode(), out, err, check)


def _what_was_read(streams: Streams) -> tuple[bytes | None, bytes | None]:
    taken: list[bytes | None] = []
    for reader in (streams.stdout, streams.stderr):
        if reader is None:
            taken.append(None)
        else:
            reader.drain()
            taken.append(reader.take_all())
    return taken[0], taken[1]
