"""How much a pipe can hold (the option pipesize), and how much it holds."""

import fcntl
import struct
import termios
from typing import Any

from .._pidfd.arguments import integer, is_number

__all__ = ["held", "pipe_size", "set_pipe_size"]


def pipe_size(size: Any) -> int:
    """The option pipesize, as an int of C; -1 to leave it. Raises TypeError, OverflowError."""
    if size is None:
        return -1
    if not is_number(size):
        raise TypeError("pipesize must be an integer")
    return integer("pipesize", size)


def set_pipe_size(fd: int, size: int) -> None:
    """Make a pipe hold `size` bytes, if that is positive. Raises OSError that names the option."""
    if size > 0:
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        except OSError as exc:
            raise OSError(exc.errno, f"{exc.strerror} (for the option pipesize)") from None


def held(fd: int) -> int:
    """How many bytes a pipe holds at this moment (FIONREAD, ioctl_tty(2))."""
    size: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return size
