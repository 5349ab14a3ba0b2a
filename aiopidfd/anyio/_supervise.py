"""A program as a member of a task group: it ends with the group, and the group may end with it."""

import contextlib
import inspect
import math
from collections.abc import Sequence
from subprocess import PIPE, CalledProcessError
from typing import TypeGuard, Unpack

import anyio
import anyio.abc

from .._asyncio.process import DRAIN, GRACE
from .._asyncio.run import input_bytes
from .._pidfd.durations import check_seconds
from .._spawn.options import Command, Options, Stdio
from .._spawn.terminal import PTY
from .._spawn.tree import kill_now
from .._streams.text import text_encoding
from ._process import Process, Running, make_anyio_request, start_process
from ._sinks import STREAMS, Pump, Sink, make_decoder
from ._streams import SendPipe

__all__ = ["attend", "supervise"]


async def supervise(
    command: Command,
    *,
    input: bytes | str | None = None,
    stdin: Stdio = None,
    stdout: Stdio | Sink = None,
    stderr: Stdio | Sink = None,
    check: bool = True,
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

    `tg.start` returns the `Process` once the program was exec'd, and raises what the exec raised.
    When the group or its scope is cancelled, the program, and all that it has started, gets
    SIGTERM, `grace` seconds, SIGKILL, and is reaped before the group is left; what it still writes
    meanwhile goes to its sinks.

    Args:
        command: a sequence or a path runs a program; a string or bytes is run by `/bin/sh -c`.
        input: for its stdin, which is PIPE or PTY, and is closed then.
        stdin: as `open_process`; None, to inherit, by default.
        stdout, stderr: as `open_process`; None, to inherit, by default. With PIPE you read the
            stream of the Process yourself, while it runs. Or a sink: a function,
            which is called with each line, without its "\n", and awaited if it is asynchronous; or
            a stream (`anyio.abc.ByteSendStream`, `ObjectSendStream`), which gets chunks as they
            come and is closed at their end. A slow sink makes the program wait.
        check: raise CalledProcessError, which cancels the group, if the return code is not 0; also
            if you have ended the program yourself, by a signal. (Not if the group is cancelled.)
        grace: seconds between SIGTERM and SIGKILL; 0 kills at once.
        drain: seconds to go on reading after the exit while something else holds the pipes; None:
            until they close.
        text, encoding, errors: with any of them input is str, and sinks get text, with "\r\n" and
            "\r" read as "\n"; else bytes, as a ByteSendStream does in any case.
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
    check_seconds(grace=grace, drain=drain)
    name = text_encoding(text, encoding, errors)
    data = input_bytes(input, name, errors)
    if data is not None and stdin not in (None, PTY):
        raise ValueError("only one of stdin and input is allowed")
    _check_output("stdout", stdout)
    _check_output("stderr", stderr)
    sinks = [choice if _is_sink(choice) else None for choice in (stdout, stderr)]
    if sinks[0] is sinks[1] and isinstance(sinks[0], STREAMS):
        raise ValueError("stdout and stderr cannot share a stream: clone() it, or stderr=STDOUT")
    decoders = [make_decoder(sink, name, errors) for sink in sinks]
    stdio = (
        PIPE if stdin is None and data is not None else stdin,
        stdout if sinks[0] is None else PIPE,
        stderr if sinks[1] is None else PIPE,
    )
    request = make_anyio_request(supervise, command, stdio, options)  # type: ignore[arg-type]
    process: Running | None = None
    try:
        process = await start_process(request)
        outputs = zip((process.stdout, process.stderr), sinks, decoders, strict=True)
        pumps = [
            Pump(pipe, sink, decode)
            for pipe, sink, decode in outputs
            if pipe is not None and sink is not None
        ]
        handle = Process(process)  # which warns if it is dropped while the program runs
        task_status.started(handle)
        await attend(process, data, pumps, grace, drain)
        code = await process.wait()
        if check and code:
            raise CalledProcessError(code, command)
    except BaseException as exc:
        if process is not None:
            process.close_pipes()
        if not isinstance(exc, GeneratorExit):  # thrown away: nothing can be awaited any more
            await _close_forcefully(sinks)
        raise
    if process.stdin is not None:
        process.stdin.close()
    return code


async def attend(
    process: Running,
    input: bytes | None,
    pumps: Sequence[Pump],
    grace: float,
    drain: float | None,
) -> None:
    """See a program to its end: feed it, carry its output, end it if we are cancelled.

    Raises what a sink raised, once the program is ended.
    """
    # Kept by us: the task group would wrap them in a group.
    failures: list[Exception] = []
    denied: list[PermissionError] = []
    waiting, feeding = anyio.CancelScope(), anyio.CancelScope()
    # While a cancelled program has its grace it still writes, and must not block on a full pipe.
    shields = [anyio.CancelScope(shield=True) for _ in pumps]

    def fail(exc: Exception) -> None:
        failures.append(exc)
        waiting.cancel()

    async def carry(pump: Pump, shield: anyio.CancelScope) -> None:
        with shield:
            try:
                await pump.run()
            except Exception as exc:
                fail(exc)
                if process.poll() is None:
                    await pump.discard()

    async def feed(stdin: SendPipe, data: bytes) -> None:
        try:
            with feeding, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stdin.send(data)
                await stdin.aclose()
        except Exception as exc:
            fail(exc)
        finally:
            stdin.close()

    async def end_it() -> None:
        try:
            await process.end(grace)
        except PermissionError as exc:
            denied.append(exc)

    try:
        async with anyio.create_task_group() as tg:
            for pump, shield in zip(pumps, shields, strict=True):
                tg.start_soon(carry, pump, shield)
            if input is not None and process.stdin is not None:
                tg.start_soon(feed, process.stdin, input)
            try:
                with waiting:
                    await process.wait()
                if waiting.cancelled_caught:
                    await end_it()
            except GeneratorExit:  # thrown away: nothing can be awaited any more
                kill_now(process.program)
                raise
            except BaseException:
                await end_it()
                # Never for ever, whatever `drain` is: the caller wants to go.
                with anyio.move_on_after(DRAIN if drain is None else drain, shield=True):
                    for pump in pumps:
                        await pump.ended.wait()
                raise
            finally:
                feeding.cancel()
                for pump, shield in zip(pumps, shields, strict=True):
                    pump.stop_reading_at(
                        math.inf if drain is None else anyio.current_time() + drain
                    )
                    shield.shield = False
    finally:
        if denied:  # also where the cancellation is on its way: the program runs on
            failures.append(denied[0])
            raise _one(failures)
    if failures:
        raise _one(failures)


def _one(failures: list[Exception]) -> Exception:
    if len(failures) == 1:
        return failures[0]
    return ExceptionGroup("several things went wrong with a supervised program", failures)


def _is_sink(choice: object) -> TypeGuard[Sink]:
    if isinstance(choice, STREAMS):
        return True
    return callable(choice) and not hasattr(choice, "fileno")


def _check_output(name: str, choice: object) -> None:
    if inspect.isasyncgenfunction(choice):
        raise TypeError(f"{name} must be a function, not an async generator function")
    if choice is None or isinstance(choice, int) or hasattr(choice, "fileno") or _is_sink(choice):
        return
    raise TypeError(
        f"{name} must be PIPE, DEVNULL, a descriptor, an object with fileno(), None, a function "
        f"that takes lines, or a stream to send to; not {type(choice).__name__}"
    )


async def _close_forcefully(sinks: Sequence[Sink | None]) -> None:
    """Close the streams among them, without waiting for anything."""
    async with contextlib.AsyncExitStack() as closing:
        for sink in sinks:
            if isinstance(sink, STREAMS):
                closing.push_async_callback(anyio.aclose_forcefully, sink)
