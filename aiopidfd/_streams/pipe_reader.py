"""The output of a `Process`: asyncio's StreamReader on our pipes, extended."""

import asyncio
import contextlib
import io
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from operator import index
from typing import Any, Final, cast

from .._pidfd.not_copyable import Owner
from .cut_lines import Ahead, iterate
from .pipe_transports import ReadPipe
from .terminal import Terminal, TerminalReader

__all__ = ["OutputReader", "PipeReader"]

# What holds several separators for readuntil(): since Python 3.13.
_SEPARATORS: Final = (tuple,) if sys.version_info >= (3, 13) else ()

_MANY: Final = 64 * 1024  # bytes of lines handed out in a row; then other tasks have a turn


class PipeReader(Owner, asyncio.StreamReader):
    """A program's stdout or stderr: an `asyncio.StreamReader` that can also be closed.

    It has more than asyncio's: `lines()` and `next_line()`, which have no limit. And its `read()`
    to the end neither pauses at the limit nor loses anything when it is cancelled. When nobody has
    the reader any more our end is closed, with a ResourceWarning if another process has the other.
    """

    # The attributes of asyncio.StreamReader that this class uses, the same in Python 3.11 to 3.15.
    _buffer: bytearray
    _eof: bool
    _exception: BaseException | None
    _limit: int
    _loop: asyncio.AbstractEventLoop
    _paused: bool
    _waiter: asyncio.Future[None] | None

    _pipe: ReadPipe
    _feed: "_ReaderProtocol"
    # All output while a call wants all. Unlike a bytearray, it gives its value without a copy.
    _gathered: io.BytesIO | None = None
    _at_eof: asyncio.Future[None] | None = None
    _takes_all = False  # whatever the limit: there will be no later

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop, inside: "OutputReader") -> None:
        """Internal: the functions that start programs open readers."""
        super().__init__(limit, loop)
        inside.gathering, inside.ended = self._gathering, self._ended
        inside.take_all, inside.close_after_exit = self._take_all, self._close_after_exit
        self._ahead = Ahead(b"\n")
        self._in_a_row = 0  # bytes of lines handed out since other tasks had a turn

    def __repr__(self) -> str:
        """The repr of asyncio, which says StreamReader."""
        return super().__repr__().replace("<StreamReader", f"<{type(self).__name__}", 1)

    def __del__(self) -> None:
        """Close the pipe, for which there is no reader any more."""
        if (pipe := getattr(self, "_pipe", None)) is not None:
            pipe.let_go(self._feed)

    @property
    def transport(self) -> asyncio.ReadTransport:
        """The transport below: that of the pipe or of the terminal."""
        return self._pipe

    def close(self) -> None:
        """Close our end. Readers see the end of file; the program's next write fails (EPIPE)."""
        self._pipe.close()
        if not self._loop.is_closed():  # else nobody can be told any more
            self.feed_eof()

    def is_closing(self) -> bool:
        """Whether our end is closed, by `close()` or because the output has ended."""
        return self._pipe.is_closing()

    def at_eof(self) -> bool:
        """Whether all output was read and no more will come."""
        return self._eof and self._ahead.are_all(len(self._buffer))

    def lines(self) -> AsyncIterator[bytes]:
        r"""Iterate over the lines, each with its "\n", which only the last line may lack.

        A line may be of any length, and is held in memory whole. Nothing is lost when the iteration
        is cancelled or left; the next read goes on from there.
        """
        return iterate(self._ahead, self.next_line)

    async def next_line(self) -> bytes:
        """One line of any length, or b"" at the end. A cancelled call loses nothing."""
        for line in self._ahead.lines:
            return line  # type: ignore[no-any-return]
        await self._settle_in_turn()
        seen = 0
        while (end := self._buffer.find(b"\n", seen)) < 0 and not self._eof:
            if self._exception is not None:
                raise self._exception
            seen = len(self._buffer)
            await self._wait_for_data("next_line")
        line = self._take(end + 1 if end >= 0 else len(self._buffer))
        self._ahead.cut(self._buffer, limit=self._limit)
        return line

    # Iteration and readline() have asyncio's limit. Lines that are cut ahead never exceed it.

    async def __anext__(self) -> bytes:
        """One line, as `readline` returns it."""
        for line in self._ahead.lines:
            return line  # type: ignore[no-any-return]
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    async def readline(self) -> bytes:
        """Read a line, as asyncio's method does."""
        for line in self._ahead.lines:
            return line  # type: ignore[no-any-return]
        await self._settle_in_turn()
        line = await super().readline()
        self._ahead.cut(self._buffer, limit=self._limit)
        return line

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        """Read until a separator, as asyncio's method does."""
        for one in separator if isinstance(separator, _SEPARATORS) else (separator,):
            if not isinstance(one, (bytes, bytearray, memoryview)):
                raise TypeError(f"separator must be bytes-like, not {type(one).__name__}")
        self._settle()
        return await super().readuntil(separator)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes, as asyncio's method does."""
        n = index(n)
        self._settle()
        return await super().readexactly(n)

    async def read(self, n: int = -1) -> bytes:
        """As asyncio's method. A negative n reads up to the end; cancelled, it loses nothing."""
        n = index(n)
        if n >= 0:
            self._settle()
            # Another task may take what this one was woken for: that is not the end.
            while n and not self._buffer and not self._eof and self._exception is None:
                await self._wait_for_data("read")
            return await super().read(n)
        with self._gathering():
            await self._ended()
            return self._take_all()

    @contextlib.contextmanager
    def _gathering(self) -> Iterator[None]:
        """In the block, take in everything, whatever the limit. The rest stays for later reads."""
        self._refuse_a_second("read")
        self._settle()
        gathered = self._gathered = io.BytesIO()
        gathered.write(self._buffer)
        self._buffer.clear()
        self._feed.awaited = self
        self._resume_if_wanted()
        try:
            yield
        finally:
            self._feed.awaited = self._gathered = None
            with contextlib.suppress(ValueError):  # the garbage collector has closed it
                self._buffer += gathered.getbuffer()
            self._pause_if_full()

    def _refuse_a_second(self, name: str) -> None:
        if self._feed.awaited is not None:
            raise RuntimeError(
                f"{name}() called while another coroutine is already waiting for incoming data"
            )

    async def _ended(self) -> None:
        """Wait for the end of the output, without taking any of it."""
        if not self._eof and self._exception is None:
            self._at_eof = self._loop.create_future()
            await self._at_eof
        if self._exception is not None:
            raise self._exception

    def _take_all(self) -> bytes:
        """Take all that was read so far."""
        if self._gathered is None:
            self._settle()
            return self._take(len(self._buffer))
        data = self._gathered.getvalue()
        self._gathered.seek(0)
        self._gathered.truncate()
        return data

    def _close_after_exit(self) -> None:
        self._takes_all = True  # it may be full, or become full while somebody waits for data
        self._resume_if_wanted()
        self._pipe.drain()
        self.close()

    def _settle(self) -> int:
        """Before the buffer is used: drop what was handed out. Returns how much that was."""
        if taken := self._ahead.settle():
            del self._buffer[:taken]
        return taken

    async def _settle_in_turn(self) -> None:
        self._in_a_row += self._settle()
        if self._in_a_row >= _MANY:
            self._in_a_row = 0
            if self._buffer:
                await asyncio.sleep(0)
                self._settle()

    def feed_data(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[override]
        """Take in data. The pipe calls this."""
        if self._gathered is not None:
            self._gathered.write(data)
            return
        self._buffer += data
        self._wakeup_waiter()  # type: ignore[attr-defined]
        self._pause_if_full()

    def feed_eof(self) -> None:
        """Take note of the end. The pipe calls this. A second call does nothing."""
        if not self._eof:
            super().feed_eof()
            self._end()

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport. It calls this when it is opened."""
        super().set_transport(transport)
        pipe = cast("ReadPipe", transport)
        self._feed = cast("_ReaderProtocol", pipe.get_protocol())
        self._pipe = pipe

    def set_exception(self, exc: Exception) -> None:
        """Take note of an error. The pipe calls this."""
        self._settle()
        super().set_exception(exc)
        self._end()

    def _end(self) -> None:
        if self._at_eof is not None and not self._at_eof.done():
            self._at_eof.set_result(None)

    async def _wait_for_data(self, func_name: str) -> None:
        self._refuse_a_second(func_name)
        self._feed.awaited = self
        try:
            await super()._wait_for_data(func_name)  # type: ignore[misc]
        finally:
            self._feed.awaited = None
        self._settle()  # another task may have read meanwhile, and cut lines

    def _take(self, size: int) -> bytes:
        if size == len(self._buffer):
            data = bytes(self._buffer)
            self._buffer.clear()
        else:
            data = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
        self._resume_if_wanted()
        return data

    def _pause_if_full(self) -> None:
        if self._paused or self._takes_all or not self._pipe.is_reading():
            return
        if len(self._buffer) > 2 * self._limit:
            self._pipe.pause_reading()
            self._paused = True

    def _resume_if_wanted(self) -> None:
        unlimited = self._takes_all or self._gathered is not None
        if self._paused and (unlimited or len(self._buffer) <= self._limit):
            self._paused = False
            self._pipe.resume_reading()

    _maybe_resume_transport = _resume_if_wanted  # asyncio's own methods call this name


class OutputReader:
    """One output of a program: the reader that its user has, and what only this package may do.

    Attributes:
        reader: what the user has.
        gathering: a context manager: in the block, take in everything, whatever the limit. The rest
            stays for later reads. Raises RuntimeError: somebody reads.
        ended: wait for the end of the output, without taking any of it.
        take_all: take all that was read so far.
        close_after_exit: close our end, but keep what the program has written for later reads.
    """

    reader: PipeReader
    gathering: Callable[[], contextlib.AbstractContextManager[None]]
    ended: Callable[[], Awaitable[None]]
    take_all: Callable[[], bytes]
    close_after_exit: Callable[[], None]

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, limit: int, terminal: Terminal | None = None
    ) -> None:
        """Open a reader for our end of a pipe or of a terminal. It owns the descriptor."""
        self.reader = PipeReader(limit, loop, self)
        protocol = _ReaderProtocol(self.reader)
        if terminal is None:
            self._pipe = ReadPipe(loop, fd, protocol)
        else:
            self._pipe = TerminalReader(loop, fd, protocol, terminal)
        self.reader.set_transport(self._pipe)

    def drain(self) -> None:
        """Read what the pipe holds at this moment. Does not wait."""
        self._pipe.drain()

    def close(self) -> None:
        """Close our end. See `PipeReader.close`."""
        self.reader.close()


class _ReaderProtocol(asyncio.Protocol):
    """Feeds a reader as long as somebody has it.

    The loop holds the pipe, and the pipe this. So this must not hold the reader: it would live, and
    its pipe be open, until the last process that has the other end closes it.

    Attributes:
        awaited: the reader while somebody awaits it: perhaps the loop alone knows of that task.
    """

    def __init__(self, reader: PipeReader) -> None:
        self._reader = weakref.ref(reader)
        self.awaited: PipeReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        if (reader := self._reader()) is not None:
            reader.feed_data(data)

    def eof_received(self) -> None:
        if (reader := self._reader()) is not None:
            reader.feed_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if (reader := self._reader()) is None:
            return
        if exc is not None:
            reader.set_exception(exc)
        else:
            reader.feed_eof()
