"""`async for` over the lines of a reader, at the least cost for each line."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from .. import _native
from .cut_lines import Ahead

__all__ = ["iterate"]

T = TypeVar("T")  # bytes or str


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
