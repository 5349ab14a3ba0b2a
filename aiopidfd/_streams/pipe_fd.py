"""Our end of a pipe: a descriptor that is closed once, and what happens to it when we fork."""

import contextlib
import os
import warnings
import weakref

from .. import _native
from .._pidfd.not_copyable import Owner

__all__ = ["PipeEnd"]

_open_ends: "weakref.WeakSet[PipeEnd]" = weakref.WeakSet()


class PipeEnd(Owner):
    """The base class of what reads or writes a pipe. It makes the descriptor non-blocking."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`."""
        self._fd = fd
        os.set_blocking(fd, False)
        _open_ends.add(self)

    def __repr__(self) -> str:
        """The state and the descriptor."""
        return f"<{type(self).__name__} {self._described()}>"

    def _described(self) -> str:
        return f"open fd={self._fd}" if self._fd >= 0 else "closed"

    def fileno(self) -> int:
        """The descriptor, or -1 once closed."""
        return self._fd

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # The loop may be closed, or another thread's, so it is not called. A loop that still waited
        # for the descriptor would hold this object.
        if getattr(self, "_fd", -1) >= 0:
            unclosed = self._unclosed()
            self._close_fd()
            if unclosed:
                warnings.warn(unclosed, ResourceWarning, source=self, stacklevel=2)

    def _unclosed(self) -> str | None:
        """What to warn of when this is dropped; None if no other process has the other end."""
        with contextlib.suppress(OSError):  # RLIMIT_NOFILE is 0: it may not be known
            return None if _native.is_hung_up(self._fd) else f"unclosed {self!r}"
        return None

    @staticmethod
    def _close_in_forked_copy() -> None:
        """Close our ends in a forked copy: held open there, a program's stdin would never end."""
        for end in [*_open_ends]:
            with contextlib.suppress(OSError):
                PipeEnd._close_fd(end)

    os.register_at_fork(after_in_child=_close_in_forked_copy)
