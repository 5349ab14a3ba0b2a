"""Lines at the front of a buffer, cut many at a time; and the cheapest way to iterate over them."""

import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import length_hint
from typing import Any, Final, TypeVar

from .. import _native

__all__ = ["Ahead", "iterate"]

T = TypeVar("T")  # bytes or str

_AT_FIRST: Final = 512  # bytes or characters that are looked at
_AT_MOST: Final = 16 * 1024


def _split_bytes(lines: bytes) -> list[bytes]:
    return io.BytesIO(lines).readlines()


def _split_text(lines: str) -> list[str]:
    split = lines.splitlines(keepends=True)
    if len(split) == lines.count("\n"):
        return split
    return io.StringIO(lines).readlines()  # a form feed or the like ends no line here


class Ahead:
    """Copies of the lines at the front of a buffer, over which a reader iterates.

    So a line costs no search, no await and no change of the buffer. Before the reader does anything
    else with the buffer it calls `settle`, and then the lines that were handed out leave the
    buffer.

    If only lines are read, more of them are cut each time. If other reads come between, few are
    cut, so that little is copied in vain.

    Attributes:
        lines: an iterator over the lines that were cut. Each `cut` and `settle` makes another one.
        size: how many bytes or characters those lines have; 0 if there are none.
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

        No lines may be left from an earlier `cut`: see `settle`.
        """
        self._window = min(2 * self._window, _AT_MOST)
        end = buffer.rfind(self._newline, start, start + int(min(self._window, limit))) + 1
        if end:
            self.size = end - start
            self._all = self._split(buffer[start:end])
            self.lines = iter(self._all)

    def are_all(self, size: int) -> bool:
        """Whether the lines are all of a buffer of this size, and all were handed out."""
        return self.size == size and not length_hint(self.lines)

    def settle(self) -> int:
        """Forget all lines. Returns how much of the buffer was handed out."""
        taken = self.size
        if not taken:
            return 0
        if left := length_hint(self.lines):
            taken = sum(map(len, self._all[:-left]))
            self._window = _AT_FIRST
        self._forget()
        return taken


def iterate(ahead: Ahead, next_line: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
    """Iterate over lines: first those that were cut already, then those that `next_line` returns.

    This is an iterator, not a generator: it may be left at any time, and needs no closing.
    """
    lines = _Lines(ahead, next_line)
    # Before Python 3.12 a coroutine for each line is most of what a line costs, so we use an
    # awaitable in C. Since 3.12 such an awaitable has to raise StopIteration, which costs more.
    return lines if sys.version_info >= (3, 12) else _native.Lines(ahead, lines.__anext__)


class _Lines(AsyncIterator[T]):
    def __init__(self, ahead: Ahead, next_line: Callable[[], Awaitable[T]]) -> None:
        self._ahead = ahead
        self._next_line = next_line

    async def __anext__(self) -> T:
        for line in self._ahead.lines:
            return line  # type: ignore[no-any-return]
        if line := await self._next_line():
            return line
        raise StopAsyncIteration
