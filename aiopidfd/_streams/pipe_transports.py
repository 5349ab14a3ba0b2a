"""Our ends of a program's pipes, as transports on any loop that has `add_reader`.

asyncio's own pipe transports are not used, for three reasons: they copy what they read twice on the
way to `communicate()`, they differ between loops, and their destructors call a closed loop.
"""

import asyncio
import contextlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from .._pidfd.unpatched import read, write
from .._spawn.pipe_size import held
from .pipe_fd import PipeEnd

__all__ = ["ReadPipe", "WritePipe"]

_CHUNK: Final = 64 * 1024  # what a pipe holds by default (pipe(7))
_CHUNKS_PER_TURN: Final = 4  # then other tasks have a turn: a fast writer must not starve them
_HIGH_WATER: Final = 64 * 1024
_MAX_BUFFERS: Final = 64  # below IOV_MAX
_SMALL: Final = 4 * 1024  # bytes: smaller buffers are joined, larger ones are not copied

Bytes: TypeAlias = bytes | bytearray | memoryview


class _Pipe(PipeEnd, asyncio.BaseTransport):
    """What both ends have in common: a descriptor on a loop, and a protocol to tell of the end."""

    _closing = False

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, protocol: asyncio.BaseProtocol
    ) -> None:
        super().__init__(fd)
        self._loop = loop
        self._protocol: Any = protocol

    def _described(self) -> str:
        return f"closing fd={self._fd}" if self._closing and self._fd >= 0 else super()._described()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """For "pipe" an object with a fileno(), as in asyncio; for other names the default."""
        return self if name == "pipe" else default

    def is_closing(self) -> bool:
        """Whether the end is closed, or will be when what is buffered is written."""
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Use another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol in use; None after its connection_lost."""
        return self._protocol  # type: ignore[no-any-return]

    def let_go(self, protocol: asyncio.BaseProtocol) -> None:
        """Close this soon, because nobody has the stream above any more, whose `protocol` this is.

        Whoever has given it another protocol goes on with it. A destructor calls this, in any
        thread, and perhaps in the middle of the loop's own work.
        """
        if not self._closing and self._protocol is protocol:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and does not hold us
                self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        unclosed = None if self._closing else self._unclosed()
        self.close()
        if unclosed:
            warnings.warn(unclosed, ResourceWarning, source=self, stacklevel=2)

    def _begin(self, on_ready: Callable[[], None] | None) -> None:
        """Call connection_made, and register with the loop. If that fails, close the descriptor."""
        try:
            self._protocol.connection_made(self)
            if on_ready is not None:
                self._loop.add_reader(self._fd, on_ready)
        except BaseException:
            with contextlib.suppress(RuntimeError):  # a transport of the host's has the number
                self._loop.remove_reader(self._fd)  # a signal handler may have raised after that
            self._close_fd()
            raise

    def _forget_readiness(self) -> None:
        raise NotImplementedError

    def _finish(self, exc: Exception | None) -> None:
        """Close the descriptor and tell the protocol, in the loop's next turn."""
        self._closing = True
        if self._fd < 0:
            return
        if self._loop.is_closed():  # nobody can be told any more
            self._close_fd()
            return
        self._forget_readiness()
        self._close_fd()
        self._loop.call_soon(self._lose_connection, exc)

    def _lose_connection(self, exc: Exception | None) -> None:
        # The protocol, or its reader, refers to us. Without this cycle everything is freed at once.
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(exc)


class ReadPipe(_Pipe, asyncio.ReadTransport):
    """Reads a program's output. Calls the protocol's data_received and eof_received."""

    _end_errno: int | None = None  # an error that means end of file

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, protocol: asyncio.BaseProtocol
    ) -> None:
        """Take over `fd`, and begin to read it."""
        super().__init__(loop, fd, protocol)
        self._paused = False
        self._begin(self._on_readable)

    def is_reading(self) -> bool:
        """Whether data is read from the pipe now."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Stop reading. What comes stays in the pipe; when it is full the program has to wait."""
        if self.is_reading():
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._paused and not self._closing:
            self._paused = False
            self._loop.add_reader(self._fd, self._on_readable)

    def close(self) -> None:
        """Close the pipe. What it still holds is lost, and the program's next write fails."""
        self._finish(None)

    def drain(self) -> None:
        """Read what the pipe holds at this moment, and no more. Does not wait."""
        if self._fd < 0 or self._paused:
            return
        left = self._held()
        while left > 0 and self.is_reading():
            data = self._read()
            if not data:
                return
            left -= len(data)

    def _held(self) -> int:
        return held(self._fd)

    def _on_readable(self) -> None:
        for _ in range(_CHUNKS_PER_TURN):
            data = self._read()
            if not data or len(data) < _CHUNK or not self.is_reading():
                return

    def _read(self) -> bytes | None:
        """Read once and pass the data on. None if there was nothing, b"" at the end."""
        try:
            data = read(self._fd, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as exc:
            if exc.errno != self._end_errno:
                self._finish(exc)
                return None
            data = b""
        if data:
            self._protocol.data_received(data)
        else:
            self._protocol.eof_received()
            self._finish(None)
        return data

    def _forget_readiness(self) -> None:
        self._loop.remove_reader(self._fd)  # also when paused: that may have been interrupted


class WritePipe(_Pipe, asyncio.Transport):
    """Writes a program's input. Calls the protocol's pause_writing and resume_writing.

    Like asyncio's own, it is a Transport whose reading half raises NotImplementedError.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, protocol: asyncio.BaseProtocol
    ) -> None:
        """Take over `fd`."""
        super().__init__(loop, fd, protocol)
        self._buffers: deque[memoryview | bytearray] = deque()
        self._joined: bytearray | None = None  # the last buffer, if small ones are added to it
        self._size = 0
        self._high = _HIGH_WATER
        self._low = _HIGH_WATER // 4
        self._protocol_paused = False
        self._writing = False
        self._watch_reader()

    def write(self, data: Any) -> None:
        """Write bytes. What the pipe does not take now is written later, in order.

        Raises:
            TypeError: not bytes-like.
        """
        if (joined := self._joined) is not None and isinstance(data, bytes) and len(data) < _SMALL:
            joined += data  # the usual case: many small ones
            self._size += len(data)
            if len(joined) >= _CHUNK:
                self._joined = None
            if self._size > self._high and not self._protocol_paused:
                self._tell_protocol()
            return
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expected a bytes-like object, got {type(data).__name__}")
        if self._closing or not data:
            return  # the program is gone, or close() was called; the protocol knows
        if isinstance(data, memoryview):
            data = data.cast("B")
        if not self._size:
            written = self._try([data])
            if written == len(data) or self._closing:
                return
            data = memoryview(data)[written:]
        self._push(data)

    def writelines(self, list_of_data: Any) -> None:
        """Write each item of the list."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Close the pipe when all is written. Then the program reads the end of file."""
        self.close()

    def can_write_eof(self) -> bool:
        """Return True: closing the pipe is the end of file."""
        return True

    def close(self) -> None:
        """Close the pipe when all is written."""
        if not self._closing:
            self._closing = True
            self._joined = None  # nothing may be added any more
            if not self._buffers:
                self._all_written()

    def abort(self) -> None:
        """Close the pipe now. What was not written yet is lost."""
        self._finish(None)

    def get_write_buffer_size(self) -> int:
        """How many bytes the pipe has not taken yet."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and high marks, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, as asyncio.WriteTransport does."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._tell_protocol()

    def _watch_reader(self) -> None:
        # Nothing is ever read here: the descriptor becomes ready when the last reader has gone.
        self._begin(self._on_reader_gone)

    def _all_written(self) -> None:
        """Close the pipe, which is the end of file. All is written, and we are closing."""
        self._finish(None)

    def _push(self, data: bytes | bytearray | memoryview) -> None:
        """Keep bytes for later. Buffers that may change meanwhile are copied."""
        if len(data) >= _SMALL:
            view = memoryview(data)
            view = view if isinstance(view.obj, bytes) else memoryview(bytes(view))
            self._buffers.append(view)
            self._joined = None
        elif self._joined is not None:
            self._joined += data
        else:
            self._joined = bytearray(data)
            self._buffers.append(self._joined)
        self._size += len(data)
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._on_writable)
        self._tell_protocol()

    def _try(self, buffers: Sequence[Bytes]) -> int:
        """Write what the pipe takes now. Returns how many bytes that is."""
        try:
            if len(buffers) == 1:
                return write(self._fd, buffers[0])
            return os.writev(self._fd, buffers)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self._lose(exc)
            return 0

    def _on_writable(self) -> None:
        written = self._try([*islice(self._buffers, _MAX_BUFFERS)])
        self._size -= written
        while written:
            first = self._buffers[0]
            if written < len(first):
                if isinstance(first, bytearray):
                    del first[:written]
                else:
                    self._buffers[0] = first[written:]
                break
            written -= len(first)
            self._buffers.popleft()
        if not self._buffers:
            self._joined = None
        self._tell_protocol()  # before the end: tasks that wait in drain() have succeeded
        if self._fd >= 0 and not self._buffers:
            self._writing = False
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._all_written()

    def _on_reader_gone(self) -> None:
        self._lose(BrokenPipeError(32, os.strerror(32)) if self._buffers else None)

    def _lose(self, exc: OSError | None) -> None:
        self._finish(exc)

    def _tell_protocol(self) -> None:
        if self._fd < 0:
            return
        if not self._protocol_paused and self._size > self._high:
            self._protocol_paused = True
            self._protocol.pause_writing()
        elif self._protocol_paused and self._size <= self._low:
            self._protocol_paused = False
            self._protocol.resume_writing()

    def _forget_readiness(self) -> None:
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        self._buffers.clear()
        self._joined = None
        self._size = 0
