"""Durations: they are checked before anything is started, and may be of any length."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Deadline", "check_seconds", "monotonic", "nanoseconds"]

_YEAR: Final = 365 * 24 * 3600  # seconds; no single wait is longer than this

# As `time.monotonic`, but it goes on where a test has frozen that function (freezegun).
monotonic: Final[Callable[[], float]] = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)


def check_seconds(**durations: Any) -> None:
    """Refuse what is not a number of seconds. None means no limit, for all but `grace`.

    A duration of less than nothing has passed at once, as in subprocess; but no grace is less.

    Raises:
        TypeError: neither an integer nor a float; or a bool.
        ValueError: not a number (NaN), an integer that is larger than any float, or a negative
            grace.
    """
    for name, value in durations.items():
        if value is None and name != "grace":
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        try:
            if math.isnan(value):
                raise ValueError(f"{name} must be a number of seconds, not NaN")
        except OverflowError:
            raise ValueError(f"{name} is too large: math.inf is for ever") from None
        if value < 0 and name.endswith("grace"):
            raise ValueError(f"{name} must not be negative: {value}")


def nanoseconds(seconds: float) -> int:
    """A duration as the native module takes it: at least 0 and at most a year."""
    return int(min(max(seconds, 0), _YEAR) * 1e9)


class Deadline:
    """The moment at which a wait must end."""

    __slots__ = ("_clock", "_moment")

    def __init__(self, seconds: float | None, clock: Callable[[], float] = monotonic) -> None:
        """The moment `seconds` from now, by `clock`; None: never."""
        self._clock = clock
        self._moment = math.inf if seconds is None else clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the moment; 0 once it has passed."""
        return max(0.0, self._moment - self._clock())

    @property
    def past(self) -> bool:
        """Whether the moment has come."""
        return not self.left
