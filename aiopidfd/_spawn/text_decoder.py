"""A program's output as text, chunk by chunk."""

import codecs

__all__ = ["TextDecoder"]


class TextDecoder:
    r"""Decodes chunks of bytes to text, and reads "\r\n" and "\r" as "\n".

    A "\r" is passed on at once: it may belong to a progress bar, and the next chunk may take long.
    If the next chunk begins with "\n", both were one line end. (io.IncrementalNewlineDecoder would
    keep the "\r" back.)
    """

    def __init__(self, encoding: str, errors: str | None = None) -> None:
        """Decode as `bytes.decode` does. Raises LookupError: there is no such encoding."""
        self._decoder = codecs.getincrementaldecoder(encoding)(errors or "strict")
        self._after_return = False

    def decode(self, data: bytes, final: bool = False) -> str:
        """The text that a chunk completes. `final` says that this is the last chunk.

        Raises UnicodeDecodeError. In that case nothing of the chunk was taken.
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
        """Forget what came before, such as a part of a character."""
        self._after_return = False
        self._decoder.reset()
