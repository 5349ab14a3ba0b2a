"""Our descriptors are never among the standard three, even where the host has closed those."""

import errno
import fcntl
import os
from typing import Final

from .._pidfd.unpatched import epoll

__all__ = [
    "FIRST",
    "above_stdio",
    "duplicate",
    "epoll_above_stdio",
    "pipe_above_stdio",
]

FIRST: Final = 3


def duplicate(fd: int) -> int:
    """A duplicate above the standard three; it is close-on-exec.

    Raises:
        OSError: EBADF; EMFILE, also where not even 3 is allowed (fcntl(2) would say EINVAL).
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None


def above_stdio(fd: int) -> int:
    """The same file above the standard three. If `fd` is one of the three, it is closed."""
    if fd >= FIRST:
        return fd
    try:
        return duplicate(fd)
    finally:
        os.close(fd)


def pipe_above_stdio() -> tuple[int, int]:
    """A pipe's read end and write end, both close-on-exec."""
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        read = above_stdio(read)
    except OSError:
        os.close(write)
        raise
    try:
        return read, above_stdio(write)
    except OSError:
        os.close(read)
        raise


def epoll_above_stdio() -> epoll:
    """A new epoll set, which is close-on-exec."""
    new = epoll()
    if new.fileno() >= FIRST:
        return new
    with new:
        return epoll.fromfd(duplicate(new.fileno()))
