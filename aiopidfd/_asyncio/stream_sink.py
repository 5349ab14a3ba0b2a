"""A stream of asyncio's as a sink: a program's output is written to it."""

import asyncio
from typing import Any

from .._spawn.sinks import Decoder, Sink
from .._streams.text import TextWriter

__all__ = ["stream_sink"]


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
