"""Our ends of a program's pipes as anyio byte streams, on any backend of anyio."""

import contextlib
import io
from collections.abc import Callable
from operator import index
from typing import Any

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from .._pidfd.unpatched import read, write
from .._spawn.pipe_size import held
from .._streams.pipe_fd import PipeEnd

__all__ = ["OutputPipe", "ReceivePipe", "SendPipe"]

_CHUNK = 64 * 1024  # what a pipe holds by default (pipe(7))


class _Pipe(PipeEnd):
    """What both ends have in common."""

    _action: str  # what a second task is told that another one does

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._guard = anyio.ResourceGuard(self._action)

    def close(self) -> None:
        """Close our end. Tasks that wait for it get `anyio.ClosedResourceError`."""
        if self._fd >= 0:
            with contextlib.suppress(RuntimeError):  # no loop runs here, so no task waits
                anyio.notify_closing(self._fd)
            self._close_fd()

    async def aclose(self) -> None:
        """Close our end: every anyio stream has this method."""
        self.close()
        await checkpoint()

    def _check_open(self) -> None:
        if self._fd < 0:
            raise anyio.ClosedResourceError


class ReceivePipe(_Pipe, anyio.abc.ByteReceiveStream):
    """A program's stdout or stderr. At the end of the output our end closes itself."""

    _action = "reading from"
    _ended = False
    _left: io.BytesIO | None = None  # what was read when our end was closed after the exit

    def __init__(self, fd: int, inside: "OutputPipe") -> None:
        """Internal: the functions that start programs open streams. This takes over `fd`."""
        super().__init__(fd)
        inside.stream = self
        inside.take_held, inside.close_after_exit = self._take_held, self._close_after_exit

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        """Up to `max_bytes` of the output. A cancelled call loses nothing.

        Raises:
            anyio.EndOfStream: the output has ended.
            anyio.ClosedResourceError: our end is closed.
            anyio.BusyResourceError: another task is receiving.
        """
        if index(max_bytes) < 1:
            raise ValueError("max_bytes must be a positive integer")
        with self._guard:
            await checkpoint()  # not after the read: no shield stops asyncio's cancellation
            while (data := self._read(max_bytes)) is None:
                try:
                    await anyio.wait_readable(self._fd)
                except anyio.ClosedResourceError:
                    if not self._ended:
                        raise
        if not data:
            raise anyio.EndOfStream
        return data

    def close(self) -> None:
        """Close our end. Tasks that wait for it get `anyio.ClosedResourceError`."""
        super().close()
        self._ended = False
        self._left = None

    def _close_after_exit(self) -> None:
        if self._fd >= 0:
            left = self._take_held()
            _Pipe.close(self)
            self._left, self._ended = io.BytesIO(left), True

    def _take_held(self) -> bytes:
        if self._fd < 0:
            return b""
        size = held(self._fd)
        return self._read(size) or b"" if size else b""

    def _read(self, max_bytes: int) -> bytes | None:
        """Read once. None if there is nothing yet, b"" at the end."""
        if self._left is not None and (data := self._left.read(max_bytes)):
            return data
        if self._ended:
            return b""
        self._check_open()
        try:
            data = self._read_fd(max_bytes)
        except BlockingIOError:
            return None
        if not data:
            _Pipe.close(self)
            self._ended = True
        return data

    def _read_fd(self, max_bytes: int) -> bytes:
        return read(self._fd, max_bytes)


class OutputPipe:
    """One output of a program: the stream that its user has, and what only this package may do.

    A `ReceivePipe` fills it in.

    Attributes:
        stream: what the user has.
        take_held: take what the pipe holds at this moment, and no more. Does not wait.
        close_after_exit: close our end, but keep what the program has written: it can still be
            received.
    """

    stream: ReceivePipe
    take_held: Callable[[], bytes]
    close_after_exit: Callable[[], None]

    def close(self) -> None:
        """Close our end. See `ReceivePipe.close`."""
        self.stream.close()


class SendPipe(_Pipe, anyio.abc.ByteSendStream):
    """A program's stdin."""

    _action = "writing to"

    async def send(self, item: Any) -> None:
        """Write all of `item`. A cancelled call may have written a part of it.

        Raises:
            anyio.BrokenResourceError: the program has closed its stdin, or has exited.
            anyio.ClosedResourceError: our end is closed.
            anyio.BusyResourceError: another task is sending.
            TypeError: not bytes-like.
        """
        try:
            left = memoryview(item)
        except TypeError:
            raise TypeError(f"item must be bytes-like, not {type(item).__name__}") from None
        left = left.cast("B")
        with self._guard:
            await checkpoint()
            self._check_open()
            while left:
                try:
                    left = left[self._write(left) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._fd)
                    self._check_open()
                except BrokenPipeError as exc:
                    raise anyio.BrokenResourceError from exc

    def _write(self, data: memoryview) -> int:
        return write(self._fd, data)
