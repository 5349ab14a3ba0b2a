"""A program's output is carried to its sinks, on any backend of anyio."""

import contextlib
import math
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

import anyio
import anyio.abc

from .._spawn.outputs import Outputs
from .._spawn.sinks import Decoder, Silence, Sink
from ._streams import OutputPipe

__all__ = ["OutputStream", "Pump", "make_pumps", "stream_sink"]

_STREAMS: Final = (anyio.abc.ByteSendStream, anyio.abc.ObjectSendStream)

OutputStream: TypeAlias = anyio.abc.ByteSendStream | anyio.abc.ObjectSendStream[Any]


class _Stream(Sink):
    """Sends to a stream, and closes it at the end."""

    def __init__(self, stream: OutputStream, decode: Decoder) -> None:
        self._stream = stream
        self._decode = decode

    async def feed(self, data: bytes) -> None:
        await self._send(self._decode(data, False))

    async def end(self) -> None:
        await self._send(self._decode(b"", True))
        await self._stream.aclose()

    async def abort(self) -> None:
        await anyio.aclose_forcefully(self._stream)

    async def _send(self, item: Any) -> None:
        if item:
            await self._stream.send(item)


def stream_sink(choice: object, decode: Decoder) -> Sink | None:
    """A sink for an object that is an anyio stream to send to; None for any other object."""
    if isinstance(choice, anyio.abc.ByteSendStream):
        return _Stream(choice, lambda data, final: data)
    return _Stream(choice, decode) if isinstance(choice, _STREAMS) else None


class Pump:
    """Carries one output of a program to its sink, until it ends or a deadline has come."""

    def __init__(
        self,
        pipe: OutputPipe,
        sink: Sink,
        silence: Silence | None = None,
        turn: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        """Carry what comes out of `pipe` to `sink`.

        Args:
            pipe: nobody else may read it meanwhile.
            sink: gets the output.
            silence: is told of each chunk.
            turn: a lock that is held for each chunk, for sinks that several outputs share.
        """
        self._pipe = pipe
        self._sink = sink
        self._broken = contextlib.nullcontext if silence is None else silence.broken
        self._turn = contextlib.nullcontext() if turn is None else turn
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
                await self._pass_on(data)
            held = self._pipe.take_held()
            self._pipe.close()  # a grandchild may hold the other end
            if held:
                await self._pass_on(held)
            async with self._turn:
                await self._sink.end()
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
            try:
                return await self._pipe.stream.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                pass
        return b""

    async def _pass_on(self, data: bytes) -> None:
        async with self._turn:
            with self._broken():
                await self._sink.feed(data)


def make_pumps(
    stdout: OutputPipe | None,
    stderr: OutputPipe | None,
    outputs: Outputs,
    silence: Silence | None = None,
) -> list[Pump]:
    """The pumps that carry a program's outputs to their sinks; none for one without a sink."""
    turn = anyio.Lock() if outputs.shared else None
    return [
        Pump(pipe, sink, silence, turn)
        for pipe, sink in zip((stdout, stderr), outputs.sinks, strict=True)
        if pipe is not None and sink is not None
    ]
