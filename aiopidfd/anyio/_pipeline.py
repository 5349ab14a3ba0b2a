"""`run_pipeline`: several programs, each of which reads what the one before it writes."""

from subprocess import PIPE
from typing import Any, Unpack, overload

import anyio

from .._asyncio.process import GRACE
from .._spawn.encoding import read_text
from .._spawn.idle_timeout import listen
from .._spawn.options import Command, Options, OutputChoice, Stdio
from .._spawn.output_limit import OnLimit
from .._spawn.pipeline import CompletedPipeline, Stages
from .._spawn.run_arguments import DRAIN
from .._spawn.tree import kill_now
from ._carry_to_sinks import carry_output
from ._end_several import end_all
from ._process import ONE_INPUT, Running, start_process
from ._pumps import Pump, make_pumps
from ._stream_sink import OutputStream, stream_sink

__all__ = ["run_pipeline"]


class PipelineOptions(Options, total=False):
    """What `run_pipeline` takes beside its input and the text's keywords. See there. A type only.

    The keywords of `Options` apply to each of the programs.
    """

    stdin: Stdio
    stdout: OutputChoice | OutputStream
    stderr: OutputChoice | OutputStream
    output_limit: int | None
    on_limit: OnLimit
    check: bool
    timeout: float | None
    idle_timeout: float | None
    grace: float
    drain: float | None


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
    stdout: OutputChoice | OutputStream = ...,
    stderr: OutputChoice | OutputStream = ...,
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
    stdout: OutputChoice | OutputStream = PIPE,
    stderr: OutputChoice | OutputStream = PIPE,
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

    This works like `aiopidfd.run_pipeline`, on asyncio, uvloop and trio. A timeout or a cancelled
    scope ends the programs: SIGTERM, `grace` seconds for all together, SIGKILL.

    Args:
        commands: each is a sequence, which runs a program, or a string, which `/bin/sh -c` runs.
        input: sent to the stdin of the first program, which is a pipe then.
        stdin: of the first program, as in `open_process`.
        stdout: of the last program, as in `run_process`; captured by default.
        stderr: of each program, as in `run_process`; captured by default.
        output_limit, on_limit: as in `run_process`; for each output that is captured.
        check: raise PipelineError when the return code is not 0.
        timeout: seconds from the call on, for all programs together; None for no limit.
        idle_timeout: how many seconds may pass in which no program writes anything to the outputs
            that come to us.
        text, encoding, errors: any of them makes input and output str.
        grace: seconds between SIGTERM and SIGKILL.
        drain: seconds to read on after all programs have exited while something else holds the
            pipes. None: until the pipes close.
        options: see `aiopidfd.Options`; they apply to each program.

    Returns:
        A `CompletedPipeline`, see there.

    Raises:
        PipelineError: a CalledProcessError of the program that failed, with the `result`.
        subprocess.TimeoutExpired: with the stdout of the last program, and all stderrs one after
            the other, as far as they were read, as bytes.
        IdleTimeoutError, OutputLimitError: see `run_process`.
        Exception: what a function or a stream for an output raised; the programs were ended.
        ExceptionGroup: several of these errors.
        OSError, TypeError, ValueError: as `open_process`. If one program cannot be started, those
            before it are ended.
    """
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
        both=ONE_INPUT,
        timeout=timeout,
        grace=grace,
        drain=drain,
    )
    running: list[Running] = []
    try:
        with anyio.move_on_after(timeout) as scope:
            await _run(stages, running, options, idle_timeout, grace, drain, scope)
        if scope.cancelled_caught:
            raise stages.expired(timeout)
        codes = [await program.wait() for program in running]
    except BaseException as exc:
        if not isinstance(exc, GeneratorExit):
            await stages.abort()
        stages.tell(exc)
        raise
    finally:
        for program in running:
            program.close_pipes()
    result = stages.result(codes)
    if check:
        result.check_returncode()
    return result


async def _run(
    stages: Stages,
    running: list[Running],
    options: dict[str, Any],
    idle_timeout: float | None,
    grace: float,
    drain: float | None,
    limit: anyio.CancelScope,
) -> None:
    """Start the programs, which come into `running` one by one, and see them to their end."""
    try:
        with stages.requests(run_pipeline, options) as requests:
            for request in requests:
                program = await start_process(request)
                running.append(program)
    except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
        for program in running:
            kill_now(program.program)
        raise
    except BaseException:
        await end_all(running, grace)
        raise
    if running[0].stdin is not None and stages.input is None:
        running[0].stdin.close()
    silence = listen([*stages.commands], idle_timeout, anyio.current_time)
    pumps: list[Pump] = []
    for program, outputs in zip(running, stages.outputs, strict=True):
        pumps += make_pumps(program.stdout, program.stderr, outputs, silence)
    await carry_output(running, stages.input, pumps, grace, drain, silence, limit)
