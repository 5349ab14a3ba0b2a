"""The option rlimits."""

import resource
import struct
from collections.abc import Mapping
from typing import Any, Final

from .. import _native
from .._pidfd.arguments import integer, is_number, pair
from .options import Steps

__all__ = ["rlimit_steps"]

_UNLIMITED: Final = 2**64 - 1


def rlimit_steps(rlimits: Mapping[str | int, int | tuple[int, int]] | None) -> Steps:
    """The steps that limit a program's resources. Raises TypeError and ValueError."""
    steps: Steps = []
    if rlimits is not None and not isinstance(rlimits, Mapping):
        raise TypeError(f"rlimits must be a mapping, not {type(rlimits).__name__}")
    for name, limits in (rlimits or {}).items():
        packed = struct.pack("=QQ", *_limits(name, limits))
        steps.append(("rlimits", (_native.SYS_prlimit64, 0, _resource(name), packed, 0)))
    return steps


def _resource(name: Any) -> int:
    """The number of a resource of setrlimit(2), from its number or its name (RLIMIT_ optional)."""
    if isinstance(name, int):
        return integer("a key of rlimits", name)
    if isinstance(name, str):
        number = getattr(resource, f"RLIMIT_{name.upper().removeprefix('RLIMIT_')}", None)
        if isinstance(number, int):
            return number
    raise ValueError(f"rlimits: no such resource: {name!r}")


def _limits(name: Any, limits: Any) -> tuple[int, int]:
    option = f"rlimits[{name!r}]"
    both = (limits, limits) if is_number(limits) else pair(option, limits)
    for limit in both:
        if not -1 <= limit <= _UNLIMITED:
            raise ValueError(f"{option} is out of range: {limit}")
    # Before Python 3.15 resource.RLIM_INFINITY is -1; since then it is the kernel's own number.
    soft, hard = (_UNLIMITED if limit == -1 else limit for limit in both)
    if soft > hard:
        raise ValueError(f"{option}: the soft limit is above the hard one")
    return soft, hard
