"""The options nice, scheduler, ioprio, cpu_affinity and oom_score_adj: who comes first."""

import os
import struct
from collections.abc import Iterable
from typing import Any, Final

from .. import _native
from .._pidfd.arguments import in_range, integer, pair
from .options import Steps

__all__ = ["priority_steps"]

_PRIO_PROCESS: Final = 0  # setpriority(2)
_IOPRIO_WHO_PROCESS: Final = 1  # ioprio_set(2)
_IOPRIO_CLASS_SHIFT: Final = 13
_AT_FDCWD: Final = -100
_WORD_BITS: Final = 64  # bits in the kernel's unsigned long, of which a CPU set is an array
_WORD: Final = 2**_WORD_BITS - 1


def priority_steps(
    nice: int | None,
    cpu_affinity: Iterable[int] | None,
    scheduler: tuple[int, int] | None,
    ioprio: tuple[int, int] | None,
    oom_score_adj: int | None,
) -> Steps:
    """The steps that set a program's priorities. Raises TypeError and ValueError."""
    steps: Steps = []
    if scheduler is not None:
        policy, priority = [integer("scheduler", n) for n in pair("scheduler", scheduler)]
        call = (_native.SYS_sched_setscheduler, 0, policy, struct.pack("=i", priority))
        steps.append(("scheduler", call))
    if nice is not None:
        value = in_range("nice", nice, -20, 19)
        steps.append(("nice", (_native.SYS_setpriority, _PRIO_PROCESS, 0, value)))
    if ioprio is not None:
        kind, level = pair("ioprio", ioprio)
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
    return steps


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
    return b"".join(struct.pack("=Q", mask >> word * _WORD_BITS & _WORD) for word in words)
