"""`idle_timeout`: how long a program may be silent, and the error when it was silent for longer."""

import contextlib
import math
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["IdleTimeoutError", "Silence", "listen"]


class IdleTimeoutError(subprocess.TimeoutExpired):
    """A program wrote nothing for `idle_timeout` seconds, and was ended because of that.

    Attributes:
        cmd: the command.
        timeout: the seconds that it was allowed to be silent.
        output, stdout, stderr: what was captured, always as bytes, or None.
    """

    def __str__(self) -> str:
        """The command and the seconds, in one sentence."""
        return f"Command {self.cmd!r} wrote nothing for {self.timeout} seconds"


class Silence:
    """Measures how long a program has been silent, and knows how long it may be."""

    def __init__(self, command: Any, allowed: float, clock: Callable[[], float]) -> None:
        """Measure from now on, by a clock that tells seconds."""
        self._command = command
        self._allowed = allowed
        self._clock = clock
        self._since = clock()
        self._busy = 0

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Output has come. In the block our own sinks are busy, so no silence is counted."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._since = self._clock()

    def left(self) -> float:
        """Seconds until the silence is too long, if nothing comes; 0 or less if it already is."""
        return self._allowed + (0 if self._busy else self._since - self._clock())

    def error(self) -> IdleTimeoutError:
        """The error to raise when the silence is too long."""
        return IdleTimeoutError(self._command, self._allowed)


def listen(command: Any, seconds: float | None, clock: Callable[[], float]) -> Silence | None:
    """Measure the silence of a program; None if it may be silent for ever."""
    if seconds is None or seconds == math.inf:
        return None
    return Silence(command, seconds, clock)
