"""What takes a program's output, chunk by chunk. It needs no loop: the caller's loop runs sinks."""

import asyncio
import codecs
import contextlib
import inspect
import io
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

from .._pidfd.any_loop import sleep
from .._pidfd.durations import monotonic
from .idle_timeout import Silence
from .output_limit import Capture, OutputLimitError
from .text_decoder import TextDecoder

__all__ = [
    "Decoder",
    "Feed",
    "FileSink",
    "Kept",
    "LineFunction",
    "Lines",
    "Sink",
    "Tee",
    "finish",
    "make_decoder",
]


LineFunction: TypeAlias = Callable[[Any], Awaitable[object] | object]
Decoder: TypeAlias = Callable[[bytes, bool], Any]  # (data, whether this is the last chunk)

_AT_A_STRETCH: Final = 0.005  # seconds; one chunk may hold tens of thousands of lines


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


class Lines(Sink):
    """Cuts chunks into lines of any length, and passes on each line without its line end.

    Between two lines it lets others run when it was busy for a while.
    """

    def __init__(self, function: LineFunction, decode: Decoder, *, awaits: bool = True) -> None:
        """Call `function` with each line.

        If it returns an awaitable, await that; or, if nothing can be awaited, raise TypeError.
        """
        self._function = function
        self._decode = decode
        self._awaits = awaits
        self._pieces: list[Any] = []  # the pieces of a line that has not ended yet

    async def feed(self, data: bytes) -> None:
        """Call the function with each line that ends in this chunk."""
        await self._feed(self._decode(data, False))

    async def end(self) -> None:
        """Pass on the last line, which may have no line end."""
        await self._feed(self._decode(b"", True))
        if self._pieces and (line := self._pieces[0][:0].join(self._pieces)):
            self._pieces = []
            await self._tell([line])

    async def _feed(self, chunk: Any) -> None:
        if not chunk:
            return
        lines = chunk.split("\n" if isinstance(chunk, str) else b"\n")
        self._pieces.append(lines.pop())
        if lines:
            *first, last = self._pieces
            lines[0] = lines[0][:0].join((*first, lines[0]))
            self._pieces = [last]
            await self._tell(lines)

    async def _tell(self, lines: list[Any]) -> None:
        function = self._function
        since = monotonic()
        for line in lines:
            if monotonic() - since > _AT_A_STRETCH:
                await (sleep if self._awaits else asyncio.sleep)(0)
                since = monotonic()
            result = function(line)
            if result is not None and inspect.isawaitable(result):
                if not self._awaits:
                    raise _not_awaited(function, result)
                await result


def _not_awaited(function: LineFunction, result: Any) -> TypeError:
    if inspect.iscoroutine(result):
        result.close()  # else there is a warning that nobody has awaited it
    kind = type(result).__name__
    return TypeError(
        f"{function!r} returned an awaitable, a {kind}, which a call that blocks cannot await"
    )


class FileSink(Sink):
    """Writes to a file of ours what a program would have written to it if it had inherited it.

    For a text file, bytes are written to the buffer below it. A file without one (StringIO) gets
    text.
    """

    def __init__(self, file: Any, encoding: str | None, errors: str | None) -> None:
        """Write to `file`, which stays open. By default text is UTF-8, with errors replaced.

        It is written on the loop's thread, as `print` would do.
        """
        self._text: Any = None
        self._bytes = file
        if hasattr(file, "encoding"):  # then it is a text file
            self._text, self._bytes = file, getattr(file, "buffer", None)
        decoder = codecs.getincrementaldecoder(encoding or "utf-8")
        self._decoder = decoder(errors or "replace")

    async def feed(self, data: bytes) -> None:
        """Write the chunk, and flush."""
        if self._bytes is None:
            self._write_text(data, final=False)
            return
        if self._text is not None:
            self._text.flush()
        self._write(data)
        self._flush(self._bytes)

    async def end(self) -> None:
        """Write the rest of a character that was not complete."""
        if self._bytes is None:
            self._write_text(b"", final=True)

    def _write_text(self, data: bytes, final: bool) -> None:
        if text := self._decoder.decode(data, final):
            self._text.write(text)
            self._flush(self._text)

    def _write(self, data: bytes) -> None:
        if not isinstance(self._bytes, io.RawIOBase):
            self._bytes.write(data)
            return
        view = memoryview(data)  # a file without a buffer may take only a part
        while view:
            written = self._bytes.write(view)
            if written is None:
                raise BlockingIOError(f"{self._bytes!r} does not block, and takes no more")
            view = view[written:]

    @staticmethod
    def _flush(file: Any) -> None:
        if (flush := getattr(file, "flush", None)) is not None:
            flush()


class Kept(Sink):
    """Keeps the output. What exceeds the limit is dropped, or is an error."""

    def __init__(self, capture: Capture, error: OutputLimitError | None) -> None:
        """Feed `capture`. Raise `error`, if given, when `capture` first drops something."""
        self._capture = capture
        self._error = error

    async def feed(self, data: bytes) -> None:
        """Keep as much as the limit allows."""
        self._capture.feed(data)
        if self._capture.dropped and self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback holds this frame


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
        """Abort each sink, even if one of them fails."""
        async with contextlib.AsyncExitStack() as stack:
            for sink in self._sinks:
                stack.push_async_callback(sink.abort)


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
