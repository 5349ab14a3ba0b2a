"""The stdin of a `Process`: asyncio's StreamWriter on our pipes."""

import asyncio
from typing import Any, NoReturn

from .._pidfd.not_copyable import Owner
from .._pidfd.unpatched import epoll
from .pipe_transports import WritePipe
from .terminal import TerminalWriter

__all__ = ["PipeWriter", "open_writer"]


class PipeWriter(Owner, asyncio.StreamWriter):
    """A program's stdin: an `asyncio.StreamWriter` that any thread may let go of."""

    # The attributes of asyncio.StreamWriter that this class uses, the same in Python 3.11 to 3.15.
    _protocol: asyncio.BaseProtocol

    def __del__(self, *_: object) -> None:
        """Close the pipe when what was written is: nobody writes to it any more."""
        if (pipe := getattr(self, "_transport", None)) is not None:
            pipe.let_go(self._protocol)

    async def start_tls(self, *_: object, **__: object) -> NoReturn:
        """Raise TypeError: a pipe cannot be encrypted."""
        raise TypeError("start_tls() is for sockets, and a program's stdin is none")


class _WriterProtocol(asyncio.Protocol):
    """What `StreamWriter.drain` and `wait_closed` require of their protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._paused = False
        self._lost = False
        self._exc: Exception | None = None
        self._drains: list[asyncio.Future[None]] = []
        self._closers: list[asyncio.Future[None]] = []

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        _wake(self._drains)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._exc = exc
        _wake(self._drains)
        _wake(self._closers)

    async def _drain_helper(self) -> None:
        if not self._lost and self._paused:
            await self._wait(self._drains)
        if self._lost:
            raise self._exc or ConnectionResetError("Connection lost")

    def _get_close_waiter(self, stream: asyncio.StreamWriter) -> Any:
        del stream
        return self._closed()

    async def _closed(self) -> None:
        if not self._lost:
            await self._wait(self._closers)
        if self._exc is not None:
            raise self._exc

    async def _wait(self, waiters: list[asyncio.Future[None]]) -> None:
        waiter = self._loop.create_future()
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    woken, waiters[:] = [*waiters], []
    for waiter in woken:
        if not waiter.done():
            waiter.set_result(None)


def open_writer(loop: asyncio.AbstractEventLoop, fd: int, watch: epoll | None = None) -> PipeWriter:
    """A writer to our end of a pipe or terminal, with an epoll set for the latter. It owns both."""
    protocol = _WriterProtocol(loop)
    if watch is None:
        return PipeWriter(WritePipe(loop, fd, protocol), protocol, None, loop)
    return PipeWriter(TerminalWriter(loop, fd, protocol, watch), protocol, None, loop)
