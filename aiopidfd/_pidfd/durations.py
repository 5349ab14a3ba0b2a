"""Durations, checked before anything is started."""

import math
from typing import Any, Final

__all__ = ["check_seconds", "nanoseconds"]

_YEAR: Final = 365 * 24 * 3600  # seconds; longer than that nothing waits in one go


def check_seconds(*, grace: Any = 0, **optional: Any) -> None:
    """Refuse what is no number of seconds. None is one for all but `grace`: no limit.

    Raises:
        TypeError: not a number.
        ValueError: not a number (NaN), or a negative grace.
    """
    for name, value in (("grace", grace), *optional.items()):
        if value is None and name != "grace":
            continue
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if math.isnan(value):
            raise ValueError(f"{name} must be a number of seconds, not NaN")
    if grace < 0:
        raise ValueError(f"grace must not be negative: {grace}")


def nanoseconds(seconds: float) -> int:
    """A duration as the native module takes it: no less than 0, no more than a year."""
    return int(min(max(seconds, 0), _YEAR) * 1e9)
