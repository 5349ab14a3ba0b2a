"""What takes a program's output, chunk by chunk. It needs no loop: the caller's loop runs sinks."""

import contextlib
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from .idle_timeout import Silence
from .log import logger
from .text_decoder import TextDecoder

__all__ = [
    "Decoder",
    "Feed",
    "Sink",
    "Tee",
    "finish",
    "make_decoder",
]


Decoder: TypeAlias = Callable[[bytes, bool], Any]  # (data, whether this is the last chunk)


class Sink:
    """Takes one output of a program, chunk by chunk."""

    async def feed(self, data: bytes) -> None:
        """Take a chunk."""
        raise NotImplementedError

    async def end(self) -> None:
        """Take note that the output has ended."""

    async def abort(self) -> None:
        """Take note that nobody carries the output any more, ended or not. Waits for nothing."""


def make_decoder(encoding: str | None, errors: str | None) -> Decoder:
    r"""A function that turns chunks of bytes into what a sink gets: bytes, or text.

    In text "\r\n" and "\r" are read as "\n", see `TextDecoder`.
    """
    if encoding is None:
        return lambda data, final: data
    return TextDecoder(encoding, errors).decode


class Tee(Sink):
    """Gives each chunk to several sinks, one after the other."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        """Give chunks to these sinks, in this order."""
        self._sinks = [*sinks]

    async def feed(self, data: bytes) -> None:
        """Give the chunk to each sink."""
        for sink in self._sinks:
            await sink.feed(data)

    async def end(self) -> None:
        """Tell each sink that the output has ended."""
        for sink in self._sinks:
            await sink.end()

    async def abort(self) -> None:
        """Abort each sink. An error goes to the log: what is raised is why it was aborted."""
        async with contextlib.AsyncExitStack() as stack:
            for sink in self._sinks:
                stack.push_async_callback(_abort, sink)


async def _abort(sink: Sink) -> None:
    try:
        await sink.abort()
    except Exception:
        logger.exception("A sink of a program's output could not be closed")


def finish(step: Coroutine[Any, Any, None], let_others: Callable[[], object]) -> None:
    """Run one call of a sink to its end, without a loop.

    Where the sink lets others run, `let_others` is called; if that raises, the call ends there.
    """
    with contextlib.suppress(StopIteration), contextlib.closing(step):
        while True:
            step.send(None)
            let_others()


class Feed:
    """Passes one output of a program on to its sink."""

    def __init__(
        self, sink: Sink, turn: AbstractAsyncContextManager[object], silence: Silence | None
    ) -> None:
        """Pass on to `sink`.

        Args:
            sink: gets the output.
            turn: is held for each chunk: a lock, for a sink that several outputs share.
            silence: is told of each chunk.
        """
        self._sink = sink
        self._turn = turn
        self._broken = contextlib.nullcontext if silence is None else silence.broken

    async def chunk(self, data: bytes) -> None:
        """Pass on a chunk. Raises what the sink raises."""
        async with self._turn:
            with self._broken():
                await self._sink.feed(data)

    async def end(self) -> None:
        """Pass on the end of the output. Raises what the sink raises."""
        async with self._turn:
            await self._sink.end()
