"""A program as a member of a task group: it ends with the group, and its failure ends the group."""

import contextlib
import math
from collections.abc import Sequence
from subprocess import CalledProcessError
from typing import Unpack

import anyio
import anyio.abc

from .._asyncio.process import GRACE
from .._spawn.choose_sinks import OnOutput
from .._spawn.encoding import read_text
from .._spawn.failures import add_failure, raise_all, sink_was_cancelled
from .._spawn.hub import carrying
from .._spawn.idle_timeout import Silence, listen
from .._spawn.options import Command, Options, OutputChoice, Stdio
from .._spawn.run_arguments import DRAIN, read_call
from .._spawn.tree import kill_now
from .._spawn.weak_programs import Remaining
from ._process import ONE_INPUT, Process, Running, make_anyio_request, start_process
from ._pumps import OutputStream, Pump, make_pumps, stream_sink
from ._streams import SendPipe

__all__ = ["carry_output", "end_all", "supervise", "time_limit"]


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


def time_limit(timeout: float | None) -> anyio.CancelScope:
    """A scope that is cancelled when so many seconds have passed; None: never."""
    return anyio.CancelScope(
        deadline=math.inf if timeout is None else anyio.current_time() + timeout
    )


async def carry_output(
    programs: Sequence[Running],
    input: bytes | None,
    pumps: Sequence[Pump],
    grace: float,
    drain: float | None,
    silence: Silence | None = None,
) -> None:
    """See programs to their end: feed the first, carry the output, end them if cancelled.

    Raises:
        BaseException: what a sink raised; the programs were ended.
        OutputLimitError, IdleTimeoutError: a limit was broken; the programs were ended.
        PermissionError: we may not end one of the programs.
        ExceptionGroup: several of these errors.
    """
    # We keep the errors ourselves, because the task group would wrap them in a group.
    failures: list[BaseException] = []
    denied: list[PermissionError] = []
    remaining = Remaining(programs, lambda program: program.poll() is None)
    waiting, hearing = anyio.CancelScope(), anyio.CancelScope()
    # The input goes on until a cancelled program is ended: it must not take a part for the whole.
    feeding = anyio.CancelScope(shield=True)
    # During its grace the program still writes, and must not block on a full pipe.
    shields = [anyio.CancelScope(shield=True) for _ in pumps]

    def fail(exc: BaseException) -> None:
        add_failure(failures, exc)
        waiting.cancel()

    async def carry(pump: Pump, shield: anyio.CancelScope) -> None:
        with shield:
            try:
                await pump.run()
                return
            except anyio.get_cancelled_exc_class() as exc:
                if not shield.shield:
                    raise
                fail(sink_was_cancelled(exc))
            except BaseException as exc:  # pytest.fail(), for example, raises no Exception
                if _ends_the_task(exc):
                    raise
                fail(exc)
            if remaining:
                await pump.discard()

    async def feed(stdin: SendPipe, data: bytes) -> None:
        try:
            with feeding, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stdin.send(data)
                await stdin.aclose()
        except Exception as exc:
            fail(exc)

    async def hear(silence: Silence) -> None:
        with hearing:
            left = silence.left()
            while left > 0:
                await anyio.sleep(left)
                left = silence.left()
            fail(silence.error())

    async def end() -> None:
        try:
            await end_all(programs, grace)
        except PermissionError as exc:
            denied.append(exc)

    heard = contextlib.ExitStack()
    try:
        heard.enter_context(carrying())
        async with anyio.create_task_group() as tg:
            for pump, shield in zip(pumps, shields, strict=True):
                tg.start_soon(carry, pump, shield)
            if input is not None and programs[0].stdin is not None:
                tg.start_soon(feed, programs[0].stdin, input)
            if silence is not None:
                tg.start_soon(hear, silence)
            try:
                with waiting:
                    for program in programs:
                        await program.wait()
                if waiting.cancelled_caught:
                    await end()
            except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
                for program in programs:
                    kill_now(program.program)
                raise
            except BaseException:
                await end()
                # This never waits for ever, even if `drain` is None: the caller wants to leave.
                with anyio.move_on_after(DRAIN if drain is None else drain, shield=True):
                    for pump in pumps:
                        await pump.ended.wait()
                raise
            finally:
                feeding.cancel()
                hearing.cancel()
                for pump, shield in zip(pumps, shields, strict=True):
                    pump.stop_reading_at(
                        math.inf if drain is None else anyio.current_time() + drain
                    )
                    shield.shield = False
    finally:
        heard.close()
        if input is not None and programs[0].stdin is not None:
            programs[0].stdin.close()
        if denied:  # raised even if the task is being cancelled: a program runs on
            failures.append(denied.pop())
            raise_all(failures)
    raise_all(failures)


def _ends_the_task(exc: BaseException) -> bool:
    """Whether it is a cancellation, or ends the process. trio's nurseries put these into groups."""
    ends = (anyio.get_cancelled_exc_class(), GeneratorExit, KeyboardInterrupt, SystemExit)
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(ends) is not None
    return isinstance(exc, ends)


async def end_all(programs: Sequence[Running], grace: float) -> None:
    """End programs at once. They have `grace` seconds together. See `Running.end`.

    Raises:
        PermissionError: we may not end one of the programs; the others were ended.
    """
    denied: list[PermissionError] = []

    async def end(program: Running) -> None:
        try:
            await program.end(grace)
        except PermissionError as exc:
            denied.append(exc)

    if len(programs) == 1:
        await end(programs[0])
    elif programs:
        async with anyio.create_task_group() as tg:
            for program in programs:
                tg.start_soon(end, program)
    if denied:
        raise denied.pop()
