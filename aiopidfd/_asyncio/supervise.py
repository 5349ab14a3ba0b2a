"""`supervise` and `start_in`: a program as a member of an `asyncio.TaskGroup`."""

import asyncio
from collections.abc import Callable
from subprocess import CalledProcessError
from typing import Final, Unpack

from .._spawn.choose_sinks import OnOutput
from .._spawn.command import is_shell_command
from .._spawn.encoding import read_text
from .._spawn.failures import denied_once
from .._spawn.idle_timeout import listen
from .._spawn.options import (
    Command,
    Options,
    OutputChoice,
    Stdio,
    SuperviseOptions,
    make_request,
)
from .._spawn.refused_keywords import refuse
from .._spawn.run_arguments import DRAIN, read_call
from .._spawn.tree import kill_now
from .carry_to_sinks import carry_output
from .end_although_cancelled import end
from .process import GRACE, Process, start_process
from .process_streams import NO_STREAMS
from .pumps import make_pumps
from .start_on_loop import running_loop
from .stream_sink import stream_sink

__all__ = ["start_in", "supervise"]

_TAKEN: Final = frozenset(SuperviseOptions.__annotations__)
_ENDED: Final = "the task group has ended while the program was being started"


async def supervise(
    command: Command,
    *,
    input: bytes | str | None = None,
    stdin: Stdio = None,
    stdout: OutputChoice = None,
    stderr: OutputChoice = None,
    on_output: OnOutput | None = None,
    check: bool = True,
    idle_timeout: float | None = None,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    started: Callable[[Process], object] | None = None,
    **options: Unpack[Options],
) -> int:
    """Run a program from its start to its end, as a task, usually a member of a task group.

        async with asyncio.TaskGroup() as group:
            group.create_task(aiopidfd.supervise(["worker"], stdout=print, text=True))
            server = await aiopidfd.start_in(group, ["server"])  # returns after the exec

    When the task is cancelled the program, and all that it has started, gets SIGTERM, `grace`
    seconds, SIGKILL, and is reaped before this raises. What the program writes meanwhile still goes
    to its sinks. A second cancellation kills at once.

    Args:
        command: a sequence runs a program; a string is run by `/bin/sh -c`.
        input: sent to the program's stdin, which is a pipe then, unless it is PTY; and then closed.
        stdin: as in `create_subprocess_exec`; inherited (None) by default.
        stdout, stderr: as in `create_subprocess_exec`; inherited (None) by default. With PIPE you
            read the stream of the Process that `start_in` returns; it is closed at the exit, but
            what the program has written can still be read. Or a sink: a function, an
            `asyncio.StreamWriter`, or a list of these and of files: see `run_process`.
        on_output: a function that is called with "stdout" or "stderr" and one line of that output,
            in the order of arrival. The other sinks get the output, too. An output that would be
            inherited goes to the function alone.
        check: raise CalledProcessError, which cancels the group, if the return code is not 0. This
            is also raised if you have ended the program yourself by a signal, but not if the group
            is cancelled.
        idle_timeout: how many seconds may pass in which the program writes nothing to its sinks.
        grace: seconds between SIGTERM and SIGKILL; 0 kills at once.
        drain: seconds to go on reading after the exit while something else holds the pipes. None:
            until the pipes close.
        text, encoding, errors: with any of them input is str, and functions get str. The streams of
            the Process still carry bytes.
        started: called with the Process after the exec. `start_in` waits for this call.
        options: see `aiopidfd.Options`.

    Returns:
        The return code.

    Raises:
        subprocess.CalledProcessError: see `check`.
        IdleTimeoutError: a subprocess.TimeoutExpired: see `idle_timeout`; the program was ended.
        OSError, TypeError, ValueError: as `create_subprocess_exec`.
        PermissionError: the program had to be ended, but runs with ids that we may not signal
            (kill(2)).
        Exception: what a sink raised; the program was ended because of it.
        ExceptionGroup: several of these errors.
    """
    running_loop("supervise()")
    if started is not None and not callable(started):
        raise TypeError(f"started must be a function, not {type(started).__name__}")
    call = read_call(
        command,
        (stdin, stdout, stderr),
        input,
        read_text(text, encoding, errors),
        stream_sink,
        capturing=False,
        check=check,
        on_output=on_output,
        idle_timeout=idle_timeout,
        grace=grace,
        drain=drain,
    )
    outputs = call.outputs
    shell = is_shell_command(command)
    request = make_request(supervise, command, shell, call.stdio, {**options})
    watch = None
    streams = NO_STREAMS
    try:
        watch, streams = await start_process(request, grace=grace)
        process = Process(watch, streams, grace)  # it warns if it is dropped while the program runs
        if started is not None:
            started(process)
        if call.input is not None and streams.stdin is not None:
            streams.stdin.write(call.input)
            streams.stdin.close()
        silence = listen(command, idle_timeout, asyncio.get_running_loop().time)
        pumps = make_pumps(streams.stdout, streams.stderr, outputs, silence)
        await carry_output([watch], pumps, grace, drain, silence=silence)
        code = await watch.returncode()
    except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
        if watch is not None:
            kill_now(watch.program)
        streams.close()
        raise
    except BaseException as exc:
        try:
            if watch is not None:
                with denied_once(exc):
                    await end(watch, grace)
        finally:
            streams.close()
            await outputs.abort()
        raise
    streams.let_go()
    if check and code:
        raise CalledProcessError(code, command)
    return code


async def start_in(
    group: asyncio.TaskGroup, command: Command, /, **options: Unpack[SuperviseOptions]
) -> Process:
    """Start a program as a member of a task group, and wait for its exec.

        async with asyncio.TaskGroup() as group:
            server = await aiopidfd.start_in(group, ["server"], on_output=print, text=True)
            ...  # the program runs, and the block waits for its end
            server.terminate()  # needs check=False

    From then on the program is a member: the group waits for it, and ends it when the group is
    cancelled. A failure of the program cancels the group. If this call is cancelled, the program is
    ended, too, and the group waits for that.

    Args:
        group: an `asyncio.TaskGroup` that has been entered.
        command: see `supervise`.
        options: see `supervise`. The option `group` is still that of the program.

    Returns:
        The process.

    Raises:
        OSError, TypeError, ValueError: as `create_subprocess_exec`. The group is not affected.
        RuntimeError: the group takes no more members, or it ended before the program began.
    """
    if not isinstance(group, asyncio.TaskGroup):
        kind = type(group).__name__
        raise TypeError(
            f"group must be an asyncio.TaskGroup, not {kind}; with one of anyio's use "
            "aiopidfd.anyio.supervise"
        )
    running_loop("start_in()")
    if not options.keys() <= _TAKEN:
        refuse(start_in, {**options}, _TAKEN)
    begun: asyncio.Future[Process | None] = asyncio.get_running_loop().create_future()
    running: list[Process] = []
    failures: list[Exception] = []

    def on_start(process: Process) -> None:
        running.append(process)
        if not begun.done():
            begun.set_result(process)

    async def member() -> None:
        try:
            await supervise(command, started=on_start, **options)
        except Exception as exc:
            if running:
                raise
            if not begun.done():
                failures.append(exc)
                begun.set_result(None)
        finally:
            running.clear()

    coroutine = member()
    try:
        task = group.create_task(coroutine)
    except BaseException:
        coroutine.close()
        raise
    task.add_done_callback(lambda _: begun.cancel())  # the task was cancelled before it began
    try:
        process = await begun
    except asyncio.CancelledError:
        task.cancel()
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling():
            raise
        raise RuntimeError(_ENDED) from None
    if process is None:
        raise failures.pop()
    return process
