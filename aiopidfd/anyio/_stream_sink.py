"""A stream of anyio's as a sink: a program's output is sent to it."""

from typing import Any, Final, TypeAlias

import anyio
import anyio.abc

from .._spawn.sinks import Decoder, Sink

__all__ = ["OutputStream", "stream_sink"]

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
