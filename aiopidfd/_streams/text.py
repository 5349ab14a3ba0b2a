"""Text on the byte streams: a decoding reader and an encoding writer."""

import asyncio
import codecs
import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from operator import index
from typing import Final

from .._pidfd.not_copyable import Owner
from .._spawn.text_decoder import TextDecoder
from .cut_lines import Ahead, iterate
from .pipe_reader import PipeReader
from .pipe_writer import PipeWriter

__all__ = ["TextOutputReader", "TextReader", "TextWriter"]

_CHUNK: Final = 64 * 1024


class TextReader(Owner):
    r"""A program's stdout or stderr as text, with "\r\n" and "\r" read as "\n".

    Lines may be of any length. A cancelled call loses nothing: the next call goes on from there.

    Attributes:
        buffer: the byte stream below. What you read from it is missing here.
        encoding: the encoding's name.
        errors: what is done with bytes that cannot be decoded, as in `bytes.decode`.
    """

    def __init__(
        self,
        buffer: PipeReader,
        encoding: str,
        errors: str | None = None,
        *,
        _inside: "TextOutputReader | None" = None,
    ) -> None:
        """Read text from a byte stream. Raises LookupError: there is no such encoding."""
        if _inside is not None:
            _inside.finish = self._finish
        self.buffer = buffer
        self.encoding = encoding
        self.errors: str = errors or "strict"
        self._decoder = TextDecoder(encoding, errors)
        self._undecoded: deque[bytes] = deque()  # the lines of a chunk that cannot be decoded whole
        self._text = ""  # decoded text, of which the part from _at on was not read
        self._at = 0
        self._later: list[str] = []  # text that was decoded after _text
        self._ahead = Ahead("\n")
        self._ended = False

    def __repr__(self) -> str:
        """The encoding and the byte stream below."""
        return f"<{type(self).__name__} encoding={self.encoding!r} buffer={self.buffer!r}>"

    async def read(self, n: int = -1) -> str:
        """Up to n characters, or "" at the end. With a negative n, all text up to the end."""
        n = index(n)
        if self._ahead.size:
            self._settle()
        if 0 <= n <= len(self._text) - self._at:  # a short way, so that small pieces cost little
            start = self._at
            self._at = start + n
            return self._text[start : self._at]
        if n < 0:
            return self._finish(await self.buffer.read())
        while self._at == len(self._text) and not self._ended:
            await self._fetch()
            self._join()
        return self._take(self._at + n if n > 0 else len(self._text))

    async def readexactly(self, n: int) -> str:
        """Exactly `n` characters.

        Raises:
            asyncio.IncompleteReadError: the output has ended too early; `partial` has what was
                left.
            ValueError: n is negative.
        """
        n = index(n)
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        self._settle()
        there = len(self._text) - self._at + sum(map(len, self._later))
        while there < n and not self._ended:
            there += len(await self._fetch())
        self._join()
        if there < n:
            raise _incomplete(self._take(len(self._text)), n)
        return self._take(self._at + n)

    async def readuntil(self, separator: str = "\n") -> str:
        """The text up to a separator, and the separator. It may be of any length.

        Raises:
            asyncio.IncompleteReadError: the output has ended too early; `partial` has what was
                left.
            ValueError: the separator is empty.
            TypeError: the separator is not a str.
        """
        if not isinstance(separator, str):
            raise TypeError(f"separator must be str, not {type(separator).__name__}")
        if not separator:
            raise ValueError("Separator should be at least one-character string")
        text = await self._until(separator)
        if not text.endswith(separator):
            raise _incomplete(text, None)
        return text

    async def readline(self) -> str:
        r"""One line with its "\n", which only the last line may lack; "" at the end."""
        for line in self._ahead.lines:
            return line  # type: ignore[no-any-return]
        line = await self._until("\n")
        self._ahead.cut(self._text, self._at)
        return line

    def lines(self) -> AsyncIterator[str]:
        """Iterate over lines, as `PipeReader.lines`. Iterating over the reader does the same."""
        return iterate(self._ahead, self.readline)

    def __aiter__(self) -> AsyncIterator[str]:
        """Iterate over lines."""
        return self.lines()

    def at_eof(self) -> bool:
        """Whether all text was read and no more will come."""
        waiting = self._later or self._undecoded
        unread = len(self._text) - self._at
        return not waiting and self._ahead.are_all(unread) and self.buffer.at_eof()

    def close(self) -> None:
        """Close our end, as `PipeReader.close`."""
        self.buffer.close()

    async def _until(self, separator: str) -> str:
        """The text up to the separator, with the separator; or all that is left, at the end."""
        self._settle()
        self._join()
        end = self._text.find(separator, self._at)
        # No text is searched twice, except where two chunks meet.
        overlap = len(separator) - 1
        border = self._text[max(self._at, len(self._text) - overlap) :] if overlap else ""
        while end < 0 and not self._ended:
            border += await self._fetch()
            if separator in border:
                self._join()
                end = self._text.find(separator, self._at)
            border = border[-overlap:] if overlap else ""
        self._join()
        return self._take(end + len(separator) if end >= 0 else len(self._text))

    async def _fetch(self) -> str:
        """Wait for more text and keep it for later. "" is not the end: `_ended` tells that."""
        if not self._undecoded:
            data = await self.buffer.read(_CHUNK)
            self._settle()  # another task may have read meanwhile, and cut lines
            if not data:
                self._ended = self.buffer.at_eof()  # if False, another task was faster
                return self._decode(data, final=self._ended)
            try:
                text = self._decoder.decode(data)
            except UnicodeDecodeError:
                self._undecoded.extend(io.BytesIO(data))  # the lines before the error are good
            else:
                self._later.append(text)
                if len(data) == _CHUNK:
                    await asyncio.sleep(0)  # there is more already: give other tasks a turn
                    self._settle()
                return text
        return self._decode(self._undecoded.popleft())

    def _finish(self, data: bytes) -> str:
        """Take all text that is left, and that of `data`, which is the rest of the output."""
        self._settle()
        data = b"".join([*self._undecoded, data])
        self._undecoded.clear()
        self._ended = True
        self._decode(data, final=True)
        self._join()
        return self._take(len(self._text))

    def _decode(self, data: bytes, final: bool = False) -> str:
        """Keep the text for later. Bytes that cannot be decoded are lost; the error tells of it."""
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            self._decoder.reset()
            raise
        self._later.append(text)
        return text

    def _settle(self) -> None:
        self._at += self._ahead.settle()

    def _join(self) -> None:
        if self._later:
            self._text = "".join([self._text[self._at :], *self._later])
            self._at = 0
            self._later.clear()

    def _take(self, end: int) -> str:
        text = self._text[self._at : end]
        self._at += len(text)
        return text


class TextOutputReader:
    """One output of a program as text: the reader that its user has, and what only we may do.

    Attributes:
        reader: what the user has.
        finish: take all text that is left, and that of the bytes given, which are the last ones.
    """

    reader: TextReader
    finish: Callable[[bytes], str]

    def __init__(self, buffer: PipeReader, encoding: str, errors: str | None) -> None:
        """Make the reader. Raises LookupError: there is no such encoding."""
        self.reader = TextReader(buffer, encoding, errors, _inside=self)


def _incomplete(partial: str, expected: int | None) -> asyncio.IncompleteReadError:
    error = asyncio.IncompleteReadError(b"", expected)
    error.partial = partial  # type: ignore[assignment]
    total = "undefined" if expected is None else expected
    error.args = (f"{len(partial)} characters read on a total of {total} expected characters",)
    return error


class TextWriter(Owner):
    """A program's stdin as text.

    Attributes:
        buffer: the byte stream below.
        encoding: the encoding's name.
        errors: what is done with characters that the encoding lacks, as in `str.encode`.
    """

    def __init__(self, buffer: PipeWriter, encoding: str, errors: str | None = None) -> None:
        """Write text to a byte stream. Raises LookupError: there is no such encoding."""
        self.buffer = buffer
        self.encoding = encoding
        self.errors: str = errors or "strict"
        self._encoder = codecs.getincrementalencoder(encoding)(self.errors)

    def __repr__(self) -> str:
        """The encoding and the byte stream below."""
        return f"<{type(self).__name__} encoding={self.encoding!r} buffer={self.buffer!r}>"

    def write(self, text: str) -> None:
        """Write text. `drain` waits until the program has taken enough of it.

        Raises:
            TypeError: not a str.
            UnicodeEncodeError: the encoding lacks a character.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.buffer.write(self._encoder.encode(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each item of `lines`."""
        for line in lines:
            self.write(line)

    async def drain(self) -> None:
        """Wait, as `asyncio.StreamWriter.drain` does."""
        await self.buffer.drain()

    def close(self) -> None:
        """Close when all is written. Then the program reads the end of file."""
        self.buffer.close()

    def write_eof(self) -> None:
        """Do the same as `close`."""
        self.buffer.write_eof()

    def is_closing(self) -> bool:
        """Whether it is closed or closing, as `asyncio.StreamWriter.is_closing`."""
        return self.buffer.is_closing()

    async def wait_closed(self) -> None:
        """Wait, as `asyncio.StreamWriter.wait_closed` does."""
        await self.buffer.wait_closed()
