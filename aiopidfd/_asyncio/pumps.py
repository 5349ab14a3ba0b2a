"""From each output of a program to its sink, on an asyncio loop: bytes are moved."""

import asyncio
from typing import Any, Final

from .._spawn.idle_timeout import Silence
from .._spawn.kept_output import Outputs
from .._spawn.sinks import Decoder, Feed, Sink
from .._streams.pipe_reader import OutputReader
from .._streams.text import TextWriter

__all__ = ["Pump", "make_pumps", "stream_sink"]

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

    def __init__(self, output: OutputReader, feed: Feed) -> None:
        """Carry `output`, which nobody else may read meanwhile, to what `feed` feeds."""
        self._output = output
        self._feed = feed
        self.discarding = False

    async def run(self) -> None:
        """Carry the output. Raises what the sink raises. Cancelled, at most the sink loses data."""
        while data := await self._output.reader.read(_CHUNK):
            await self._feed.chunk(data)
        await self._feed.end()

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
    feeds = outputs.feeds(asyncio.Lock, silence)
    return [
        Pump(reader, feed)
        for reader, feed in zip((stdout, stderr), feeds, strict=True)
        if reader is not None and feed is not None
    ]
