"""`output_limit`: output is kept in memory, all of it or so many bytes, and what is said then."""

import codecs
import io
import subprocess
from typing import Any, Final, Literal, TypeAlias, TypeVar

__all__ = [
    "BoundedProcess",
    "Capture",
    "OnLimit",
    "OutputLimitError",
    "check_limit",
    "note_dropped",
]

T = TypeVar("T")
OnLimit: TypeAlias = Literal["raise", "head", "tail"]

_CHOICES: Final = ("raise", "head", "tail")


class OutputLimitError(subprocess.SubprocessError):
    """A program has written more than `output_limit` allows, and was ended because of that.

    Attributes:
        cmd: the command.
        stream: the output that exceeded the limit, "stdout" or "stderr".
        limit: the limit, in bytes.
        stdout, stderr: what was captured, always as bytes, at most `limit` of each; None for an
            output that was not captured.
    """

    def __init__(
        self,
        cmd: Any,
        stream: str,
        limit: int,
        stdout: bytes | None = None,
        stderr: bytes | None = None,
    ) -> None:
        """Keep all of it as it is given."""
        super().__init__(cmd, stream, limit, stdout, stderr)
        self.cmd = cmd
        self.stream = stream
        self.limit = limit
        self.stdout = stdout
        self.stderr = stderr

    @property
    def output(self) -> bytes | None:
        """The same as `stdout`, as in the errors of subprocess."""
        return self.stdout

    def __str__(self) -> str:
        """The command, the stream and the limit, in one sentence."""
        return f"Command {self.cmd!r} wrote more than {self.limit} bytes to its {self.stream}"


class BoundedProcess(subprocess.CompletedProcess[T]):
    """A `subprocess.CompletedProcess` of a program whose output was captured with a limit.

    Attributes:
        stdout_dropped, stderr_dropped: how many bytes of each output were not kept; 0 if all were.
    """

    stdout_dropped: int
    stderr_dropped: int

    def __init__(
        self,
        args: Any,
        returncode: int,
        stdout: T | None = None,
        stderr: T | None = None,
        stdout_dropped: int = 0,
        stderr_dropped: int = 0,
    ) -> None:
        """Take the arguments of the base class, and what was dropped."""
        super().__init__(args, returncode, stdout, stderr)
        self.stdout_dropped = stdout_dropped
        self.stderr_dropped = stderr_dropped

    def __repr__(self) -> str:
        """The repr of the base class, with what was dropped."""
        dropped = f", stdout_dropped={self.stdout_dropped}, stderr_dropped={self.stderr_dropped})"
        return super().__repr__()[:-1] + dropped

    def check_returncode(self) -> None:
        """Raise CalledProcessError if the return code is not 0; a note says what was dropped."""
        try:
            super().check_returncode()
        except subprocess.CalledProcessError as exc:
            note_dropped(exc, self.stdout_dropped, self.stderr_dropped)
            raise


def note_dropped(exc: BaseException, stdout: int, stderr: int) -> None:
    """Say in an error how many bytes of each output were not kept."""
    for name, dropped in (("stdout", stdout), ("stderr", stderr)):
        if dropped:
            exc.add_note(f"{dropped} bytes of its {name} were not kept")


def check_limit(output_limit: Any, on_limit: Any) -> None:
    """Refuse a limit that is not valid. Raises TypeError, ValueError."""
    if on_limit not in _CHOICES:
        raise ValueError(f"on_limit must be 'raise', 'head' or 'tail', not {on_limit!r}")
    if output_limit is None:
        if on_limit != "raise":
            raise ValueError(f"on_limit={on_limit!r} needs an output_limit")
        return
    if not isinstance(output_limit, int) or isinstance(output_limit, bool):
        kind = type(output_limit).__name__
        raise TypeError(f"output_limit must be a number of bytes, not {kind}")
    if output_limit < 0:
        raise ValueError(f"output_limit must not be negative: {output_limit}")


class Capture:
    """Keeps what one output of a program writes: all of it, or its first or last bytes.

    It needs as much memory as the limit while it is fed, and up to twice as much when the value is
    taken.

    Attributes:
        limit: how many bytes are kept; None for all.
        dropped: how many bytes were not kept.
        cut: how many bytes of what was kept are pieces of a character, so that the value that was
            taken last is without them.
    """

    def __init__(self, limit: int | None = None, *, tail: bool = False) -> None:
        """Keep `limit` bytes: the first ones, or with `tail` the last ones."""
        self.limit = limit
        self.dropped = 0
        self.cut = 0
        self._tail = tail
        self._kept = io.BytesIO()  # unlike a bytearray, it gives its value without a copy
        self._size = 0
        self._oldest = 0  # where the last bytes begin: they are a ring

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        if self.limit is None:
            self._kept.write(data)
            return
        view = memoryview(data)
        room = self.limit - self._size
        if room:
            self._size += self._kept.write(view[:room])
        rest = view[room:]
        self.dropped += len(rest)
        if self._tail and rest and self.limit:
            self._write_over(rest[-self.limit :])

    def _write_over(self, data: memoryview) -> None:
        first = data[: self._size - self._oldest]
        self._kept.seek(self._oldest)
        self._kept.write(first)
        self._kept.seek(0)
        self._kept.write(data[len(first) :])
        self._oldest = (self._oldest + len(data)) % self._size

    def value(self, encoding: str | None = None) -> bytes:
        """What was kept. With an encoding, without the pieces of a character that was cut."""
        if self._oldest:
            with self._kept.getbuffer() as kept:
                value = b"".join((kept[self._oldest :], kept[: self._oldest]))
        else:
            value = self._kept.getvalue()
        if encoding is None or not self.dropped:
            return value
        whole = _whole_characters(value, encoding, self._tail)
        self.cut = len(value) - len(whole)
        return whole


def _whole_characters(data: bytes, encoding: str, tail: bool) -> bytes:
    """Remove the rest of a character that was cut: at the end, or with `tail` at the start.

    At the start this can be done for UTF-8 only.
    """
    if tail:
        if codecs.lookup(encoding).name != "utf-8":
            return data
        start = 0
        while start < min(3, len(data)) and data[start] & 0b1100_0000 == 0b1000_0000:
            start += 1
        return data[start:]
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(data)
    return data[: len(data) - len(decoder.getstate()[0])]
