"""A pidfd of a program that others have started, as long as its pid cannot mean another process."""

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .wait import WALL, open_pidfd

__all__ = ["HasHandle", "HasPid", "NoHandleError", "held_pidfd"]


class NoHandleError(ProcessLookupError):
    """There is no pidfd: the program has exited, and its exit is known."""

    __module__ = "aiopidfd"


class HasHandle(Protocol):
    """A `Process`, a `Child`, or another object that lends a pidfd of a program."""

    def handle(self) -> AbstractContextManager[int]:
        """A pidfd that is valid inside the block."""


class HasPid(Protocol):
    """A child of ours that only its own object reaps, so until then its pid stays its own."""

    @property
    def pid(self) -> int | None:
        """Its process id."""


def held_pidfd(process: HasHandle | HasPid) -> AbstractContextManager[int]:
    """A pidfd of a program, valid inside the block. See `PidFd.from_process`."""
    # If a loop of ours has started asyncio's Process, its transport is one of ours.
    for owner in (process, getattr(process, "_transport", None)):
        handle = getattr(owner, "handle", None)
        if callable(handle):
            lent: AbstractContextManager[int] = handle()
            return lent
    if not hasattr(process, "pid") or not _knows_its_end(process):
        hint = "; PidFd.open() takes a pid" if hasattr(process, "pid") else ""
        if isinstance(process, int):
            hint = ": PidFd.open() takes a pid, PidFd.from_fd() a pidfd"
        raise TypeError(
            "from_process() takes a process of aiopidfd, subprocess, asyncio or multiprocessing, "
            f"not {type(process).__name__}{hint}"
        )
    return _held_by_pid(process)


def _knows_its_end(process: object) -> bool:
    return hasattr(type(process), "exitcode") or hasattr(process, "returncode")


def _exit_of(process: Any) -> int | None:
    code: int | None = process.exitcode if hasattr(process, "exitcode") else process.returncode
    return code


@contextlib.contextmanager
def _held_by_pid(process: Any) -> Iterator[int]:
    if process.pid is None:
        raise ValueError("the process was not started")
    if _exit_of(process) is not None:
        raise NoHandleError(errno.ESRCH, "the program has exited")
    try:
        fd = open_pidfd(process.pid)
    except ProcessLookupError:
        raise NoHandleError(errno.ESRCH, "the program was reaped by somebody else") from None
    try:
        try:  # our child is not reaped yet, so the pid has been its own all the time
            os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
        except ChildProcessError:
            raise NoHandleError(
                errno.ESRCH, f"pid {process.pid} is no child of this process, or was reaped"
            ) from None
        yield fd
    finally:
        os.close(fd)
