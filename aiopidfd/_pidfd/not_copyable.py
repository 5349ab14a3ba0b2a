"""An object that owns descriptors must not be copied: a copy would close them a second time."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, SupportsIndex

__all__ = ["Lent", "Owner"]


class Owner:
    """An object that can be neither copied nor pickled. Like a socket, it raises TypeError."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        """Raise TypeError: `copy` and `pickle` call this."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


class Lent(Owner, AbstractContextManager[int]):
    """A descriptor that is lent for the length of a `with` block. It can be used once."""

    __slots__ = ("_block", "_method", "_owner", "_used")

    def __init__(
        self, owner: object, method: str, lend: Callable[[], AbstractContextManager[int]]
    ) -> None:
        """Lend what `lend()` lends; `owner` and its `method` are for the repr."""
        self._owner = owner
        self._method = method
        self._block = lend()
        self._used = False

    def __repr__(self) -> str:
        """Say that this is no descriptor yet."""
        return f"<{self._method}() of {self._owner!r}: a descriptor in a `with` block>"

    def __enter__(self) -> int:
        """The descriptor. Raises RuntimeError: it was lent before."""
        if self._used:
            raise RuntimeError(f"{self._method}() lends a descriptor once: call it again")
        self._used = True
        return self._block.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Take it back."""
        return self._block.__exit__(exc_type, exc, traceback)
