"""Functions that are called with each line of a program's output, and do not hold up the loop."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from .._pidfd.any_loop import sleep
from .._pidfd.durations import monotonic
from .sinks import Decoder, Sink

__all__ = ["LineFunction", "Lines"]

LineFunction: TypeAlias = Callable[[Any], Awaitable[object] | object]

_AT_A_STRETCH: Final = 0.005  # seconds; one chunk may hold tens of thousands of lines


class Lines(Sink):
    """Cuts chunks into lines of any length, and passes on each line without its line end.

    Between two lines it lets others run when it was busy for a while.
    """

    def __init__(self, function: LineFunction, decode: Decoder, *, awaits: bool = True) -> None:
        """Call `function` with each line.

        If it returns an awaitable, await that; or, if nothing can be awaited, raise TypeError.
        """
        self._function = function
        self._decode = decode
        self._awaits = awaits
        self._pieces: list[Any] = []  # the pieces of a line that has not ended yet

    async def feed(self, data: bytes) -> None:
        """Call the function with each line that ends in this chunk."""
        await self._feed(self._decode(data, False))

    async def end(self) -> None:
        """Pass on the last line, which may have no line end."""
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
        since = monotonic()
        for line in lines:
            if monotonic() - since > _AT_A_STRETCH:
                await (sleep if self._awaits else asyncio.sleep)(0)
                since = monotonic()
            result = function(line)
            if result is not None and inspect.isawaitable(result):
                if not self._awaits:
                    raise _not_awaited(function, result)
                await result


def _not_awaited(function: LineFunction, result: Any) -> TypeError:
    if inspect.iscoroutine(result):
        result.close()  # else there is a warning that nobody has awaited it
    kind = type(result).__name__
    return TypeError(
        f"{function!r} returned an awaitable, a {kind}, which a call that blocks cannot await"
    )
