"""Our ends of a program's pseudo-terminal (pty(7)) on a loop, and what keeps the terminal up.

Each of our ends is a duplicate of the master. One more duplicate belongs to the `Terminal`, which
keeps the terminal up while the program runs: when the last duplicate is closed, the kernel hangs
the terminal up.
"""

import asyncio
import contextlib
import errno
import os
import termios
from collections.abc import Sequence
from typing import Final

from .. import _native
from .._pidfd.unpatched import EPOLLET, EPOLLIN, epoll, read
from .._spawn.fds_above_stdio import epoll_above_stdio
from .._spawn.open_terminal import check_window_size, get_window_size, set_window_size
from .pipe_fd import PipeEnd
from .pipe_transports import Bytes, ReadPipe, WritePipe

__all__ = [
    "HELD_AT_MOST",
    "HasTerminal",
    "Terminal",
    "TerminalReader",
    "TerminalWriter",
    "end_of_file",
    "is_hung_up",
]

# More than a terminal holds: twice 8 KiB in its buffers and 4 KiB in the line discipline. FIONREAD
# tells only a part of that.
HELD_AT_MOST: Final = 64 * 1024

_CHUNK: Final = 64 * 1024
_READS_PER_TURN: Final = 16  # each of 4 KiB at most, whatever size is asked for
_EDGE: Final = EPOLLIN | EPOLLET


def is_hung_up(master: int) -> bool:
    """Whether nobody has the slave open. What is written then is lost, or is never taken."""
    return _native.is_hung_up(master)


def end_of_file(master: int, last: bytes) -> bytes:
    """What to write so that the program reads the end of file; nothing in raw mode.

    It is the character VEOF (termios(3), ICANON), which ends a read with what the line has so far.
    Only at the start of a line is that nothing, which means end of file. Elsewhere the
    character is written twice.

    Args:
        master: the terminal's master; it has the same settings as the slave.
        last: the last byte that was written before, or nothing.
    """
    try:
        input_flags, _, _, local_flags, _, _, characters = termios.tcgetattr(master)
    except termios.error:  # the terminal is hung up
        return b""
    eof: bytes = characters[termios.VEOF]
    if not local_flags & termios.ICANON or eof == b"\0":  # 0: the character is switched off
        return b""
    ends = [b"", b"\n", eof]
    if input_flags & termios.ICRNL:
        ends.append(b"\r")
    return eof if last in ends else 2 * eof


class Terminal(PipeEnd):
    """Keeps a terminal up until the program has exited, and knows its size.

    If no stream reads the terminal, or no longer, this reads it and drops what it gets: the echo,
    and what the program writes to /dev/tty. Otherwise such writes would block.
    """

    def __init__(self, master: int) -> None:
        """Take over `master`."""
        super().__init__(master)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: epoll | None = None

    @property
    def window_size(self) -> tuple[int, int]:
        """(rows, columns). Raises OSError (ENOTTY) when the terminal is closed."""
        return get_window_size(self._open_fd())

    def set_window_size(self, rows: int, columns: int) -> None:
        """Change the size. Raises TypeError, ValueError; OSError (ENOTTY) when it is closed."""
        set_window_size(self._open_fd(), *check_window_size((rows, columns)))

    def drop_output(self, loop: asyncio.AbstractEventLoop, watch: epoll) -> None:
        """Read and drop all output from now on.

        After a hang-up this goes on when somebody opens the terminal again (tty(4)).
        `watch` is an epoll set, which this object owns from now on.
        """
        # Edge-triggered, because the master is always ready while nobody has the slave open.
        self._loop, self._watch = loop, watch
        try:
            watch.register(self._fd, _EDGE)
            loop.add_reader(watch.fileno(), self._on_readable)
        except BaseException:
            self._stop_dropping()
            raise

    def drop_rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read on after the stream that has read it has ended: the program may open it again."""
        if self._fd >= 0 and self._watch is None:
            with contextlib.suppress(OSError):  # no descriptor is free: then it is not read
                self.drop_output(loop, epoll_above_stdio())

    def close(self) -> None:
        """Close our duplicate. When our streams are closed as well, the terminal is hung up."""
        self._stop_dropping()
        self._close_fd()

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise OSError(errno.ENOTTY, "the program has exited, or its terminal is closed")
        return self._fd

    def _on_readable(self) -> None:
        if self._watch is None:
            return
        self._watch.poll(0)
        try:
            ended = not all(read(self._fd, _CHUNK) for _ in range(_READS_PER_TURN))
        except OSError:  # EAGAIN: that was all; EIO: hung up
            return
        if not ended:
            self._watch.modify(self._fd, _EDGE)  # then epoll tells again of what is left

    def _stop_dropping(self) -> None:
        loop, watch = self._loop, self._watch
        self._loop = self._watch = None
        if loop is not None and watch is not None:
            loop.remove_reader(watch.fileno())
            watch.close()


class TerminalReader(ReadPipe):
    """Reads what the program writes to its terminal."""

    _end_errno = errno.EIO  # from a master when nobody has the slave and all is read

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        protocol: asyncio.BaseProtocol,
        terminal: Terminal,
    ) -> None:
        """Take over `fd`, and begin to read it."""
        self._terminal = terminal
        super().__init__(loop, fd, protocol)

    def close(self) -> None:
        """Close this end. Then nobody reads: unless we still write, the terminal is hung up."""
        if self._fd >= 0:  # at the end it closes by itself, and the program may go on
            super().close()
            self._terminal.close()

    def _held(self) -> int:
        return HELD_AT_MOST

    def _read(self) -> bytes | None:
        data = super()._read()
        if data == b"":
            self._terminal.drop_rest(self._loop)
        return data


class TerminalWriter(WritePipe):
    """Writes what the program reads from its terminal."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        protocol: asyncio.BaseProtocol,
        watch: epoll,
    ) -> None:
        """Take over `fd` and the epoll set `watch`."""
        self._last = b""
        self._eof_sent = False
        self._watch = watch
        try:
            super().__init__(loop, fd, protocol)
        except BaseException:
            watch.close()
            raise

    def _watch_reader(self) -> None:
        # The master itself is also ready for other reasons, and always ready after a hang-up.
        self._begin(None)
        try:
            self._watch.register(self._fd, EPOLLET)  # EPOLLHUP comes without being asked for
            self._loop.add_reader(self._watch.fileno(), self._on_hang_up)
        except BaseException:
            self._loop.remove_reader(self._watch.fileno())
            self._close_fd()
            raise

    def _on_hang_up(self) -> None:
        if not self._watch.closed and self._watch.poll(0) and is_hung_up(self._fd):
            self._on_reader_gone()

    def _forget_readiness(self) -> None:
        super()._forget_readiness()
        self._loop.remove_reader(self._watch.fileno())
        self._watch.close()

    def _all_written(self) -> None:
        """Write the end of file when all else is written: closing would not tell it."""
        if not self._eof_sent:
            self._eof_sent = True
            eof = end_of_file(self._fd, self._last)
            if eof:
                eof = eof[self._try([eof]) :]
            if self._fd < 0:
                return
            if eof:
                self._push(eof)
                return
        self._finish(None)

    def _try(self, buffers: Sequence[Bytes]) -> int:
        # If nobody reads, the kernel takes some KB and drops them, and then takes nothing more.
        if is_hung_up(self._fd):
            self._lose(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            return 0
        left = written = super()._try(buffers)
        for buffer in buffers:
            if 0 < left <= len(buffer):
                self._last = bytes(buffer[left - 1 : left])
            left -= len(buffer)
        return written


class HasTerminal:
    """What every handle to a program has for the program's terminal."""

    _terminal: Terminal | None = None

    @property
    def window_size(self) -> tuple[int, int]:
        """The (rows, columns) of the program's terminal. Raises OSError as `set_window_size`."""
        return self._required_terminal().window_size

    def set_window_size(self, rows: int, columns: int) -> None:
        """Change the size of the program's terminal. If it changes, the program gets SIGWINCH.

        More precisely: the terminal's foreground process group gets it (ioctl_tty(2)).

        Raises:
            OSError: ENOTTY: no stream is PTY, the program has exited, or the terminal is closed.
            ValueError: a number that is not from 0 to 65535.
            TypeError: not a number.
        """
        self._required_terminal().set_window_size(rows, columns)

    def _required_terminal(self) -> Terminal:
        if self._terminal is None:
            raise OSError(errno.ENOTTY, "the program has no terminal of ours: nothing is PTY")
        return self._terminal
