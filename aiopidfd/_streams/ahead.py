"""Lines at the front of what is buffered, cut many at a time."""

import io
from operator import length_hint
from typing import Any, Final

__all__ = ["Ahead"]

_AT_FIRST: Final = 512  # bytes or characters that are looked at
_AT_MOST: Final = 16 * 1024


def _split_bytes(lines: bytes) -> list[bytes]:
    return io.BytesIO(lines).readlines()


def _split_text(lines: str) -> list[str]:
    split = lines.splitlines(keepends=True)
    if len(split) == lines.count("\n"):
        return split
    return io.StringIO(lines).readlines()  # there is a form feed, or the like, which ends no line


class Ahead:
    """Copies of the lines that a buffer begins with, to be iterated over.

    So a line costs no search, no await and no change of the buffer. Before its reader does anything
    else with the buffer it settles: what was iterated over leaves the buffer then.

    Where lines alone are read, ever more of them are cut at a time; where other reads come between,
    few: what is copied for nothing is little.

    Attributes:
        lines: iterates over those that were cut. Another object after each `cut` and `settle`.
        size: bytes or characters of those that were cut; 0 if there are none.
    """

    __slots__ = ("_all", "_newline", "_split", "_window", "lines", "size")

    def __init__(self, newline: bytes | str) -> None:
        r"""Lines end with `newline`: b"\n" for a buffer of bytes, "\n" for text."""
        self._split: Any = _split_bytes if isinstance(newline, bytes) else _split_text
        self._newline = newline
        self._window = _AT_FIRST
        self._forget()

    def _forget(self) -> None:
        self._all: list[Any] = []
        self.size = 0
        self.lines: Any = iter(self._all)

    def cut(self, buffer: Any, start: int = 0, limit: int = _AT_MOST) -> None:
        """Copy whole lines of a buffer: those within `limit` from `start` on, and not too many.

        None must be there from before: see `settle`.
        """
        self._window = min(2 * self._window, _AT_MOST)
        end = buffer.rfind(self._newline, start, start + min(self._window, limit)) + 1
        if end:
            self.size = end - start
            self._all = self._split(buffer[start:end])
            self.lines = iter(self._all)

    def are_all(self, size: int) -> bool:
        """Whether all of a buffer of that size was iterated over."""
        return self.size == size and not length_hint(self.lines)

    def settle(self) -> int:
        """Forget all lines; returns how much of the buffer was iterated over."""
        taken = self.size
        if not taken:
            return 0
        if left := length_hint(self.lines):
            taken = sum(map(len, self._all[:-left]))
            self._window = _AT_FIRST
        self._forget()
        return taken
