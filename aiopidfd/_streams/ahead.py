"""Lines at the front of what is buffered, cut many at a time."""

import io
from operator import length_hint
from typing import Any, Final

__all__ = ["Ahead"]

_AT_FIRST: Final = 512  # bytes or characters that are looked at
_AT_MOST: Final = 16 * 1024


class Ahead:
    """Copies of the lines that a buffer begins with, to be iterated over.

    So a line costs no search, no await and no change of the buffer. Before its reader does anything
    else with the buffer it settles: what was iterated over leaves the buffer then.

    Where lines alone are read, ever more of them are cut at a time; where other reads come between,
    few: what is copied for nothing is little.

    Attributes:
        lines: iterates over those that were cut. Another object after each `cut` and `settle`.
    """

    __slots__ = ("_all", "_file", "_newline", "_size", "_window", "lines")

    def __init__(self, newline: bytes | str) -> None:
        r"""Lines end with `newline`: b"\n" for a buffer of bytes, "\n" for text."""
        self._file: Any = io.BytesIO if isinstance(newline, bytes) else io.StringIO
        self._newline = newline
        self._window = _AT_FIRST
        self._forget()

    def _forget(self) -> None:
        self._all: list[Any] = []
        self._size = 0
        self.lines: Any = iter(self._all)

    def cut(self, buffer: Any, start: int = 0, limit: int = _AT_MOST) -> None:
        """Copy whole lines of a buffer: those within `limit` from `start` on, and not too many.

        None must be there from before: see `settle`.
        """
        self._window = min(2 * self._window, _AT_MOST)
        end = buffer.rfind(self._newline, start, start + min(self._window, limit)) + 1
        if end:
            self._size = end - start
            self._all = self._file(buffer[start:end]).readlines()
            self.lines = iter(self._all)

    def are_all(self, size: int) -> bool:
        """Whether all of a buffer of that size was iterated over."""
        return self._size == size and not length_hint(self.lines)

    def settle(self) -> int:
        """Forget all lines; returns how much of the buffer was iterated over."""
        taken = self._size
        if not taken:
            return 0
        if left := length_hint(self.lines):
            taken = sum(map(len, self._all[:-left]))
            self._window = _AT_FIRST
        self._forget()
        return taken
