"""A program's output as text, chunk by chunk."""

import codecs

__all__ = ["TextDecoder"]


class TextDecoder:
    r"""Chunks of bytes to text, with "\r\n" and "\r" read as "\n".

    A "\r" is told at once: it is a progress bar, perhaps, and what follows may take long. If that
    begins with "\n", both were one line end. (io.IncrementalNewlineDecoder keeps the "\r" back.)
    """

    def __init__(self, encoding: str, errors: str | None = None) -> None:
        """Decode as `bytes.decode` does. LookupError: no such encoding."""
        self._decoder = codecs.getincrementaldecoder(encoding)(errors or "strict")
        self._after_return = False

    def decode(self, data: bytes, final: bool = False) -> str:
        """The text that a chunk completes; `final` says that no other follows.

        Raises UnicodeDecodeError; then nothing of the chunk was taken.
        """
        before = self._decoder.getstate()
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            self._decoder.setstate(before)
            raise
        if text and self._after_return:
            self._after_return = False
            text = text.removeprefix("\n")
        if "\r" in text:
            self._after_return = text.endswith("\r")
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if final:
            self.reset()
        return text

    def reset(self) -> None:
        """Forget what came before: half a character, for one."""
        self._after_return = False
        self._decoder.reset()
