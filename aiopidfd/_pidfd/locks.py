"""Locks that a forked copy can use, although another thread held one at the fork."""

import os
import weakref
from _thread import RLock  # gevent's, which replaces threading's, is for its own greenlets

__all__ = ["RLock", "make_lock"]

_locks: "weakref.WeakSet[RLock]" = weakref.WeakSet()


def make_lock() -> RLock:
    """A lock that its thread may take again: a signal handler or a destructor may need it, too.

    `with` takes it and lets go of it in C. If a method of ours did that, a signal handler might
    raise in the method while the lock is held, and nobody would let go of it. (On Python 3.14 that
    is so for each lock: python/cpython#148874.)
    """
    lock = RLock()
    _locks.add(lock)
    return lock


def _renew_in_forked_copy() -> None:
    for lock in [*_locks]:
        if lock.acquire(blocking=False):  # free; or this thread has it, and will let go of it
            lock.release()
        else:
            # As threading does with its own. There is no other way: only its thread may release it.
            lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001


os.register_at_fork(after_in_child=_renew_in_forked_copy)
