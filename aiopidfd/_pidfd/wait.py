"""The exit of any process: a child of ours or not, made by whomever, told by its pidfd."""

import contextlib
import enum
import errno
import fcntl
import os
import signal
from collections.abc import Callable
from typing import Final

from .. import _native
from .backend import readable, sleep

__all__ = [
    "PATIENCE",
    "WALL",
    "Patience",
    "Unsettled",
    "exit_status",
    "has_exited",
    "open_pidfd",
    "returncode",
    "until_settled",
    "wait_pid",
    "wait_pidfd",
]

# Seconds, in all, until whoever reaps a process that has exited has done so: only then can others
# be told its status (ioctl PIDFD_GET_INFO, Linux 6.15). One that reaps at all does so at once.
PATIENCE: Final = 2.0

WALL: Final = 0x40000000  # _WALL of waitpid(2): whatever the child's exit signal is


class Unsettled(enum.Enum):
    """Why there is no status."""

    RUNS = "it runs"
    NOT_YET = "it has exited, and its parent has not reaped it"
    UNKNOWN = "it has exited, and the kernel cannot tell how"


class Patience:
    """How long to sleep until whoever reaps a process has done so: ever longer, not for ever."""

    def __init__(self) -> None:
        """None was needed yet."""
        self._next, self._sum = 0.001, 0.0

    @property
    def over(self) -> bool:
        """Whether PATIENCE has passed."""
        return self._sum >= PATIENCE

    def next(self) -> float:
        """Seconds."""
        delay = self._next
        self._sum += delay
        self._next *= 2
        return delay


async def wait_pid(pid: int, *, reap: bool = True) -> int | None:
    """Wait until a process has exited: a child that you made by other means, or any other.

    The process is held by a pidfd from the first moment, so the wait never goes over to another one
    that gets the same pid. On any asyncio loop and on trio. No SIGCHLD, no thread.

    Args:
        pid: its process id. A child's cannot be recycled before you call this, unless somebody else
            reaps it first: then it is lost, which no call after the fact can mend.
        reap: if it is a child of ours, reap it, as waitpid(2) does. False leaves it to the object
            that made it: a `subprocess.Popen` whose child was reaped by others, or by this, says 0.
            Believe what this returns, then.

    Returns:
        Its exit status, or minus the number of the signal that ended it. None where that cannot be
        known: for a process that is reaped by others, before Linux 6.15 (PIDFD_INFO_EXIT).

    Raises:
        ProcessLookupError: there is no such process (pidfd_open(2)), any more perhaps.
        TypeError, ValueError, OverflowError: not a process id.
        OSError: EMFILE and the like.
    """
    pidfd = open_pidfd(pid)
    try:
        return await until_settled(lambda: exit_status(pidfd, reap=reap), pidfd)
    finally:
        os.close(pidfd)


def open_pidfd(pid: int, flags: int = 0) -> int:
    """A new pidfd of the process with this pid (pidfd_open(2)).

    Raises:
        ProcessLookupError: there is no such process.
        TypeError, ValueError, OverflowError: not a process id.
        OSError: EMFILE and the like.
    """
    if not isinstance(pid, int) or isinstance(pid, bool):
        raise TypeError(f"pid must be an integer, not {type(pid).__name__}")
    if pid <= 0:
        raise ValueError(f"not a process id: {pid}")
    return os.pidfd_open(pid, flags)


async def wait_pidfd(pidfd: int, *, reap: bool = True) -> int | None:
    """Wait until the process of a pidfd has exited. Otherwise as `wait_pid`.

    Args:
        pidfd: of pidfd_open(2) or CLONE_PIDFD, received from another process, or else. It stays
            yours, and may be closed while this waits.
        reap: as in `wait_pid`.

    Raises:
        OSError: EBADF: it is not a pidfd.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):  # both know what a pidfd is
        signal.pidfd_send_signal(pidfd, 0)
    # Any number of tasks may wait for one process, but a loop has one reader for a descriptor.
    copy = fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        return await until_settled(lambda: exit_status(copy, reap=reap), copy)
    finally:
        os.close(copy)


async def until_settled(look: Callable[[], int | Unsettled], fd: int) -> int | None:
    """Look, until there is a status or there will be none; `fd` is readable when to look again."""
    patience = Patience()
    while isinstance(status := look(), Unsettled):
        if status is Unsettled.RUNS:
            await readable(fd)
        elif status is Unsettled.UNKNOWN or patience.over:
            return None
        else:
            await sleep(patience.next())
    return status


def exit_status(pidfd: int, *, reap: bool) -> int | Unsettled:
    """How a process ended, as a return code, or why that is not known. Never blocks.

    Args:
        pidfd: the process's.
        reap: reap it if it is a child of ours that has exited.
    """
    if not has_exited(pidfd):  # a thread group is not over when its first thread is a zombie
        return Unsettled.RUNS
    with contextlib.suppress(ChildProcessError):  # no child of ours, or reaped by others
        options = os.WEXITED | os.WNOHANG | WALL | (0 if reap else os.WNOWAIT)
        result = os.waitid(os.P_PIDFD, pidfd, options)
        if result is None:  # somebody traces it, and is to be told first
            return Unsettled.NOT_YET
        return returncode(result.si_code, result.si_status)
    try:
        return returncode(*_native.exit_status(pidfd))
    except BlockingIOError:  # EAGAIN
        return Unsettled.NOT_YET
    except OSError as exc:
        if exc.errno == errno.EBADF:
            raise
        return Unsettled.UNKNOWN


def has_exited(pidfd: int) -> bool:
    """Whether the process of a pidfd is over, now."""
    return _native.is_readable(pidfd)


def returncode(code: int, status: int) -> int:
    """What waitid(2) tells, as subprocess puts it: the exit status, or minus the signal."""
    return status if code == os.CLD_EXITED else -status
