"""Our end of a pipe: one descriptor, its one close, and what becomes of it when we fork."""

import contextlib
import os
import warnings
import weakref

from .._pidfd.owner import Owner

__all__ = ["PipeEnd"]

_open_ends: "weakref.WeakSet[PipeEnd]" = weakref.WeakSet()


class PipeEnd(Owner):
    """Owns a descriptor, which is made non-blocking. For who reads or writes it."""

    def __init__(self, fd: int) -> None:
        """Own `fd`."""
        self._fd = fd
        self._may_be_dropped = False
        os.set_blocking(fd, False)
        _open_ends.add(self)

    def __repr__(self) -> str:
        """How it stands, and the descriptor."""
        return f"<{type(self).__name__} {self._described()}>"

    def _described(self) -> str:
        return f"open fd={self._fd}" if self._fd >= 0 else "closed"

    def fileno(self) -> int:
        """The descriptor, or -1 once closed."""
        return self._fd

    def may_be_dropped(self) -> None:
        """From now on it is no mistake to let go of this without closing it."""
        self._may_be_dropped = True

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # The loop may be closed, or another thread's: it is not called. One that still waits for
        # the descriptor would hold us.
        if getattr(self, "_fd", -1) >= 0:
            message = f"unclosed {self!r}"
            self._close_fd()
            if self._may_be_dropped:
                return
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    @staticmethod
    def _close_in_forked_copy() -> None:
        """A copy of us would keep the child's pipes open: its stdin would never end."""
        for end in [*_open_ends]:
            with contextlib.suppress(OSError):
                PipeEnd._close_fd(end)

    os.register_at_fork(after_in_child=_close_in_forked_copy)
