"""`run_pipeline`: several programs, each of which reads what the one before it writes."""

from subprocess import PIPE
from typing import Unpack

import anyio

from .._asyncio.attend import DRAIN
from .._asyncio.process import GRACE
from .._pidfd.durations import check_seconds
from .._spawn.capture import OnLimit, check_limit
from .._spawn.encoding import check_bytes
from .._spawn.options import Command, Options, OutputChoice, Stdio
from .._spawn.pipeline import CompletedPipeline, Stages
from .._spawn.sinks import listen
from .._spawn.terminal import PTY
from .._spawn.tree import kill_now
from ._process import Running, start_process
from ._sinks import OutputStream, Pump, make_pumps, stream_sink
from ._supervise import attend, end_all

__all__ = ["run_pipeline"]


async def run_pipeline(
    *commands: Command,
    input: bytes | None = None,
    stdin: Stdio = None,
    stdout: OutputChoice | OutputStream = PIPE,
    stderr: OutputChoice | OutputStream = PIPE,
    output_limit: int | None = None,
    on_limit: OnLimit = "raise",
    check: bool = True,
    idle_timeout: float | None = None,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    **options: Unpack[Options],
) -> CompletedPipeline[bytes]:
    """Run programs to their end, all at once; each reads what the one before it writes.

    This works like `aiopidfd.run_pipeline`, on asyncio, uvloop and trio. A cancelled scope, such as
    that of a timeout, ends the programs: SIGTERM, `grace` seconds for all together, SIGKILL.

    Args:
        commands: each is a sequence, which runs a program, or a string, which `/bin/sh -c` runs.
        input: sent to the stdin of the first program, which is a pipe then.
        stdin: of the first program, as in `open_process`.
        stdout: of the last program, as in `run_process`; captured by default.
        stderr: of each program, as in `run_process`; captured by default.
        output_limit, on_limit: as in `run_process`; for each output that is captured.
        check: raise PipelineError when the return code is not 0.
        idle_timeout: how many seconds may pass in which no program writes anything to the outputs
            that come to us.
        grace: seconds between SIGTERM and SIGKILL.
        drain: seconds to read on after all programs have exited while something else holds the
            pipes. None: until the pipes close.
        options: see `aiopidfd.Options`; they apply to each program.

    Returns:
        A `CompletedPipeline`, see there.

    Raises:
        PipelineError: a CalledProcessError of the program that failed, with the `result`.
        IdleTimeoutError, OutputLimitError: see `run_process`.
        Exception: what a function or a stream for an output raised; the programs were ended.
        ExceptionGroup: several of these errors.
        OSError, TypeError, ValueError: as `open_process`. If one program cannot be started, those
            before it are ended.
    """
    check_seconds(grace=grace, drain=drain, idle_timeout=idle_timeout)
    check_limit(output_limit, on_limit)
    if input is not None:
        check_bytes(input)
        if stdin is not None:
            raise ValueError("only one of stdin and input is allowed")
        stdin = PIPE
    if stdin == PTY:
        raise ValueError("a pipeline has no terminal: PTY is for a program of its own")
    stages = Stages(commands, stdout, stderr, (None, None), stream_sink, output_limit, on_limit)
    stages.check_idle(idle_timeout)
    running: list[Running] = []
    try:
        try:
            with stages.requests(run_pipeline, stdin, options) as requests:
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
        if running[0].stdin is not None and input is None:
            running[0].stdin.close()
        silence = listen([*commands], idle_timeout, anyio.current_time)
        pumps: list[Pump] = []
        for program, outputs in zip(running, stages.outputs, strict=True):
            pumps += make_pumps(program.stdout, program.stderr, outputs, silence)
        await attend(running, input, pumps, grace, drain, silence)
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
