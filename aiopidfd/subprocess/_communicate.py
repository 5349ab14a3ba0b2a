"""A program's input and output, carried by the thread that waits for it: no loop, no thread."""

import contextlib
import subprocess
from select import EPOLLOUT, PIPE_BUF
from typing import TYPE_CHECKING, Any, Final

from .._pidfd.durations import Deadline
from .._pidfd.unpatched import EPOLLIN, read, write
from .._spawn.choose_sinks import Output
from .._spawn.end_with_grace import warn_of_the_rest
from .._spawn.failures import add_failure, raise_all
from .._spawn.fds_above_stdio import epoll_above_stdio
from .._spawn.kept_output import Outputs
from .._spawn.pipe_size import held
from .._spawn.run_arguments import DRAIN
from .._spawn.sinks import Sink, finish

if TYPE_CHECKING:
    from ._popen import Popen

__all__ = ["Carrier", "captured", "end"]

_CHUNK: Final = 64 * 1024  # what a pipe holds by default (pipe(7))
_A_WHILE: Final = 0.5  # seconds: a signal that does not interrupt a sleep is seen after it


class _TooLateError(Exception):
    """The call's timeout has passed, and a sink is busy still."""


def captured(process: "Popen[Any]") -> tuple[Output, Output]:
    """Each output of a program that is a pipe is captured."""
    out, err = [Output(None, (), file is not None) for file in (process.stdout, process.stderr)]
    return out, err


class Carrier:
    """Carries a program's input to it, and its outputs to their sinks.

    A call that has timed out can be repeated: nothing is lost.

    Attributes:
        outputs: the outputs, and what is kept of them.
    """

    def __init__(self, process: "Popen[Any]", outputs: Outputs, input: bytes | None) -> None:
        """For a program that has just been started. Nobody else may use its pipes meanwhile.

        Raises:
            ValueError: there is input, but the caller has closed its stdin.
        """
        if input and process.stdin is not None and process.stdin.closed:
            raise ValueError("flush of closed file")  # subprocess says it so
        self.outputs = outputs
        self._stdin = process.stdin
        self._files: dict[int, Any] = {}
        self._sinks: dict[int, Sink] = {}
        for file, sink in zip((process.stdout, process.stderr), outputs.sinks, strict=True):
            if file is not None and sink is not None and not file.closed:
                self._files[file.fileno()] = file
                self._sinks[file.fileno()] = sink
        self._input = memoryview(input or b"").cast("B")
        self._failures: list[BaseException] = []
        self._busy = Deadline(None)  # until when a sink may be busy

    def communicate(
        self, process: "Popen[Any]", timeout: float | None, *, ends: bool
    ) -> tuple[Any, Any]:
        """Carry until all outputs have ended, and wait for the exit. Returns (stdout, stderr).

        Args:
            process: the program. (We do not keep it: it may keep us.)
            timeout: seconds; None for no limit.
            ends: whether the program and all that it has started is killed when they have passed.

        Raises:
            subprocess.TimeoutExpired: with what was captured, as bytes.
            OutputLimitError: see `run`; the program and all that it has started was killed.
            Exception: what a sink raised; likewise.
            ExceptionGroup: several of these errors.
        """
        deadline = Deadline(timeout)
        self._busy = Deadline(None if timeout is None else timeout + DRAIN)
        try:
            in_time = self._carry(deadline)
            if self._failures:
                try:
                    end(process)
                except PermissionError as exc:
                    self._failures.append(exc)
                else:
                    self._finish()
            elif in_time:
                process.wait(None if timeout is None else deadline.left)
        except subprocess.TimeoutExpired:
            in_time = False
        if self._failures:
            try:
                raise_all(self._failures)
            except Exception as exc:
                self.outputs.tell(exc)
                raise
        if not in_time:
            if ends:
                end(process)
                self._finish()
            raise self.outputs.expired(timeout)
        self.outputs.check_dropped()
        return self.outputs.result()

    def _carry(self, deadline: Deadline) -> bool:
        """Carry until everything has ended or something fails. False: the deadline has come."""
        with epoll_above_stdio() as waiting:
            for fd in self._files:
                waiting.register(fd, EPOLLIN)
            stdin = self._open_stdin()
            if stdin >= 0:
                waiting.register(stdin, EPOLLOUT)
            while (self._files or stdin >= 0) and not self._failures:
                if deadline.past:
                    return False
                for fd, _ in waiting.poll(min(deadline.left, _A_WHILE)):
                    if fd == stdin:
                        if not self._write(fd):
                            waiting.unregister(fd)
                            self._close_stdin()
                            stdin = -1
                    elif not self._read(fd):
                        waiting.unregister(fd)
                        self._files.pop(fd).close()
        return True

    def _open_stdin(self) -> int:
        """The descriptor that the input is to be written to; -1 if nothing is left to write."""
        file = self._stdin
        if file is None or file.closed:
            return -1
        with contextlib.suppress(BrokenPipeError):
            file.flush()  # what the caller has written
        if self._input:
            return file.fileno()
        self._close_stdin()
        return -1

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._stdin.close()

    def _write(self, fd: int) -> bool:
        """Write what never blocks. False: all is written, or nobody reads it any more."""
        try:
            self._input = self._input[write(fd, self._input[:PIPE_BUF]) :]
        except BrokenPipeError:
            return False
        return bool(self._input)

    def _read(self, fd: int) -> bool:
        """Read a chunk, and pass it on. False at the end."""
        data = read(fd, _CHUNK)
        self._pass_on(fd, data)
        return bool(data)

    def _pass_on(self, fd: int, data: bytes) -> None:
        """Give a chunk to the sink; b"" is the end. One that has failed gets no more."""
        sink = self._sinks.get(fd)
        if sink is None:
            return
        try:
            finish(sink.feed(data) if data else sink.end(), self._check_busy)
        except _TooLateError:
            del self._sinks[fd]  # what it was not given yet is lost
        except Exception as exc:
            del self._sinks[fd]
            add_failure(self._failures, exc)

    def _check_busy(self) -> None:
        """A sink was busy for a while: it may not hold up for ever a call that has a timeout."""
        if self._busy.past:
            raise _TooLateError

    def _finish(self) -> None:
        """The program was killed: carry what the pipes still hold, and no more."""
        for fd, file in self._files.items():
            left = held(fd)
            while left > 0 and (data := read(fd, min(left, _CHUNK))):
                left -= len(data)
                self._pass_on(fd, data)
            self._pass_on(fd, b"")
            file.close()
        self._files.clear()
        self._close_stdin()


def end(process: "Popen[Any]") -> None:
    """SIGKILL a program's whole tree. It is gone when this returns, except what cannot die yet.

    Raises:
        PermissionError: we may not signal what is left of the tree.
    """
    try:
        process.kill_tree()
    except PermissionError:
        raise
    except OSError as exc:
        warn_of_the_rest(process.pid, exc)
    process.poll()
