"""Attending programs to their end: their output is carried to its sinks until they have exited."""

import asyncio
import contextlib
import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from .._spawn.capture import add_failure, raise_all
from .._spawn.hub import attending
from .._spawn.outputs import Outputs
from .._spawn.registry import Remaining
from .._spawn.sinks import Decoder, Silence, Sink
from .._spawn.tree import kill_now
from .._streams.streams import OutputReader
from .._streams.text import TextWriter
from .end_program import end_all
from .watch import Watch

__all__ = ["DRAIN", "Pump", "attend", "make_pumps", "stream_sink"]

DRAIN: Final = 1.0  # seconds: enough for a `tee` that ends after the program does
_CHUNK: Final = 64 * 1024


class _Writer(Sink):
    """Writes to an asyncio stream (a socket, or another program's stdin), and closes it at the end.

    A slow stream makes the program wait.
    """

    def __init__(self, writer: asyncio.StreamWriter | TextWriter, decode: Decoder) -> None:
        self._writer: Any = writer
        self._decode = decode

    async def feed(self, data: bytes) -> None:
        await self._write(self._decode(data, False))

    async def end(self) -> None:
        await self._write(self._decode(b"", True))
        self._writer.close()
        await self._writer.wait_closed()

    async def abort(self) -> None:
        stream = self._writer.buffer if isinstance(self._writer, TextWriter) else self._writer
        stream.transport.abort()

    async def _write(self, item: Any) -> None:
        if item:
            self._writer.write(item)
            await self._writer.drain()


def stream_sink(choice: object, decode: Decoder) -> Sink | None:
    """A sink for an object that is an asyncio stream to write to; None for any other object."""
    if isinstance(choice, TextWriter):
        return _Writer(choice, decode)
    if isinstance(choice, asyncio.StreamWriter):
        return _Writer(choice, lambda data, final: data)
    return None


class Pump:
    """Carries one output of a program to its sink, until it ends or `stop_reading` is called."""

    def __init__(
        self,
        output: OutputReader,
        sink: Sink,
        silence: Silence | None = None,
        turn: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        """Carry an output to `sink`.

        Args:
            output: nobody else may read it meanwhile.
            sink: gets the output.
            silence: is told of each chunk.
            turn: a lock that is held for each chunk, for sinks that several outputs share.
        """
        self._output = output
        self._sink = sink
        self._broken = contextlib.nullcontext if silence is None else silence.broken
        self._turn = contextlib.nullcontext() if turn is None else turn
        self.discarding = False

    async def run(self) -> None:
        """Carry the output. Raises what the sink raises. Cancelled, at most the sink loses data."""
        while data := await self._output.reader.read(_CHUNK):
            async with self._turn:
                with self._broken():
                    await self._sink.feed(data)
        async with self._turn:
            await self._sink.end()

    async def discard(self) -> None:
        """Read on after the sink has failed: a full pipe would block a program that must end."""
        self.discarding = True
        while await self._output.reader.read(_CHUNK):
            pass

    def stop_reading(self) -> None:
        """Stop waiting for the pipe. What it holds now is still carried, however slow the sink is.

        A grandchild may hold the other end of the pipe. It then has no reader any more.
        """
        self._output.close_after_exit()


def make_pumps(
    stdout: OutputReader | None,
    stderr: OutputReader | None,
    outputs: Outputs,
    silence: Silence | None = None,
) -> list[Pump]:
    """The pumps that carry a program's outputs to their sinks; none for one without a sink."""
    turn = asyncio.Lock() if outputs.shared else None
    return [
        Pump(reader, sink, silence, turn)
        for reader, sink in zip((stdout, stderr), outputs.sinks, strict=True)
        if reader is not None and sink is not None
    ]


class _Attendance:
    """Some programs that run, and the pumps that carry their output."""

    def __init__(self, watches: Sequence[Watch], pumps: Sequence[Pump]) -> None:
        self._watches = watches
        self._remaining = Remaining(watches, lambda watch: watch.alive)
        self._pumps = pumps
        self._loop = asyncio.get_running_loop()
        self._changed = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.failures: list[Exception] = []
        self._tasks = [self._loop.create_task(self._carry(pump)) for pump in pumps]

    def over(self) -> bool:
        """Whether all of the programs have exited."""
        return not self._remaining

    def fail(self, exc: Exception) -> None:
        """Record that something went wrong, so that the programs will be ended."""
        add_failure(self.failures, exc)
        self._wake()

    def listen(self, silence: Silence) -> None:
        """Fail when the programs have been silent for too long."""
        if (left := silence.left()) > 0:
            self._timer = self._loop.call_later(left, self.listen, silence)
        else:
            self.fail(silence.error())

    async def until_over(self) -> None:
        """Wait until all of the programs have exited, or something went wrong."""
        for watch in self._watches:
            if watch.alive:
                watch.on_exit(self._look)
        self._look()
        await self._changed

    async def finish(self, drain: float | None) -> None:
        """Wait `drain` seconds for the pipes to close; then carry all that they still hold."""
        for pump in self._pumps:
            if pump.discarding:
                pump.stop_reading()
        waiting = await self._wait(drain)
        for pump in self._pumps:
            pump.stop_reading()
        if waiting:
            await self._wait(None)

    async def finish_soon(self, drain: float | None) -> None:
        """As `finish`, for a caller who wants to leave: never for ever, whatever `drain` is."""
        if await self._wait(DRAIN if drain is None else drain):
            await self.stop()

    async def stop(self) -> None:
        """Stop carrying the output. A cancellation is raised once the pumps have stopped."""
        self.stop_now()
        cancelled: asyncio.CancelledError | None = None
        while any(not task.done() for task in self._tasks):
            try:
                await self._wait(None)
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            raise cancelled

    def stop_now(self) -> None:
        """Stop carrying the output, for a caller who cannot await the end of the pumps."""
        self._stopped = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            for task in self._tasks:
                task.cancel()

    def close(self) -> None:
        """Stop the timer, and listen to the programs no longer."""
        if self._timer is not None:
            self._timer.cancel()
        for watch in self._watches:
            watch.forget_exit(self._look)

    async def _wait(self, seconds: float | None) -> bool:
        """Wait for the pumps, at most `seconds`. Returns whether some of them still run."""
        if not self._tasks:
            return False
        seconds = None if seconds == math.inf else seconds
        return bool((await asyncio.wait(self._tasks, timeout=seconds))[1])

    async def _carry(self, pump: Pump) -> None:
        try:
            await pump.run()
        except asyncio.CancelledError as exc:
            if self._stopped:
                raise
            error = RuntimeError("what a sink for a program's output awaited was cancelled")
            error.__cause__ = exc
            self.fail(error)
        except Exception as exc:
            self.fail(exc)
        else:
            return
        if not self.over():
            await pump.discard()

    def _look(self) -> None:
        if self.over():
            self._wake()

    def _wake(self) -> None:
        if not self._changed.done():
            self._changed.set_result(None)


async def attend(
    watches: Sequence[Watch],
    pumps: Sequence[Pump],
    grace: float,
    drain: float | None,
    *,
    silence: Silence | None = None,
    ends: bool = True,
) -> None:
    """Attend programs to their end: carry their output, and end them if something goes wrong.

    Args:
        watches: the programs. They share one period of grace.
        pumps: carry the output of the programs.
        grace, drain: seconds, as in `run_process`.
        silence: measures how long the programs have been silent, and how long they may be.
        ends: whether a cancellation ends the programs. If not, the programs go on, and the output
            that was not read yet stays where it is.

    Raises:
        Exception: what a sink raised; the programs were ended.
        OutputLimitError, IdleTimeoutError: a limit was broken; the programs were ended.
        PermissionError: we may not end one of the programs.
        ExceptionGroup: several of these errors.
    """
    attendance = _Attendance(watches, pumps)
    failures = attendance.failures
    heard = contextlib.ExitStack()
    try:
        heard.enter_context(attending())
        if silence is not None:
            attendance.listen(silence)
        await attendance.until_over()
        attendance.close()
        if failures:
            try:
                await end_all(watches, grace)
            except PermissionError as exc:
                failures.append(exc)
        await attendance.finish(drain)
    except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
        for watch in watches:
            kill_now(watch.program)
        attendance.stop_now()
        raise
    except BaseException:
        if ends and not attendance.over():
            try:
                await end_all(watches, grace)
                await attendance.finish_soon(drain)
            finally:
                await attendance.stop()
        else:
            await attendance.stop()
        raise
    finally:
        attendance.close()
        heard.close()
    raise_all(failures)
