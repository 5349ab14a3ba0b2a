"""A program as a member of a task group: it ends with the group, and the group may end with it."""

import contextlib
import math
from collections.abc import Sequence
from subprocess import PIPE, CalledProcessError
from typing import TypeGuard, Unpack

import anyio
import anyio.abc

from ..plan import Command, Options
from ..process import DRAIN, GRACE
from ..stdio import Stdio
from .process import Process, end, open_process
from .sinks import STREAMS, Pump, Sink, make_decoder
from .streams import SendPipe

__all__ = ["attend", "supervise"]


async def supervise(
    command: Command,
    *,
    input: bytes | None = None,
    stdin: Stdio = None,
    stdout: Stdio | Sink = None,
    stderr: Stdio | Sink = None,
    check: bool = True,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    encoding: str | None = None,
    errors: str | None = None,
    task_status: anyio.abc.TaskStatus[Process] = anyio.TASK_STATUS_IGNORED,
    **options: Unpack[Options],
) -> int:
    """Run a program in a task group, from its exec to its end.

        async with anyio.create_task_group() as tg:
            process = await tg.start(partial(supervise, ["server", "--port", "0"], stdout=print))

    `tg.start` returns the `Process` once the program was exec'd, and raises what the exec raised.
    When the group or its scope is cancelled, the program gets SIGTERM, `grace` seconds, SIGKILL,
    and is reaped before the group is left; what it still writes meanwhile goes to its sinks.

    Args:
        command: a sequence runs a program; a string, bytes or a path is run by `/bin/sh -c`.
        input: for its stdin, which is closed then.
        stdin: as `open_process`; None, to inherit, by default.
        stdout, stderr: as `open_process`; None, to inherit, by default. Or a sink: a function,
            which is called with each line, without its line end, and awaited if it is asynchronous;
            or a stream (`anyio.abc.ByteSendStream`, `ObjectSendStream`), which gets chunks as they
            come and is closed at their end. A slow sink makes the program wait.
        check: raise CalledProcessError, which cancels the group, if the return code is not 0.
        grace: seconds between SIGTERM and SIGKILL; 0 kills at once.
        drain: seconds to go on reading after the exit while something else holds the pipes; None:
            until they close.
        encoding, errors: sinks get text, decoded so; without `encoding` they get bytes.
        task_status: given by `tg.start`.
        options: see `aiopidfd.Options`.

    Returns:
        The return code.

    Raises:
        subprocess.CalledProcessError: see `check`.
        OSError, TypeError, ValueError: as `open_process`.
        PermissionError: it runs with ids that we may not signal (kill(2)), and was to be ended.
        Exception: what a sink raised; the program was ended because of it.
    """
    if input is not None and stdin is not None:
        raise ValueError("only one of stdin and input is allowed")
    sinks = [choice if _is_sink(choice) else None for choice in (stdout, stderr)]
    decoders = [make_decoder(encoding, errors) for _ in sinks]
    process: Process | None = None
    try:
        process = await open_process(
            command,
            stdin=stdin if input is None else PIPE,
            stdout=PIPE if sinks[0] else stdout,  # type: ignore[arg-type]
            stderr=PIPE if sinks[1] else stderr,  # type: ignore[arg-type]
            **options,
        )
        outputs = zip((process.stdout, process.stderr), sinks, decoders, strict=True)
        pumps = [Pump(pipe, sink, decode) for pipe, sink, decode in outputs if pipe and sink]
        task_status.started(process)
        await attend(process, input, pumps, grace, drain)
    except BaseException:
        if process is not None:
            await _close(process.stdout, process.stderr)
        raise
    finally:
        await _close(process and process.stdin, *sinks)
    code = await process.wait()
    if check and code:
        raise CalledProcessError(code, command)
    return code


async def attend(
    process: Process,
    input: bytes | None,
    pumps: Sequence[Pump],
    grace: float,
    drain: float | None,
) -> None:
    """See a program to its end: feed it, carry its output, end it if we are cancelled.

    Raises what a sink raised, once the program is ended.
    """
    failures: list[Exception] = []  # kept by us: the task group would wrap them in a group
    waiting, feeding = anyio.CancelScope(), anyio.CancelScope()
    # While a cancelled program has its grace it still writes, and must not block on a full pipe.
    shields = [anyio.CancelScope(shield=True) for _ in pumps]

    async def carry(pump: Pump, shield: anyio.CancelScope) -> None:
        try:
            with shield:
                await pump.run()
        except Exception as exc:
            failures.append(exc)
            waiting.cancel()

    async def feed(stdin: SendPipe, data: bytes) -> None:
        with feeding, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await stdin.send(data)
        await _close(stdin)

    async def end_it() -> None:
        try:
            await end(process, grace)
        except PermissionError as exc:
            failures.append(exc)

    async with anyio.create_task_group() as tg:
        for pump, shield in zip(pumps, shields, strict=True):
            tg.start_soon(carry, pump, shield)
        if input is not None and process.stdin is not None:
            tg.start_soon(feed, process.stdin, input)
        try:
            with waiting:
                await process.wait()
            if waiting.cancelled_caught:
                with anyio.CancelScope(shield=True):
                    await end_it()
        except GeneratorExit:  # thrown away: nothing can be awaited any more
            process.abandon()
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await end_it()
                with anyio.move_on_after(drain):
                    for pump in pumps:
                        await pump.ended.wait()
            raise
        finally:
            feeding.cancel()
            for pump, shield in zip(pumps, shields, strict=True):
                pump.stop_reading_at(math.inf if drain is None else anyio.current_time() + drain)
                shield.shield = False
    if len(failures) > 1:
        raise ExceptionGroup("several things went wrong with a supervised program", failures)
    if failures:
        raise failures[0]


def _is_sink(choice: object) -> TypeGuard[Sink]:
    if choice is None or isinstance(choice, int) or hasattr(choice, "fileno"):
        return False
    return isinstance(choice, STREAMS) or callable(choice)


async def _close(*streams: object) -> None:
    """Close what can be closed, cancelled or not."""
    with anyio.CancelScope(shield=True):
        for stream in streams:
            if isinstance(stream, anyio.abc.AsyncResource):
                await stream.aclose()
