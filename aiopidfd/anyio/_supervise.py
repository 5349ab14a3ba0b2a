"""A program as a member of a task group: it ends with the group, and its failure ends the group."""

from subprocess import CalledProcessError
from typing import Unpack

import anyio
import anyio.abc

from .._asyncio.process import GRACE
from .._spawn.choose_sinks import OnOutput
from .._spawn.encoding import read_text
from .._spawn.idle_timeout import listen
from .._spawn.options import Command, Options, OutputChoice, Stdio
from .._spawn.run_arguments import DRAIN, read_call
from ._carry_to_sinks import carry_output
from ._process import ONE_INPUT, Process, Running, make_anyio_request, start_process
from ._pumps import make_pumps
from ._stream_sink import OutputStream, stream_sink

__all__ = ["supervise"]


async def supervise(
    command: Command,
    *,
    input: bytes | str | None = None,
    stdin: Stdio = None,
    stdout: OutputChoice | OutputStream = None,
    stderr: OutputChoice | OutputStream = None,
    on_output: OnOutput | None = None,
    check: bool = True,
    idle_timeout: float | None = None,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    task_status: anyio.abc.TaskStatus[Process] = anyio.TASK_STATUS_IGNORED,
    **options: Unpack[Options],
) -> int:
    r"""Run a program in a task group, from its exec to its end.

        async with anyio.create_task_group() as tg:
            process = await tg.start(partial(supervise, ["server"], stdout=print, text=True))

    `tg.start` returns the `Process` after the exec, and raises what the exec raised. When the group
    or its scope is cancelled, the program, and all that it has started, gets SIGTERM, `grace`
    seconds, SIGKILL, and is reaped before the group is left. What the program writes meanwhile
    still goes to its sinks.

    Args:
        command: a sequence or a path runs a program; a string or bytes is run by `/bin/sh -c`.
        input: sent to the program's stdin, which is a pipe then, unless it is PTY; and then closed.
        stdin: as in `open_process`; inherited (None) by default.
        stdout, stderr: as in `open_process`; inherited (None) by default. With PIPE you read the
            stream of the Process yourself; it is closed at the exit, but what the program has
            written can still be received. Or a sink. A sink is a function, which is called with
            each line, without its "\n", and awaited if it is asynchronous; or a stream
            (`anyio.abc.ByteSendStream`, `ObjectSendStream`), which gets chunks as they come and is
            closed at the end. Or a list of these and of files; files get what the program would
            have written to them. A slow sink makes the program wait.
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
        text, encoding, errors: with any of them input is str, and sinks get text, with "\r\n" and
            "\r" read as "\n". A ByteSendStream always gets bytes, and without these options every
            sink does.
        task_status: `tg.start` gives it.
        options: see `aiopidfd.Options`.

    Returns:
        The return code.

    Raises:
        subprocess.CalledProcessError: see `check`.
        IdleTimeoutError: a subprocess.TimeoutExpired: see `idle_timeout`; the program was ended.
        OSError, TypeError, ValueError: as `open_process`.
        PermissionError: the program had to be ended, but runs with ids that we may not signal
            (kill(2)).
        Exception: what a sink raised; the program was ended because of it.
        ExceptionGroup: several of these errors.
    """
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
        both=ONE_INPUT,
        grace=grace,
        drain=drain,
    )
    outputs = call.outputs
    request = make_anyio_request(supervise, command, call.stdio, options)
    tell_started = task_status.started  # before anything is started: it may be no task status
    process: Running | None = None
    try:
        process = await start_process(request)
        silence = listen(command, idle_timeout, anyio.current_time)
        pumps = make_pumps(process.stdout, process.stderr, outputs, silence)
        handle = Process(process)  # it warns if it is dropped while the program runs
        try:
            tell_started(handle)
        except BaseException:
            await process.end(grace)
            raise
        await carry_output([process], call.input, pumps, grace, drain, silence)
        code = await process.wait()
    except BaseException as exc:
        if process is not None:
            process.close_pipes()
        if not isinstance(exc, GeneratorExit):  # closed: nothing can be awaited any more
            await outputs.abort()
        raise
    process.let_go_of_pipes()
    if check and code:
        raise CalledProcessError(code, command)
    return code
