"""Options that limit a program. They do by system calls what preexec_fn was for."""

import os
import resource
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .. import _native
from .._pidfd.arguments import in_range, integer, is_number
from .options import Steps

__all__ = ["limit_steps"]

_UNLIMITED: Final = 2**64 - 1
_PRIO_PROCESS: Final = 0  # setpriority(2)
_IOPRIO_WHO_PROCESS: Final = 1  # ioprio_set(2)
_IOPRIO_CLASS_SHIFT: Final = 13
_AT_FDCWD: Final = -100
_WORD_BITS: Final = 64  # bits in the kernel's unsigned long, of which a CPU set is an array


def limit_steps(
    rlimits: Mapping[str | int, int | tuple[int, int]] | None,
    nice: int | None,
    cpu_affinity: Iterable[int] | None,
    scheduler: tuple[int, int] | None,
    ioprio: tuple[int, int] | None,
    oom_score_adj: int | None,
) -> Steps:
    """The steps that limit a program. Raises TypeError and ValueError."""
    steps: Steps = []
    if scheduler is not None:
        policy, priority = [integer("scheduler", n) for n in _pair("scheduler", scheduler)]
        call = (_native.SYS_sched_setscheduler, 0, policy, struct.pack("=i", priority))
        steps.append(("scheduler", call))
    if nice is not None:
        value = in_range("nice", nice, -20, 19)
        steps.append(("nice", (_native.SYS_setpriority, _PRIO_PROCESS, 0, value)))
    if ioprio is not None:
        kind, level = _pair("ioprio", ioprio)
        kind = in_range("ioprio's class", kind, 0, 3)
        level = in_range("ioprio's level", level, 0, 7)
        value = kind << _IOPRIO_CLASS_SHIFT | level
        steps.append(("ioprio", (_native.SYS_ioprio_set, _IOPRIO_WHO_PROCESS, 0, value)))
    if cpu_affinity is not None:
        mask = _cpu_set(cpu_affinity)
        steps.append(("cpu_affinity", (_native.SYS_sched_setaffinity, 0, len(mask), mask)))
    if oom_score_adj is not None:
        text = str(in_range("oom_score_adj", oom_score_adj, -1000, 1000)).encode()
        path = b"/proc/self/oom_score_adj\0"
        flags = os.O_WRONLY | os.O_CLOEXEC
        steps += [
            ("oom_score_adj", (_native.SYS_openat, _AT_FDCWD, path, flags)),
            ("oom_score_adj", (_native.SYS_write, _native.OPENED, text, len(text))),
            ("oom_score_adj", (_native.SYS_close, _native.OPENED)),
        ]
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
    both = (limits, limits) if is_number(limits) else _pair(option, limits)
    for limit in both:
        if not -1 <= limit <= _UNLIMITED:
            raise ValueError(f"{option} is out of range: {limit}")
    # Before Python 3.15 resource.RLIM_INFINITY is -1; since then it is the kernel's own number.
    soft, hard = (_UNLIMITED if limit == -1 else limit for limit in both)
    if soft > hard:
        raise ValueError(f"{option}: the soft limit is above the hard one")
    return soft, hard


def _pair(name: str, value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list)) and [is_number(part) for part in value] == [True] * 2:
        return value[0], value[1]
    raise TypeError(f"{name} must be a pair of integers, not {value!r}")


def _cpu_set(cpus: Any) -> bytes:
    if isinstance(cpus, (str, bytes)) or not isinstance(cpus, Iterable):
        kind = type(cpus).__name__
        raise TypeError(f"cpu_affinity must be the numbers of processors, not {kind}")
    numbers = [in_range("cpu_affinity", cpu, 0, 2**16 - 1) for cpu in cpus]
    if not numbers:
        raise ValueError("cpu_affinity is empty")
    mask = 0
    for number in numbers:
        mask |= 1 << number
    words = range(max(numbers) // _WORD_BITS + 1)
    return b"".join(struct.pack("=Q", mask >> word * _WORD_BITS & _UNLIMITED) for word in words)
