"""Our ends of a program's terminal as anyio byte streams. See `aiopidfd.PTY`."""

import contextlib
import errno
import os

import anyio
from anyio.lowlevel import checkpoint

from .._streams.terminal import HELD_AT_MOST, Terminal, end_of_file, is_hung_up
from ._streams import OutputPipe, ReceivePipe, SendPipe

__all__ = ["ReceiveTerminal", "SendTerminal"]


class ReceiveTerminal(ReceivePipe):
    """What a program writes to its terminal. The stream ends when nobody has the terminal open."""

    def __init__(self, fd: int, inside: OutputPipe, terminal: Terminal) -> None:
        """Take over `fd`."""
        super().__init__(fd, inside)
        self._terminal = terminal

    def close(self) -> None:
        """Close this end. Then nobody reads: unless we still send, the terminal is hung up."""
        if self._fd >= 0:  # at the end it closes by itself, and the program may go on
            self._terminal.close()
        super().close()

    def _take_held(self) -> bytes:
        taken = bytearray()
        while self._fd >= 0 and len(taken) < HELD_AT_MOST and (data := self._read(HELD_AT_MOST)):
            taken += data
        return bytes(taken)

    def _read_fd(self, max_bytes: int) -> bytes:
        try:
            return super()._read_fd(max_bytes)
        except OSError as exc:
            if exc.errno != errno.EIO:  # EIO: nobody has the terminal open, and all is read
                raise
            return b""


class SendTerminal(SendPipe):
    """What a program reads from its terminal.

    `aclose` sends the end of file if the terminal is in canonical mode; `close` sends none.
    """

    def __init__(self, fd: int) -> None:
        """Take over `fd`."""
        super().__init__(fd)
        self._last = b""

    async def aclose(self) -> None:
        """Send the end of file when the terminal takes it; then close this end."""
        try:
            if self._fd >= 0 and (eof := end_of_file(self._fd, self._last)):
                with contextlib.suppress(
                    anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.BusyResourceError
                ):
                    await self.send(eof)
        finally:
            self.close()
        await checkpoint()

    def _write(self, data: memoryview) -> int:
        # If nobody reads, the kernel takes some KB and drops them, and then takes nothing more.
        if is_hung_up(self._fd):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        written = super()._write(data)
        self._last = bytes(data[written - 1 : written]) or self._last
        return written
