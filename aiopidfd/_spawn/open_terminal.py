"""A pseudo-terminal for a program (pty(7)): how one is opened, and its window's size."""

import fcntl
import os
import struct
import termios
from typing import Any, Final

from .. import _native

__all__ = ["PTY", "check_window_size", "get_window_size", "open_terminal", "set_window_size"]

PTY: Final = -4  # used like subprocess's PIPE, STDOUT and DEVNULL

_WINSIZE: Final = struct.Struct("HHHH")  # ioctl_tty(2): rows, columns, two unused fields
_LARGEST: Final = 2**16 - 1
_UNLOCKED: Final = struct.pack("i", 0)


def open_terminal() -> tuple[int, int]:
    """A new pseudo-terminal: the descriptors of its master and its slave, both close-on-exec.

    The slave comes from the master itself (TIOCGPTPEER, Linux 4.13), not from a name in a /dev/pts
    that may belong to another mount. Neither becomes our own controlling terminal.

    Raises:
        OSError: EMFILE, ENFILE; ENOSPC: the system has no terminal left; ENOENT, EACCES.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("/dev/ptmx", flags)
    try:
        fcntl.ioctl(master, _native.TIOCSPTLCK, _UNLOCKED)
        return master, fcntl.ioctl(master, _native.TIOCGPTPEER, flags)
    except BaseException:
        os.close(master)
        raise


def check_window_size(size: Any) -> tuple[int, int]:
    """(rows, columns), each from 0 to 65535. Raises TypeError, ValueError."""
    if isinstance(size, os.terminal_size):  # also a pair, but in the other order
        raise TypeError("window_size must be (rows, columns): os.terminal_size is (columns, lines)")
    try:
        rows, columns = size
    except (TypeError, ValueError):
        raise TypeError(f"window_size must be (rows, columns), not {size!r}") from None
    for name, value in (("rows", rows), ("columns", columns)):
        if not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
        if not 0 <= value <= _LARGEST:
            raise ValueError(f"{name} must be from 0 to {_LARGEST}, not {value}")
    return rows, columns


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """Set the size (TIOCSWINSZ). If it changes, the foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, _WINSIZE.pack(rows, columns, 0, 0))


def get_window_size(fd: int) -> tuple[int, int]:
    """The size (TIOCGWINSZ): (rows, columns)."""
    data = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(_WINSIZE.size))
    rows, columns, _, _ = _WINSIZE.unpack(data)
    return rows, columns
