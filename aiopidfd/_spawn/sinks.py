"""What takes a program's output, chunk by chunk. No loop: what a sink awaits is the caller's."""

import codecs
import contextlib
import inspect
import io
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeAlias

from .capture import Capture, IdleTimeoutError, OutputLimitError
from .decoding import TextDecoder

__all__ = [
    "Decoder",
    "FileSink",
    "Kept",
    "LineFunction",
    "Lines",
    "Silence",
    "Sink",
    "Tee",
    "listen",
    "make_decoder",
]


LineFunction: TypeAlias = Callable[[Any], Awaitable[object] | object]
Decoder: TypeAlias = Callable[[bytes, bool], Any]  # (data, whether they are the last)


class Sink:
    """Takes one output of a program, chunk by chunk."""

    async def feed(self, data: bytes) -> None:
        """Take a chunk."""
        raise NotImplementedError

    async def end(self) -> None:
        """The output has ended."""

    async def abort(self) -> None:
        """Nobody carries the output any more, before its end or after it. Waits for nothing."""


def make_decoder(encoding: str | None, errors: str | None) -> Decoder:
    r"""What turns chunks of bytes into chunks of what a sink gets: bytes, or text.

    Text has "\r\n" and "\r" read as "\n", see `TextDecoder`.
    """
    if encoding is None:
        return lambda data, final: data
    return TextDecoder(encoding, errors).decode


class Lines(Sink):
    """Cuts chunks into lines of any length, and hands on each without its line end."""

    def __init__(self, function: LineFunction, decode: Decoder) -> None:
        """Call `function` with each line; await what it returns, if that can be awaited."""
        self._function = function
        self._decode = decode
        self._pieces: list[Any] = []  # of a line that has not ended yet

    async def feed(self, data: bytes) -> None:
        """Call the function with each line that ends here."""
        await self._feed(self._decode(data, False))

    async def end(self) -> None:
        """The last line may have no line end."""
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
        for line in lines:
            result = function(line)
            if result is not None and inspect.isawaitable(result):
                await result


class FileSink(Sink):
    """Writes to a file of ours what a program that had inherited it would have written to it.

    A text file gets bytes in the buffer below it. One that has none, a StringIO, gets text.
    """

    def __init__(self, file: Any, encoding: str | None, errors: str | None) -> None:
        """Write to `file`, which stays open. Text is UTF-8, and what is none replaced, if not said.

        It is written on the loop's thread, as `print` would do it.
        """
        self._text: Any = None
        self._bytes = file
        if hasattr(file, "encoding"):  # a text file
            self._text, self._bytes = file, getattr(file, "buffer", None)
        decoder = codecs.getincrementaldecoder(encoding or "utf-8")
        self._decoder = decoder(errors or "replace")

    async def feed(self, data: bytes) -> None:
        """Write it, and flush."""
        if self._bytes is None:
            self._write_text(data, final=False)
            return
        if self._text is not None:
            self._text.flush()
        self._write(data)
        self._flush(self._bytes)

    async def end(self) -> None:
        """Write what is left of a character."""
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
        view = memoryview(data)  # without a buffer a file may take a part of it
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
    """Keeps the output. What goes beyond the limit is dropped, or is an error."""

    def __init__(self, capture: Capture, error: OutputLimitError | None) -> None:
        """Feed `capture`; raise `error`, if there is one, when it first drops something."""
        self._capture = capture
        self._error = error

    async def feed(self, data: bytes) -> None:
        """Keep what there is room for."""
        self._capture.feed(data)
        if self._capture.dropped and self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # it holds this frame


class Tee(Sink):
    """Gives each chunk to several sinks, one after the other."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        """The order is theirs."""
        self._sinks = [*sinks]

    async def feed(self, data: bytes) -> None:
        """To each of them."""
        for sink in self._sinks:
            await sink.feed(data)

    async def end(self) -> None:
        """Of each of them."""
        for sink in self._sinks:
            await sink.end()

    async def abort(self) -> None:
        """Each of them, also when one of them fails."""
        async with contextlib.AsyncExitStack() as stack:
            for sink in self._sinks:
                stack.push_async_callback(sink.abort)


class Silence:
    """How long nothing has come from a program that may be silent for so long only."""

    def __init__(self, command: Any, allowed: float, clock: Callable[[], float]) -> None:
        """Count from now on, by a clock that tells seconds."""
        self._command = command
        self._allowed = allowed
        self._clock = clock
        self._since = clock()
        self._busy = 0

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Something has come. While our own sinks are busy with it the program cannot speak."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._since = self._clock()

    def left(self) -> float:
        """Seconds until it will have been too long, if nothing comes; 0 or less: it has been."""
        return self._allowed + (0 if self._busy else self._since - self._clock())

    def error(self) -> IdleTimeoutError:
        """What is raised then."""
        return IdleTimeoutError(self._command, self._allowed)


def listen(command: Any, seconds: float | None, clock: Callable[[], float]) -> Silence | None:
    """Count the silence of a program from now on; None if it may be silent for ever."""
    if seconds is None or seconds == math.inf:
        return None
    return Silence(command, seconds, clock)
