"""A file of ours that gets a program's output, as if the program had inherited it."""

import codecs
import io
from typing import Any

from .sinks import Sink

__all__ = ["FileSink"]


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
