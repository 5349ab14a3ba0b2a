"""`run_pipeline`: several programs, each of which reads what the one before it writes."""

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any, Unpack, overload

from .._spawn.encoding import read_text
from .._spawn.failures import denied_once
from .._spawn.idle_timeout import listen
from .._spawn.options import Command, Options, OutputChoice, PipelineOptions, Stdio
from .._spawn.output_limit import OnLimit
from .._spawn.pipeline import CompletedPipeline, Stages
from .._spawn.run_arguments import DRAIN
from .._spawn.tree import kill_now
from .carry_to_sinks import carry_output
from .communicate import send_input
from .end_although_cancelled import end_all
from .process import GRACE, start_process
from .pumps import Pump, make_pumps
from .start_on_loop import running_loop
from .stream_sink import stream_sink

if TYPE_CHECKING:
    from .exit_on_loop import Watch
    from .process_streams import Streams

__all__ = ["run_pipeline"]


@overload
async def run_pipeline(
    *commands: Command,
    input: bytes | None = ...,
    text: None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[PipelineOptions],
) -> CompletedPipeline[bytes]: ...
@overload
async def run_pipeline(
    *commands: Command,
    input: bytes | str | None = ...,
    stdin: Stdio = ...,
    stdout: OutputChoice = ...,
    stderr: OutputChoice = ...,
    output_limit: int | None = ...,
    on_limit: OnLimit = ...,
    check: bool = ...,
    timeout: float | None = ...,
    idle_timeout: float | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    grace: float = ...,
    drain: float | None = ...,
    **options: Unpack[Options],
) -> CompletedPipeline[Any]: ...
async def run_pipeline(
    *commands: Command,
    input: bytes | str | None = None,
    stdin: Stdio = None,
    stdout: OutputChoice = subprocess.PIPE,
    stderr: OutputChoice = subprocess.PIPE,
    output_limit: int | None = None,
    on_limit: OnLimit = "raise",
    check: bool = True,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    **options: Any,
) -> CompletedPipeline[Any]:
    """Run programs to their end, all at once; each reads what the one before it writes.

        result = await aiopidfd.run_pipeline(["git", "log"], ["grep", "fix"], ["wc", "-l"])

    Between the programs are the kernel's pipes: what goes through them does not pass through this
    process. On timeout or cancellation the programs and all that they have started get SIGTERM,
    have `grace` seconds together, get SIGKILL, and are reaped before this raises. A second
    cancellation kills at once.

    Args:
        commands: each is a sequence, which runs a program, or a string, which `/bin/sh -c` runs.
        input: sent to the stdin of the first program, which is a pipe then.
        stdin: of the first program, as in `create_subprocess_exec`.
        stdout: of the last program, as in `run_process`; captured by default.
        stderr: of each program, as in `run_process`; captured by default. STDOUT: it goes where the
            program's stdout goes, to the next program.
        output_limit, on_limit: as in `run_process`; for each output that is captured.
        check: raise PipelineError when the return code is not 0.
        timeout: seconds from the call on, for all programs together; None for no limit.
        idle_timeout: how many seconds may pass in which no program writes anything to the outputs
            that come to us.
        text, encoding, errors: any of them makes input and output str.
        grace: seconds between SIGTERM and SIGKILL.
        drain: seconds to read on after all programs have exited while something else holds the
            pipes. None: until the pipes close.
        options: see `aiopidfd.Options`; they apply to each program. `pipesize` applies also to the
            pipes between the programs.

    Returns:
        A `CompletedPipeline`: all return codes, the stdout of the last program, and the stderr of
        each. Its `returncode` is that of the last program that failed, or 0. A program that ends by
        SIGPIPE, because the next program stopped reading, has not failed.

    Raises:
        PipelineError: a CalledProcessError of the program that failed, with the `result`.
        subprocess.TimeoutExpired: with the stdout of the last program, and all stderrs one after
            the other, as far as they were read, as bytes.
        IdleTimeoutError: a TimeoutExpired; `idle_timeout` has passed.
        OutputLimitError: see `run_process`.
        Exception: what a function or a stream for an output raised; the programs were ended.
        ExceptionGroup: several of these errors.
        OSError, TypeError, ValueError: as `create_subprocess_exec`. If one program cannot be
            started, those before it are ended. Where a command is wrong, none is started.
        RuntimeError: as `run_process`.
    """
    running_loop("run_pipeline()")
    stages = Stages(
        commands,
        (stdin, stdout, stderr),
        input,
        read_text(text, encoding, errors),
        stream_sink,
        check=check,
        output_limit=output_limit,
        on_limit=on_limit,
        idle_timeout=idle_timeout,
        timeout=timeout,
        grace=grace,
        drain=drain,
    )

    watches: list[Watch] = []
    opened: list[Streams] = []
    timer = asyncio.timeout(timeout)
    try:
        async with timer:
            with stages.requests(run_pipeline, options) as requests:
                for request in requests:
                    watch, streams = await start_process(request, grace=grace)
                    watches.append(watch)
                    opened.append(streams)
            send_input(opened[0], stages.input)
            silence = listen([*commands], idle_timeout, asyncio.get_running_loop().time)
            pumps: list[Pump] = []
            for streams, outputs in zip(opened, stages.outputs, strict=True):
                pumps += make_pumps(streams.stdout, streams.stderr, outputs, silence)
            await carry_output(watches, pumps, grace, drain, silence=silence, limit=timer)
    except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
        for watch in watches:
            kill_now(watch.program)
        raise
    except BaseException as exc:
        try:
            with denied_once(exc):
                await end_all(watches, grace)
        finally:
            await stages.abort()
        stages.tell(exc)
        if isinstance(exc, TimeoutError) and timer.expired():
            raise stages.expired(timeout) from None
        raise
    finally:
        del timer  # a cycle: timer, task, its exception, the traceback, this frame
        for streams in opened:
            streams.close()

    result = stages.result([await watch.returncode() for watch in watches])
    if check:
        result.check_returncode()
    return result
