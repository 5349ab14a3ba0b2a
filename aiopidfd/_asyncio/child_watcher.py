"""A child watcher, for asyncio up to Python 3.13: for children that others made with Popen."""

import asyncio
import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .._pidfd.owner import Owner
from .._pidfd.wait import WALL, Patience, Unsettled, exit_status
from .._spawn.program import UNKNOWN_RETURNCODE

__all__ = ["PidfdChildWatcher"]

_log = logging.getLogger("asyncio")  # the warning is asyncio's own, and users look for it there

with warnings.catch_warnings():
    # Python 3.12 and 3.13 warn whoever sets a watcher, and that is who should know.
    warnings.simplefilter("ignore", DeprecationWarning)
    _Base = asyncio.AbstractChildWatcher


class _Quiet:
    """Goes before asyncio's base class, which would warn of each class that is made of it."""

    def __init_subclass__(cls) -> None:
        pass


class PidfdChildWatcher(Owner, _Quiet, _Base):
    """Tells of the exit of children by their pidfds: in any thread, on any loop, without SIGCHLD.

        asyncio.set_child_watcher(aiopidfd.PidfdChildWatcher())

    A status that a foreign reaper has taken, or that was lost to an ignored SIGCHLD, is still
    reported where the kernel can tell it (Linux 6.15, PIDFD_GET_INFO). Else it is 255, with
    asyncio's warning in the log.

    Python 3.11 to 3.13. Later ones have no watchers: use `aiopidfd.EventLoop`, whose children
    cannot be reaped by others at all, or `aiopidfd.wait_pid`.
    """

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._lock = threading.Lock()
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
        """Nothing to do; the watcher stays active."""

    def is_active(self) -> bool:
        """Whether children can be added: until `close`."""
        return not self._closed

    def attach_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Use `loop` for children that are added where no loop runs. None: for no such children.

        Children that were added before stay with their loops.
        """
        if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"not an event loop: {loop!r}")
        self._loop = loop

    def add_child_handler(self, pid: int, callback: Callable[..., object], *args: object) -> None:
        """Call `callback(pid, returncode, *args)` when the child has exited; it is reaped then.

        It is called by the loop that runs in the calling thread, or else by the attached one. A
        second handler for the same child replaces the first.

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
                known = None  # of a child that is gone, whose pid came back: it will be told of
            watched = _Watched(self._lock, self._watched, pid, loop, callback, args)
            self._watched[pid] = watched
        if known is not None:
            known.release()
        watched.begin()

    def remove_child_handler(self, pid: int) -> bool:
        """Forget a child, which is not reaped then. Returns whether it had a handler."""
        with self._lock:
            watched = self._watched.pop(pid, None)
            if watched is None:
                return False
            watched.stopped = True
        watched.release()
        return True

    def close(self) -> None:
        """Forget all children and close every pidfd. For good."""
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

    What touches the loop runs in the loop's thread. What decides about the child (it is reaped, or
    replaced, or removed) is one step under the watcher's lock; an entry that left the watcher's
    table is its loop's alone.
    """

    def __init__(
        self,
        lock: threading.Lock,
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
        self.stopped = False  # under the lock: nobody is to be told any more
        self._lock = lock
        self._table = table
        self._reading = False
        self._patience = Patience()
        self._pidfd = -1
        with contextlib.suppress(ProcessLookupError):  # reaped by others before we were asked
            self._pidfd = os.pidfd_open(pid)
        if not self.is_our_child():  # and the pid may be another process's by now
            self._close()

    def is_our_child(self) -> bool:
        """Whether it runs, or is a zombie: then the pid is its own still. Under the lock."""
        if self._pidfd < 0:
            return False
        try:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
        except ChildProcessError:
            return False
        return True

    def begin(self) -> None:
        """Wait for the exit. Raises what the loop does; then the child has no handler."""
        try:
            self._in_loop(self._begin)
        except BaseException:
            self._forget()
            raise

    def release(self) -> None:
        """Once stopped: let go of the loop and close the pidfd."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: then nothing reads the pidfd
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
            try:
                self.loop.add_reader(self._pidfd, self._on_exit)
            except BaseException:
                self._forget()
                raise
            self._reading = True

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
            self._reading = False
            self.loop.remove_reader(self._pidfd)

    def _close(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __del__(self) -> None:
        # A loop that still read the pidfd would hold us: it is closed, or never began.
        if getattr(self, "_pidfd", -1) >= 0:
            self._close()
