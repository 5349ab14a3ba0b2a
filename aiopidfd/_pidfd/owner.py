"""What owns descriptors is one of a kind: a copy would close them a second time."""

from typing import Any, SupportsIndex

__all__ = ["Owner"]


class Owner:
    """Can be neither copied nor pickled: TypeError, as of a socket."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        """What `copy` and `pickle` call."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")
