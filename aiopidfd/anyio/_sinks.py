"""Where a supervised program's output goes: lines to a callable, or chunks to a stream."""

import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import anyio
import anyio.abc

from .._streams.text import TextDecoder
from ._streams import ReceivePipe

__all__ = ["STREAMS", "LineSink", "Pump", "Sink", "make_decoder"]

STREAMS: Final = (anyio.abc.ByteSendStream, anyio.abc.ObjectSendStream)


SinkStream: TypeAlias = anyio.abc.ByteSendStream | anyio.abc.ObjectSendStream[Any]
LineSink: TypeAlias = Callable[[Any], Awaitable[object] | object]
Sink: TypeAlias = LineSink | SinkStream
Decoder: TypeAlias = Callable[[bytes, bool], Any]  # (data, whether they are the last)


def make_decoder(sink: Sink | None, encoding: str | None, errors: str | None) -> Decoder:
    r"""What turns chunks of bytes into chunks of what the sink gets: bytes, or text.

    Text has "\r\n" and "\r" read as "\n", see `TextDecoder`. A stream of bytes gets those.
    """
    if encoding is None or isinstance(sink, anyio.abc.ByteSendStream):
        return lambda data, final: data
    return TextDecoder(encoding, errors).decode


class Pump:
    """Carries one output of a program to its sink, up to its end or to a deadline."""

    def __init__(self, pipe: ReceivePipe, sink: Sink, decode: Decoder) -> None:
        """Carry what comes out of `pipe` to `sink`, through `decode`."""
        self._pipe = pipe
        self._decode = decode
        self._deadline = math.inf
        self._discarding = False
        self._reading: anyio.CancelScope | None = None
        if isinstance(sink, STREAMS):
            self._take: Callable[[Any], Awaitable[object]] = sink.send
            self._end: Callable[[], Awaitable[object]] = sink.aclose
        else:
            lines = _Lines(sink)
            self._take, self._end = lines.feed, lines.end
        self.ended = anyio.Event()

    def stop_reading_at(self, deadline: float) -> None:
        """Wait no longer for the pipe. What it holds then is still carried, however slow the sink.

        Args:
            deadline: by `anyio.current_time`.
        """
        self._deadline = -math.inf if self._discarding else deadline
        if self._reading is not None:
            self._reading.deadline = self._deadline

    async def run(self) -> None:
        """Do it. Raises whatever the sink does."""
        try:
            while data := await self._receive():
                await self._pass_on(data, final=False)
            held = self._pipe.take_held()
            self._pipe.close()  # a grandchild may hold the other end
            await self._pass_on(held, final=True)
            await self._end()
        finally:
            self.ended.set()

    async def discard(self) -> None:
        """For a sink that has failed: read on, or the program that is to end would block."""
        self._discarding = True
        while await self._receive():
            pass

    async def _receive(self) -> bytes:
        """A chunk; b"" at the end, or when it is time, or when the user has closed the pipe."""
        with anyio.CancelScope(deadline=self._deadline) as self._reading:
            try:
                return await self._pipe.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                pass
        return b""

    async def _pass_on(self, data: bytes, final: bool) -> None:
        if item := self._decode(data, final):
            await self._take(item)


class _Lines:
    """Cuts chunks into lines of any length, and hands on each without its line end."""

    def __init__(self, function: LineSink) -> None:
        self._function = function
        self._pieces: list[Any] = []  # of a line that has not ended yet

    async def feed(self, chunk: Any) -> None:
        """Hand on the lines that a chunk completes."""
        lines = chunk.split("\n" if isinstance(chunk, str) else b"\n")
        unfinished = lines.pop()
        if lines:
            lines[0] = self._finished(lines[0])
            for line in lines:
                result = self._function(line)
                if result is not None and inspect.isawaitable(result):
                    await result
        self._pieces.append(unfinished)

    async def end(self) -> None:
        """The last line may have no line end."""
        if self._pieces and (line := self._finished(self._pieces[0][:0])):
            result = self._function(line)
            if inspect.isawaitable(result):
                await result

    def _finished(self, last: Any) -> Any:
        line = last[:0].join([*self._pieces, last])
        self._pieces.clear()
        return line
