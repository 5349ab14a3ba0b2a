"""From each output of a program to its sink, on an asyncio loop: bytes are moved."""

import asyncio
from typing import Final

from .._spawn.idle_timeout import Silence
from .._spawn.kept_output import Outputs
from .._spawn.sinks import Feed
from .._streams.pipe_reader import OutputReader

__all__ = ["Pump", "make_pumps"]

_CHUNK: Final = 64 * 1024


class Pump:
    """Carries one output of a program to its sink, until it ends or `stop_reading` is called."""

    def __init__(self, output: OutputReader, feed: Feed) -> None:
        """Carry `output`, which nobody else may read meanwhile, to what `feed` feeds."""
        self._output = output
        self._feed = feed
        self.discarding = False
        self.stopped = False

    async def run(self) -> None:
        """Carry the output. Raises what the sink raises. Cancelled, at most the sink loses data."""
        while data := await self._read():
            await self._feed.chunk(data)
        await self._feed.end()

    async def discard(self) -> None:
        """Read on after the sink has failed: a full pipe would block a program that must end."""
        self.discarding = True
        while await self._read():
            pass

    async def _read(self) -> bytes:
        while True:
            try:
                return await self._output.reader.read(_CHUNK)
            except asyncio.CancelledError:
                if self.stopped:
                    raise
                # All tasks are cancelled, as asyncio.run() does. The program has its grace first.

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
    feeds = outputs.feeds(asyncio.Lock, silence)
    return [
        Pump(reader, feed)
        for reader, feed in zip((stdout, stderr), feeds, strict=True)
        if reader is not None and feed is not None
    ]
