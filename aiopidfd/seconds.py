"""Durations, checked before anything is started."""

import math
from typing import Any

__all__ = ["check_seconds"]


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
