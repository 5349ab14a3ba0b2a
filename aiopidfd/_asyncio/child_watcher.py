"""A child watcher for asyncio up to Python 3.13: for children that other code made with Popen."""

import asyncio
import contextlib
import logging
import os
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .._pidfd.locks import RLock, make_lock
from .._pidfd.not_copyable import Owner
from .._pidfd.wait import WALL, Patience, Unsettled, exit_status
from .._spawn.program import UNKNOWN_RETURNCODE

__all__ = ["PidfdChildWatcher"]

_log = logging.getLogger("asyncio")  # asyncio logs this warning there, too

with warnings.catch_warnings():
    # Python 3.12 and 3.13 warn when a watcher is set: that warning is for the user who sets one.
    warnings.simplefilter("ignore", DeprecationWarning)
    _Base = asyncio.AbstractChildWatcher


class _Quiet:
    """A base class that comes before asyncio's, which would warn of each class derived from it."""

    def __init_subclass__(cls) -> None:
        pass


class PidfdChildWatcher(Owner, _Quiet, _Base):
    """Tells of the exits of children by their pidfds: in any thread, on any loop, without SIGCHLD.

        asyncio.set_child_watcher(aiopidfd.PidfdChildWatcher())

    If a thief has taken the status, or an ignored SIGCHLD has lost it, the watcher still reports
    the status where the kernel can tell it (Linux 6.15, PIDFD_GET_INFO). Elsewhere it reports 255,
    and asyncio's warning is logged.

    For Python 3.11 to 3.13. Later versions have no watchers: use `aiopidfd.EventLoop`, whose
    programs nothing else can reap, or `aiopidfd.wait_pid`.
    """

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._lock = make_lock()
        self._watched: dict[int, _Watched] = {}  # by pid
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        """Whether it is closed, and the pids of the children that it watches."""
        state = "closed" if self._closed else f"watches {[*self._watched]}"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        """The watcher itself. A child may be made and added inside or outside of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: the watcher stays active."""

    def is_active(self) -> bool:
        """Whether children can still be added. They can until `close` is called."""
        return not self._closed

    def attach_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Use `loop` for children that are added in a thread where no loop runs.

        With None such children cannot be added. Children that were added before stay with their
        loops.
        """
        if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"not an event loop: {loop!r}")
        self._loop = loop

    def add_child_handler(self, pid: int, callback: Callable[..., object], *args: object) -> None:
        """Call `callback(pid, returncode, *args)` when the child has exited. That reaps the child.

        The loop that runs in the calling thread makes the call; if there is none, the attached loop
        does. A second handler for the same child replaces the first.

        Args:
            pid: a child of this process.
            callback: must be thread-safe, as for every watcher.

        Raises:
            RuntimeError: the watcher is closed, or there is no loop.
            OSError: EMFILE and the like.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is None:
                raise RuntimeError(
                    "no event loop runs here, and none is attached to the child watcher"
                ) from None
            loop = self._loop
        with self._lock:
            if self._closed:
                raise RuntimeError("the child watcher is closed")
            self._forget_closed_loops()
            known = self._watched.get(pid)
            if known is not None and known.is_our_child():
                if known.loop is loop:
                    known.callback, known.args = callback, args
                    return
                known.stopped = True
            else:
                known = None  # that child is gone, but its own handler will still be called
            watched = _Watched(self._lock, self._watched, pid, loop, callback, args)
            self._watched[pid] = watched
        if known is not None:
            known.release()
        watched.begin()

    def remove_child_handler(self, pid: int) -> bool:
        """Forget a child; it is then not reaped. Returns whether it had a handler."""
        with self._lock:
            watched = self._watched.pop(pid, None)
            if watched is None:
                return False
            watched.stopped = True
        watched.release()
        return True

    def close(self) -> None:
        """Forget all children and close every pidfd. This cannot be undone."""
        with self._lock:
            self._closed = True
            forgotten = [*self._watched.values()]
            self._watched.clear()
            for watched in forgotten:
                watched.stopped = True
        if forgotten:
            warnings.warn(
                "A child watcher with pending handlers is being closed",
                RuntimeWarning,
                stacklevel=2,
            )
        for watched in forgotten:
            watched.release()

    def _forget_closed_loops(self) -> None:
        for pid in [pid for pid, watched in self._watched.items() if watched.loop.is_closed()]:
            del self._watched[pid]


class _Watched:
    """One child and its handler.

    Everything that touches the loop runs in the loop's thread. Each decision about the child (to
    reap, replace or remove it) is one step under the watcher's lock. Once an entry has left the
    watcher's table, only its loop uses it.
    """

    def __init__(
        self,
        lock: RLock,
        table: "dict[int, _Watched]",
        pid: int,
        loop: asyncio.AbstractEventLoop,
        callback: Callable[..., object],
        args: tuple[object, ...],
    ) -> None:
        self.pid = pid
        self.loop = loop
        self.callback = callback
        self.args = args
        self.stopped = False  # guarded by the lock; True: nobody is to be told any more
        self._lock = lock
        self._table = table
        self._reading = False
        self._patience = Patience()
        self._pidfd = -1
        with contextlib.suppress(ProcessLookupError):  # others have reaped it already
            self._pidfd = os.pidfd_open(pid)
        if not self.is_our_child():  # by now the pid may belong to another process
            self._close()

    def is_our_child(self) -> bool:
        """Whether the child runs or is a zombie, so its pid is still its own. Needs the lock."""
        if self._pidfd < 0:
            return False
        try:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
        except ChildProcessError:
            return False
        return True

    def begin(self) -> None:
        """Begin to wait for the exit. If the loop raises an error, the handler is forgotten."""
        try:
            self._in_loop(self._begin)
        except BaseException:
            self._forget()
            raise

    def release(self) -> None:
        """Once `stopped` is set: let go of the loop and close the pidfd."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing reads the pidfd
            self._in_loop(self._release)

    def _in_loop(self, function: Callable[[], None]) -> None:
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = not self.loop.is_running()
        if here:
            function()
        else:
            self.loop.call_soon_threadsafe(function)

    def _begin(self) -> None:
        if self.stopped:
            self._close()
        elif self._pidfd < 0:
            self.loop.call_soon(self._tell_of_a_lost_one)
        else:
            self._reading = True
            try:
                self.loop.add_reader(self._pidfd, self._on_exit)
            except BaseException:
                with contextlib.suppress(RuntimeError):  # as add_reader() has raised it
                    self._stop_reading()
                self._forget()
                raise

    def _tell_of_a_lost_one(self) -> None:
        with self._lock:
            if self.stopped:
                return
            self._leave_table()
        self._tell(None)

    def _on_exit(self) -> None:
        with self._lock:
            if self.stopped or self._pidfd < 0:
                return
            status = exit_status(self._pidfd, reap=True)
            if status is Unsettled.RUNS:
                return
            wait = status is Unsettled.NOT_YET and not self._patience.over
            if not wait:
                self._leave_table()
        if wait:
            self._stop_reading()
            self.loop.call_later(self._patience.next(), self._on_exit)
            return
        self._release()
        self._tell(None if isinstance(status, Unsettled) else status)

    def _tell(self, returncode: int | None) -> None:
        if returncode is None:
            returncode = UNKNOWN_RETURNCODE
            _log.warning(
                "child process pid %d exit status already read: will report returncode %d",
                self.pid,
                returncode,
            )
        self.callback(self.pid, returncode, *self.args)

    def _leave_table(self) -> None:
        if self._table.get(self.pid) is self:
            del self._table[self.pid]

    def _forget(self) -> None:
        with self._lock:
            self._leave_table()
            self.stopped = True
        self._close()

    def _release(self) -> None:
        self._stop_reading()
        self._close()

    def _stop_reading(self) -> None:
        if self._reading:
            self.loop.remove_reader(self._pidfd)
            self._reading = False

    def _close(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __del__(self) -> None:
        # No loop reads the pidfd now: a loop that did would hold this object.
        if getattr(self, "_pidfd", -1) >= 0:
            self._close()
