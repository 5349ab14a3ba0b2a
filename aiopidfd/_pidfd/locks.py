"""Locks that a forked copy can use, although another thread held one at the fork."""

import os
import weakref
from _thread import RLock  # gevent's, which replaces threading's, is for its own greenlets

__all__ = ["Lock"]

_locks: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """A lock that its thread may take again: a signal handler or a destructor may need it, too."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        """Make a lock that nobody holds."""
        self.lock = RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        """Wait until no other thread has it, and take it."""
        self.lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        """Let go of it."""
        self.lock.release()


def _renew_in_forked_copy() -> None:
    for lock in [*_locks]:
        if lock.lock.acquire(blocking=False):  # free; or this thread has it, and will let go of it
            lock.lock.release()
        else:
            lock.lock = RLock()


os.register_at_fork(after_in_child=_renew_in_forked_copy)
