"""An object that owns descriptors must not be copied: a copy would close them a second time."""

from typing import Any, SupportsIndex

__all__ = ["Owner"]


class Owner:
    """An object that can be neither copied nor pickled. Like a socket, it raises TypeError."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        """Raise TypeError: `copy` and `pickle` call this."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")
