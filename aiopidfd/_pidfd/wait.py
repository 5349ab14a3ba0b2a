"""The exit of any process, told by its pidfd. The process may be a child of ours or not."""

import contextlib
import enum
import errno
import fcntl
import os
import signal
from collections.abc import Callable
from typing import Final

from .. import _native
from .any_loop import check_loop, readable, sleep
from .arguments import flag, is_number, not_a_number

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

# Seconds, in all, to wait until the parent of a process that has exited has reaped it. Only then
# can others learn its status (ioctl PIDFD_GET_INFO, Linux 6.15). A parent that reaps does so soon.
PATIENCE: Final = 2.0

_MAX_PID: Final = 2**31 - 1  # pid_t

WALL: Final = 0x40000000  # __WALL of waitpid(2): any child, whatever its exit signal is


class Unsettled(enum.Enum):
    """The reasons why there is no status."""

    RUNS = "it runs"
    NOT_YET = "it has exited, and its parent has not reaped it"
    UNKNOWN = "it has exited, and the kernel cannot tell how"


class Patience:
    """How long to sleep until a process's parent has reaped it: longer each time, with a limit."""

    def __init__(self) -> None:
        """Begin with the shortest sleep."""
        self._next, self._sum = 0.001, 0.0

    @property
    def over(self) -> bool:
        """Whether the sleeps have reached PATIENCE in all."""
        return self._sum >= PATIENCE

    def next(self) -> float:
        """The length of the next sleep, in seconds."""
        delay = self._next
        self._sum += delay
        self._next *= 2
        return delay


async def wait_pid(pid: int, *, reap: bool = True) -> int | None:
    """Wait until a process has exited: a child that you made by other means, or any other process.

    A pidfd holds the process from the first moment, so the wait never switches to another process
    that gets the same pid. It works on any asyncio loop and on trio, without SIGCHLD and without a
    thread.

    Args:
        pid: its process id. The pid of a child cannot be reused before you call this, unless
            somebody else reaps the child first: then its status is lost, and no later call can
            bring it back.
        reap: whether to reap it, as waitpid(2) does, if it is a child of ours. False leaves that to
            the object that made the child. If others have reaped the child of a
            `subprocess.Popen`, or this function has, the Popen says 0: then believe what this
            function returns.

    Returns:
        Its exit status, or minus the number of the signal that ended it. None where nobody can
        tell: for a process that others reap, before Linux 6.15 (PIDFD_INFO_EXIT).

    Raises:
        ProcessLookupError: there is no such process (pidfd_open(2)), or no longer.
        TypeError, ValueError, OverflowError: not a process id.
        OSError: EMFILE and the like.
        RuntimeError: no loop runs here. The text says what blocks instead.
    """
    flag("reap", reap)
    pidfd = open_pidfd(pid)
    try:
        check_loop("wait_pid()")
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
    if not is_number(pid):
        raise not_a_number("pid", pid)
    if pid <= 0:
        raise ValueError(f"not a process id: {pid}")
    if pid > _MAX_PID:
        raise OverflowError(f"not a process id: {pid}")
    return os.pidfd_open(pid, flags)


async def wait_pidfd(pidfd: int, *, reap: bool = True) -> int | None:
    """Wait until the process of a pidfd has exited. Otherwise as `wait_pid`.

    Args:
        pidfd: from pidfd_open(2), from CLONE_PIDFD, from another process, or from elsewhere. It
            stays yours, and you may close it while this waits.
        reap: as in `wait_pid`.

    Raises:
        OSError: EBADF: it is not a pidfd.
        TypeError: it is no integer. A `PidFd` has a `wait` of its own. Or `reap` is no bool.
        RuntimeError: no loop runs here. The text says what blocks instead.
    """
    if not is_number(pidfd):
        raise not_a_number("pidfd", pidfd)
    flag("reap", reap)
    check_loop("wait_pidfd()")
    with contextlib.suppress(ProcessLookupError, PermissionError):  # these come of pidfds only
        signal.pidfd_send_signal(pidfd, 0)
    # Any number of tasks may wait for one process, but a loop has one reader for a descriptor.
    copy = fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        return await until_settled(lambda: exit_status(copy, reap=reap), copy)
    finally:
        os.close(copy)


async def until_settled(look: Callable[[], int | Unsettled], fd: int) -> int | None:
    """Look until there is a status, or will be none. While it runs, wait until `fd` is readable."""
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
    """How a process ended, as a return code, or why that is unknown. Never blocks.

    Args:
        pidfd: a pidfd of the process.
        reap: whether to reap the process if it is a child of ours that has exited.
    """
    if not has_exited(pidfd):  # a thread group may still run when its first thread is a zombie
        return Unsettled.RUNS
    with contextlib.suppress(ChildProcessError):  # not a child of ours, or reaped by others
        options = os.WEXITED | os.WNOHANG | WALL | (0 if reap else os.WNOWAIT)
        result = os.waitid(os.P_PIDFD, pidfd, options)
        if result is None:  # a tracer is told first
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
    """What waitid(2) tells, in subprocess's form: the exit status, or minus the signal's number."""
    return status if code == os.CLD_EXITED else -status
