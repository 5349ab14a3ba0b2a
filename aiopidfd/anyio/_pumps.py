"""A program's output is carried to its sinks, on any backend of anyio."""

import math

import anyio

from .._spawn.idle_timeout import Silence
from .._spawn.kept_output import Outputs
from .._spawn.sinks import Feed
from ._streams import OutputPipe

__all__ = ["Pump", "make_pumps"]


class Pump:
    """Carries one output of a program to its sink, until it ends or a deadline has come."""

    def __init__(self, pipe: OutputPipe, feed: Feed) -> None:
        """Carry what comes out of `pipe`, which nobody else may read, to what `feed` feeds."""
        self._pipe = pipe
        self._feed = feed
        self._deadline = math.inf
        self._discarding = False
        self._reading: anyio.CancelScope | None = None
        self.ended = anyio.Event()

    def stop_reading_at(self, deadline: float) -> None:
        """Stop waiting for the pipe at a deadline.

        What it holds then is still carried, however slow the sink is.

        Args:
            deadline: a time of the clock of `anyio.current_time`.
        """
        self._deadline = -math.inf if self._discarding else deadline
        if self._reading is not None:
            self._reading.deadline = self._deadline

    async def run(self) -> None:
        """Carry the output. Raises what the sink raises."""
        try:
            while data := await self._receive():
                await self._feed.chunk(data)
            held = self._pipe.take_held()
            self._pipe.close()  # a grandchild may hold the other end
            if held:
                await self._feed.chunk(held)
            await self._feed.end()
        finally:
            self.ended.set()

    async def discard(self) -> None:
        """Read on after the sink has failed: a full pipe would block a program that must end."""
        self._discarding = True
        while await self._receive():
            pass

    async def _receive(self) -> bytes:
        """A chunk; b"" at the end, at the deadline, or when the user has closed the pipe."""
        with anyio.CancelScope(deadline=self._deadline) as self._reading:
            while True:
                try:
                    return await self._pipe.stream.receive()
                except (anyio.EndOfStream, anyio.ClosedResourceError):
                    break
                except anyio.get_cancelled_exc_class():
                    if anyio.current_effective_deadline() == -math.inf:
                        raise
                    # All tasks are cancelled, as asyncio.run() does, and no scope of anyio's. The
                    # program has its grace first.
        return b""


def make_pumps(
    stdout: OutputPipe | None,
    stderr: OutputPipe | None,
    outputs: Outputs,
    silence: Silence | None = None,
) -> list[Pump]:
    """The pumps that carry a program's outputs to their sinks; none for one without a sink."""
    feeds = outputs.feeds(anyio.Lock, silence)
    return [
        Pump(pipe, feed)
        for pipe, feed in zip((stdout, stderr), feeds, strict=True)
        if pipe is not None and feed is not None
    ]
