"""`PidFd`: a handle to any process. It never comes to mean another process."""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import time
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from .. import _native
from .any_loop import check_loop
from .arguments import HasFileno, flag, is_number, not_a_number
from .durations import Deadline, check_seconds, nanoseconds
from .from_process import HasHandle, HasPid, NoHandleError, held_pidfd
from .info import ProcessInfo, process_info
from .locks import make_lock
from .not_copyable import Lent, Owner
from .unpatched import EPOLLIN, epoll, read
from .wait import Patience, Unsettled, exit_status, has_exited, open_pidfd, until_settled

__all__ = ["DroppablePidFd", "NoHandleError", "PidFd"]

_PIDFD_THREAD: Final = os.O_EXCL  # of pidfd_open(2), Linux 6.9
_NO_PROC: Final = "without /proc the kernel does not tell (before Linux 6.13)"
_NO_PID: Final = "the process has no id in our pid namespace"
_FDINFO: Final = 4096  # bytes; a pidfd's has some hundred (proc_pid_fdinfo(5))
_PIDFS: Final = 0x50494446  # PID_FS_MAGIC: since Linux 6.9 each pidfd has an inode of its own
_SO_PEERPIDFD: Final = 77  # socket(7), Linux 6.5

# Flags of pidfd_send_signal(2), Linux 6.9.
_SCOPES: Final = {"handle": 0, "thread": 1 << 0, "process": 1 << 1, "group": 1 << 2}

Scope: TypeAlias = Literal["handle", "thread", "process", "group"]


class PidFd(Owner):
    """A handle to a process: a pidfd, and what can be done with one.

    When a process is gone, its pid may come to mean another process; a handle never does. The
    process need not be a child. All methods may be called from any thread. Closing a handle wakes
    those who wait for it; the descriptor is closed (and its number reused) only after the last call
    that uses it has returned.

    A handle that is dropped before it was closed is closed then, with a ResourceWarning; those that
    `children()` of a process has returned may be dropped.

    Two handles are equal if they are of the same process (or of the same thread), see `id`. A
    handle cannot be copied or pickled: `send` and `from_fd` make another one.

        with PidFd.open(pid) as process:
            process.terminate()
            status = await process.wait()
    """

    _may_be_dropped = False

    def __init__(self, fd: int, *, kill_on_close: bool = False) -> None:
        """Take over a pidfd.

        Args:
            fd: a pidfd; this object will close it. `from_fd` leaves it to you.
            kill_on_close: SIGKILL the process when this is closed or dropped. A forked copy of this
                process does not kill, and nothing is killed if this process is killed itself.

        Raises:
            OSError: EBADF: it is not a pidfd. It is still yours.
        """
        flag("kill_on_close", kill_on_close)
        _check(fd)
        os.set_inheritable(fd, False)
        self._fd = fd
        self._key = _key(fd)
        self._kill_on_close = kill_on_close
        self._owner = os.getpid()
        self._users = 0
        self._closed = False
        self._wake: int | None = None  # an eventfd, made when somebody first waits
        self._lock = make_lock()  # a signal handler may come while its thread holds it

    # Making a handle ----------------------------------------------------------------------------

    @classmethod
    def open(cls, pid: int, *, thread: bool = False, kill_on_close: bool = False) -> Self:
        """A handle to the process with this pid (pidfd_open(2), Linux 5.3).

        Only for a child that nobody else reaps is it certain that the pid still means the same
        process. For any other process, check afterwards that the handle is of the process that you
        mean.

        Args:
            pid: a process id; with `thread`, a thread id.
            thread: a handle to one thread (PIDFD_THREAD, Linux 6.9).
            kill_on_close: as for the class.

        Raises:
            ProcessLookupError: there is no such process.
            TypeError, ValueError, OverflowError: not a process id.
            OSError: EINVAL: the kernel has no handles to threads; EMFILE and the like.
        """
        flags = _PIDFD_THREAD if flag("thread", thread) else 0
        return cls._owning(open_pidfd(pid, flags), kill_on_close)

    @classmethod
    def from_fd(cls, fd: int, *, kill_on_close: bool = False) -> Self:
        """A handle made from a pidfd. The pidfd stays yours; the handle has a duplicate of it.

        Raises:
            OSError: EBADF: it is not a pidfd.
        """
        _check(fd)
        return cls._owning(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3), kill_on_close)

    @classmethod
    def from_proc(cls, directory: int, *, kill_on_close: bool = False) -> Self:
        """A handle made from an open /proc/PID directory, which stays yours. There is no race.

        Raises:
            ProcessLookupError: the process is gone.
            OSError: EBADF: this is not such a directory. EXDEV: it is one of another /proc than
                that which is mounted here.
            TypeError: no descriptor; a path must be opened first.
        """
        if not is_number(directory):
            raise not_a_number("directory", directory, "os.open() gives one for a path")
        _check_process_directory(directory)
        if os.fstat(directory).st_dev != os.stat("/proc").st_dev:
            raise OSError(errno.EXDEV, "not a directory of the /proc that is mounted here")
        try:
            file = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            with open(file, "rb") as text:
                pid = int(text.read().split(b" ", 1)[0])
            fd = os.pidfd_open(pid)
            try:
                os.stat("stat", dir_fd=directory)  # it lives, so the pid was its own until now
            except BaseException:
                os.close(fd)
                raise
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        return cls._owning(fd, kill_on_close)

    @classmethod
    def from_peer(cls, connection: HasFileno, *, kill_on_close: bool = False) -> Self:
        """A handle to the process at the other end of a Unix socket (SO_PEERPIDFD, Linux 6.5).

        This is the process that connected, or listened, or made the pair. As with SO_PEERCRED, it
        may have given its end to another process since (unix(7)).

        Args:
            connection: the socket, or what a stream of asyncio or uvloop has in its place
                (`writer.get_extra_info("socket")`).
            kill_on_close: as for the class.

        Raises:
            ProcessLookupError: the process has exited and was reaped.
            OSError: ENODATA: nobody is connected; ENOPROTOOPT: the kernel is older, or it is
                another kind of socket; ENOTSOCK: the descriptor is no socket's; EBADF: it is
                closed.
            TypeError: it has no `fileno`.
        """
        if not hasattr(connection, "fileno"):
            _check_socket(connection)
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            fd = copy.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        return cls._owning(fd, kill_on_close)

    @classmethod
    def from_process(cls, process: HasHandle | HasPid, *, kill_on_close: bool = False) -> Self:
        """A handle to the running program of a `Process`. The handle outlives the `Process`.

        Args:
            process: a `Process`, a `Child` or a transport of ours; or a `subprocess.Popen`, an
                `asyncio.subprocess.Process` or a `multiprocessing.Process` whose child nobody has
                reaped yet, so that its pid is still its own.
            kill_on_close: as for the class.

        Raises:
            NoHandleError: the program has exited, or somebody has reaped it.
            TypeError: anything else.
            ValueError: a `multiprocessing.Process` that was not started, or is closed.
        """
        with held_pidfd(process) as fd:
            return cls.from_fd(fd, kill_on_close=kill_on_close)

    @classmethod
    def receive(cls, connection: socket.socket) -> Self:
        """A handle that another process has sent by `send` over a Unix socket (SCM_RIGHTS).

        Raises:
            EOFError: the connection has ended.
            OSError: EBADF: what came is not a pidfd, or nothing came with it.
            TypeError: not a socket.
        """
        _check_socket(connection)
        data, fds, _, _ = socket.recv_fds(connection, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise EOFError("the connection has ended")
        if not fds:
            raise OSError(errno.EBADF, "no descriptor came with the message")
        return cls._owning(fds[0], False)

    @classmethod
    def _owning(cls, fd: int, kill_on_close: bool = False) -> Self:
        try:
            return cls(fd, kill_on_close=kill_on_close)
        except BaseException:
            os.close(fd)
            raise

    # The handle itself --------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The pid, whether it runs, and the descriptor."""
        name = type(self).__name__
        try:
            with self._held() as fd:
                _check(fd)
                state = "exited" if has_exited(fd) else "running"
                pid = 0
                with contextlib.suppress(OSError):
                    pid = _our_pid_of(fd)
        except (OSError, ValueError):  # OSError: the host has closed our descriptor
            return f"<{name} closed>"
        return f"<{name} {f'pid={pid} ' if pid > 0 else ''}{state} fd={fd}>"

    @property
    def id(self) -> int:
        """The number of the process: no other one gets it until the next boot (pidfs, Linux 6.9).

        It stays available after the process's end, and after `close`. If two handles have the same
        number, they are of the same process; or one of them is of the first thread of that process.

        Raises:
            OSError: ENOTSUP: the kernel is older.
        """
        return self._required_key()[0]

    def __eq__(self, other: object) -> bool:
        """Whether both are of the same process, or of the same thread. Raises OSError as `id`."""
        if not isinstance(other, PidFd):
            return NotImplemented
        return self is other or self._required_key() == other._required_key()

    def __hash__(self) -> int:
        """A hash that equal handles have in common. Raises OSError as `id`."""
        return hash(self._required_key())

    def _required_key(self) -> tuple[int, bool]:
        if self._key is None:
            raise OSError(errno.ENOTSUP, "processes have no number of their own before Linux 6.9")
        return self._key

    def fileno(self) -> int:
        """The descriptor, which is close-on-exec; -1 once it is closed.

        It becomes readable when the process is over. Another thread may close it; `hold` prevents
        that.
        """
        return -1 if self._closed else self._fd

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def hold(self) -> contextlib.AbstractContextManager[int]:
        """The descriptor. Inside the block it stays open and the same, even if this is closed.

            with handle.hold() as fd:
                poller.register(fd)

        Raises:
            ValueError: the handle is closed already.
        """
        return Lent(self, "hold", self._held)

    @contextlib.contextmanager
    def _held(self) -> Iterator[int]:
        with self._lock:
            self._users += 1  # first: from now on nobody closes it
        try:
            if self._closed:
                raise ValueError("the PidFd is closed")
            yield self._fd
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_unused()

    def close(self) -> None:
        """Close the handle. Those who wait get a ValueError first. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            if self._kill_on_close and self._owner == os.getpid():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(self._fd, signal.SIGKILL)
            self._closed = True
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closed and not self._users and self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._wake is not None:
                os.close(self._wake)

    def __enter__(self) -> Self:
        """The handle itself. Raises ValueError if it is closed."""
        if self._closed:
            raise ValueError("the PidFd is closed")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close it, with a ResourceWarning."""
        if not getattr(self, "_closed", True):
            message = f"unclosed {self!r}"
            self.close()
            if self._may_be_dropped:
                return
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    def send(self, connection: socket.socket) -> None:
        """Send the handle to another process, over a Unix socket. This handle stays as it is.

        Raises:
            OSError: as socket.sendmsg.
            TypeError: not a socket.
            ValueError: the handle is closed.
        """
        _check_socket(connection)
        with self._held() as fd:
            socket.send_fds(connection, [b"\0"], [fd])

    # Signals ------------------------------------------------------------------------------------

    def send_signal(self, sig: int, *, to: Scope = "handle") -> None:
        """Send a signal (pidfd_send_signal(2), Linux 5.1).

        Args:
            sig: its number; 0 only checks.
            to: who gets it. "handle": the process or the thread that the handle is of. "thread",
                "process", "group": the thread, its whole process, or the process group that it
                leads (Linux 6.9, PIDFD_SIGNAL_*).

        Raises:
            ProcessLookupError: the process has exited and was reaped, or there is no such group.
            PermissionError: the process runs with ids that we may not signal.
            OSError: EINVAL: there is no such signal, or the kernel does not know `to`.
            ValueError: there is no such `to`; or the handle is closed.
        """
        if to not in [*_SCOPES]:
            raise ValueError(f"to must be one of {', '.join(_SCOPES)}, not {to!r}")
        with self._held() as fd:
            signal.pidfd_send_signal(fd, sig, None, _SCOPES[to])

    def terminate(self) -> None:
        """Send SIGTERM. Raises as `send_signal`."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises as `send_signal`."""
        self.send_signal(signal.SIGKILL)

    # The end of the process ---------------------------------------------------------------------

    async def wait(self, *, reap: bool = True) -> int | None:
        """Wait until the process has exited. This works on any asyncio loop and on trio.

        Args:
            reap: whether to reap it, as waitid(2) does, if it is a child of ours.

        Returns:
            Its exit status, or minus the number of the signal that ended it. This is known for a
            child of ours, and on Linux 6.15 and later for any process (PIDFD_INFO_EXIT). None: the
            process has ended, and nobody can tell how.

        Raises:
            ValueError: the handle is closed, or was closed during the wait.
            RuntimeError: no loop runs here.
        """
        flag("reap", reap)
        check_loop("PidFd.wait()", "wait_blocking() needs none")
        with self._waiting() as (fd, news):
            return await until_settled(lambda: self._status(fd, reap), news.fileno())

    def wait_blocking(self, timeout: float | None = None, *, reap: bool = True) -> int | None:
        """Wait as `wait` does, but block this thread. The GIL is released meanwhile.

        Args:
            timeout: seconds; None waits for ever.
            reap: as in `wait`.

        Raises:
            TimeoutError: the process still runs.
            ValueError: the handle is closed, or was closed during the wait; or not a number (NaN).
            TypeError: not a number of seconds.
        """
        flag("reap", reap)
        check_seconds(timeout=timeout)
        deadline = Deadline(timeout)
        with self._waiting() as (fd, news):
            patience = Patience()
            while isinstance(status := self._status(fd, reap), Unsettled):
                if status is Unsettled.RUNS:
                    left = deadline.left
                    if not _native.wait_readable(news.fileno(), nanoseconds(left)) and not left:
                        raise TimeoutError(errno.ETIMEDOUT, "the process still runs")
                elif status is Unsettled.UNKNOWN or patience.over:
                    return None
                else:
                    time.sleep(patience.next())
            return status

    def _status(self, fd: int, reap: bool) -> int | Unsettled:
        if self._closed:
            raise ValueError("the PidFd was closed")
        return exit_status(fd, reap=reap)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[tuple[int, epoll]]:
        """An epoll set for one waiter: ready when the process is over or the handle is closed."""
        with self._held() as fd, epoll() as news:
            with self._lock:
                if self._wake is None:
                    self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            news.register(fd, EPOLLIN)
            news.register(self._wake, EPOLLIN)
            yield fd, news

    # What the process is ------------------------------------------------------------------------

    def getpid(self) -> int:
        """The process id in our pid namespace, as pidfd_getpid(3) of glibc tells it.

        Raises:
            ProcessLookupError: the process has exited and was reaped (ESRCH).
            OSError: EREMOTE: the process has no id in our pid namespace. ENOTSUP: /proc is of
                another pid namespace than ours, and the kernel does not tell (before Linux 6.13).
            ValueError: the handle is closed.
        """
        with self._held() as fd:
            return _our_pid_of(fd)

    def info(self) -> ProcessInfo:
        """What the kernel tells of the process and of its end (PIDFD_GET_INFO, Linux 6.13).

        Raises:
            ProcessLookupError: the process is gone, and the kernel has kept nothing (before 6.15).
            OSError: EREMOTE, ENOTSUP: as `getpid`.
            ValueError: the handle is closed.
        """
        with self._held() as fd:
            return process_info(fd, _our_pid_of)

    def getfd(self, number: int) -> int:
        """A duplicate of a descriptor of the process (pidfd_getfd(2), Linux 5.6).

        Args:
            number: the descriptor's number in the process.

        Returns:
            Our duplicate, which is close-on-exec. You must close it.

        Raises:
            OSError: EBADF: the process has no such descriptor; EPERM: we may not ptrace(2) it;
                ESRCH.
            ValueError: the handle is closed.
        """
        with self._held() as fd:
            return _native.pidfd_getfd(fd, number)

    def open_proc(self) -> int:
        """Open the process's own /proc/PID directory, never another's. You must close it.

        Raises:
            ProcessLookupError: the process has exited and was reaped.
            OSError: EREMOTE: the process has no id in our pid namespace.
            ValueError: the handle is closed.
        """
        with self._held() as fd:
            directory = os.open(f"/proc/{_pid_of(fd)}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _pid_of(fd)  # the process still has the pid, so it had it when we opened
            except BaseException:
                os.close(directory)
                raise
            return directory


class DroppablePidFd(PidFd):
    """A handle that may be dropped: one of many that its user did not ask for one by one."""

    _may_be_dropped = True


DroppablePidFd.__name__ = "PidFd"  # what it says it is


def _check_socket(connection: object) -> None:
    if not isinstance(connection, socket.socket):
        raise TypeError(f"a socket is needed, not {type(connection).__name__}")


def _check(fd: int) -> None:
    """Raise OSError, EBADF, if `fd` is not a pidfd."""
    if not is_number(fd):
        raise not_a_number("fd", fd)
    with contextlib.suppress(OSError, ValueError):  # Linux 6.9: known without /proc, too
        if _native.filesystem(fd) == _PIDFS:
            return
    _fdinfo_pid(fd)


def _key(fd: int) -> tuple[int, bool] | None:
    """The inode of a pidfd, and whether it is of a thread; None if the inode says nothing."""
    if _native.filesystem(fd) != _PIDFS:
        return None
    return os.fstat(fd).st_ino, bool(fcntl.fcntl(fd, fcntl.F_GETFL) & _PIDFD_THREAD)


def _check_process_directory(directory: int) -> None:
    """Raise OSError, EBADF, if this is no process's directory in /proc; ESRCH: that is gone."""
    try:
        signal.pidfd_send_signal(directory, 0)  # this call takes such a directory, too
    except PermissionError:  # then it is such a directory
        pass
    except OSError as exc:
        if exc.errno != errno.EBADF:
            raise
        raise OSError(errno.EBADF, "not a process's directory in /proc") from None


def _fdinfo_pid(fd: int) -> int:
    """The "Pid:" of a pidfd (proc_pid_fdinfo(5)): 0 if it has none there, -1 once reaped."""
    # A handle that is dropped when the interpreter ends comes here, too: open() is gone by then.
    try:
        # This thread may have a table of its own.
        file = os.open(f"/proc/thread-self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.exists("/proc/thread-self"):
            raise OSError(errno.EBADF, "not a pidfd") from None
        raise OSError(errno.ENOTSUP, _NO_PROC) from None
    try:
        lines = read(file, _FDINFO).split(b"\n")
    finally:
        os.close(file)
    for line in lines:
        if line.startswith(b"Pid:"):
            return int(line[4:])
    raise OSError(errno.EBADF, "not a pidfd")


def _pid_of(fd: int) -> int:
    """Its pid in the pid namespace that /proc shows."""
    pid = _fdinfo_pid(fd)
    if pid < 0:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    if pid == 0:
        raise OSError(errno.EREMOTE, _NO_PID)
    return pid


def _our_pid_of(fd: int) -> int:
    """Its pid in our own pid namespace, of which /proc need not be."""
    with contextlib.suppress(FileNotFoundError):  # there is no /proc
        if os.readlink("/proc/self") == str(os.getpid()):
            return _pid_of(fd)
    try:
        pid = process_info(fd, _not_told).pid
    except ProcessLookupError:
        if _fdinfo_pid(fd) < 0:
            raise
        raise OSError(errno.EREMOTE, _NO_PID) from None
    if pid is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return pid


def _not_told(fd: int) -> int:
    del fd
    raise OSError(errno.ENOTSUP, "/proc is of another pid namespace than ours")
