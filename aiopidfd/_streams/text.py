"""Text over the byte streams: decoding reader and encoding writer, for who asked for text."""

import codecs
import io
import locale
from collections.abc import AsyncIterator, Iterable

from .._pidfd.owner import Owner
from .streams import PipeReader, PipeWriter

__all__ = ["TextReader", "TextWriter", "decode_output", "text_encoding"]

_CHUNK = 64 * 1024


def text_encoding(text: bool | None, encoding: str | None, errors: str | None) -> str | None:
    """The encoding that these options ask for, or None for bytes. As subprocess decides it.

    Raises:
        LookupError: there is no such text encoding, or no such way to treat errors.
    """
    if not (text or encoding or errors):
        return None
    name = encoding or locale.getencoding()
    " ".encode(name)
    codecs.lookup_error(errors or "strict")
    return name


def decode_output(data: bytes, encoding: str, errors: str | None) -> str:
    """A program's whole output as text, with universal newlines, as subprocess decodes it."""
    return data.decode(encoding, errors or "strict").replace("\r\n", "\n").replace("\r", "\n")


class TextReader(Owner):
    r"""The child's stdout or stderr as text, with "\r\n" and "\r" read as "\n".

    Lines may be of any length. A cancelled call loses nothing: the next one goes on from there.

    Attributes:
        buffer: the byte stream below. What is read there is missing here.
        encoding: the encoding's name.
        errors: what is done about bytes that are none, as in `bytes.decode`.
    """

    def __init__(self, buffer: PipeReader, encoding: str, errors: str | None = None) -> None:
        """Read text from a byte stream. LookupError: no such encoding."""
        self.buffer = buffer
        self.encoding = encoding
        self.errors = errors or "strict"
        decoder = codecs.getincrementaldecoder(encoding)(self.errors)
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._text = ""
        self._ended = False

    def __repr__(self) -> str:
        """The encoding, and the byte stream below."""
        return f"<{type(self).__name__} encoding={self.encoding!r} buffer={self.buffer!r}>"

    async def read(self, n: int = -1) -> str:
        """Up to n characters, or "" at the end; with a negative n, all there is."""
        if n == 0:
            return ""
        if n < 0:
            self._feed(await self.buffer.read())
            self._feed(b"")
            return self._take(len(self._text))
        while not self._text and not self._ended:
            self._feed(await self.buffer.read(_CHUNK))
        return self._take(n)

    async def readline(self) -> str:
        r"""One line with its "\n", or "" at the end; a last line may have none."""
        seen = 0
        while (end := self._text.find("\n", seen)) < 0 and not self._ended:
            seen = len(self._text)
            self._feed(await self.buffer.next_line())
        return self._take(end + 1 if end >= 0 else len(self._text))

    async def lines(self) -> AsyncIterator[str]:
        """Line after line, as `PipeReader.lines`. Iterating over the reader does the same."""
        while line := await self.readline():
            yield line

    def __aiter__(self) -> AsyncIterator[str]:
        """Line after line."""
        return self.lines()

    def finish(self, data: bytes) -> str:
        """The text that was decoded but not read, and that of the last bytes, which are given."""
        self._feed(data)
        self._feed(b"")
        self._decoder.reset()
        return self._take(len(self._text))

    def at_eof(self) -> bool:
        """Whether all was read."""
        return not self._text and self.buffer.at_eof()

    def close(self) -> None:
        """As `PipeReader.close`."""
        self.buffer.close()

    def _feed(self, data: bytes) -> None:
        self._text += self._decoder.decode(data, final=not data)
        self._ended = self._ended or not data

    def _take(self, size: int) -> str:
        text, self._text = self._text[:size], self._text[size:]
        return text


class TextWriter(Owner):
    """The child's stdin as text.

    Attributes:
        buffer: the byte stream below.
        encoding: the encoding's name.
        errors: what is done about characters that it lacks, as in `str.encode`.
    """

    def __init__(self, buffer: PipeWriter, encoding: str, errors: str | None = None) -> None:
        """Write text to a byte stream. LookupError: no such encoding."""
        self.buffer = buffer
        self.encoding = encoding
        self.errors = errors or "strict"
        self._encoder = codecs.getincrementalencoder(encoding)(self.errors)

    def __repr__(self) -> str:
        """The encoding, and the byte stream below."""
        return f"<{type(self).__name__} encoding={self.encoding!r} buffer={self.buffer!r}>"

    def write(self, text: str) -> None:
        """Write text; `drain` waits until the child has taken enough of it."""
        self.buffer.write(self._encoder.encode(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    async def drain(self) -> None:
        """As `asyncio.StreamWriter.drain`."""
        await self.buffer.drain()

    def close(self) -> None:
        """Close once all is written: the child reads the end of file."""
        self.buffer.close()

    def write_eof(self) -> None:
        """The same as `close`."""
        self.buffer.write_eof()

    def is_closing(self) -> bool:
        """As `asyncio.StreamWriter.is_closing`."""
        return self.buffer.is_closing()

    async def wait_closed(self) -> None:
        """As `asyncio.StreamWriter.wait_closed`."""
        await self.buffer.wait_closed()
