"""Durations: checked before anything is started, and waited for however long they are."""

import math
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Deadline", "check_seconds", "monotonic", "nanoseconds"]

_YEAR: Final = 365 * 24 * 3600  # seconds; longer than that nothing waits in one go


def check_seconds(*, grace: Any = 0, **optional: Any) -> None:
    """Refuse what is no number of seconds. None is one for all but `grace`: no limit.

    Raises:
        TypeError: neither an integer nor a float; or a bool.
        ValueError: not a number (NaN), an integer that is larger than any float, or a negative
            grace.
    """
    for name, value in (("grace", grace), *optional.items()):
        if value is None and name != "grace":
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        try:
            if math.isnan(value):
                raise ValueError(f"{name} must be a number of seconds, not NaN")
        except OverflowError:
            raise ValueError(f"{name} is too large: math.inf is for ever") from None
    if grace < 0:
        raise ValueError(f"grace must not be negative: {grace}")


def nanoseconds(seconds: float) -> int:
    """A duration as the native module takes it: no less than 0, no more than a year."""
    return int(min(max(seconds, 0), _YEAR) * 1e9)


def monotonic() -> float:
    """As `time.monotonic`, but it goes on where a test has frozen that (freezegun)."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Deadline:
    """The moment up to which something is waited for."""

    __slots__ = ("_clock", "_moment")

    def __init__(self, seconds: float | None, clock: Callable[[], float] = monotonic) -> None:
        """In so many seconds from now, by `clock`; None: never."""
        self._clock = clock
        self._moment = math.inf if seconds is None else clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; 0 once it is past."""
        return max(0.0, self._moment - self._clock())

    @property
    def past(self) -> bool:
        """Whether the moment has come."""
        return not self.left
