"""Options that limit a program or tie it to us. They do by system calls what preexec_fn was for."""

import os
import resource
import signal
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from .. import _native
from .._pidfd.arguments import is_number

__all__ = ["MAX_INT", "Step", "bond_steps", "integer", "limit_steps"]

MAX_INT: Final = 2**31 - 1  # of C

Step: TypeAlias = tuple[int | bytes, ...]  # a system call: its number and arguments
_Steps: TypeAlias = list[tuple[str, Step]]  # each with the option that asked for it

_UNLIMITED: Final = 2**64 - 1
_PRIO_PROCESS: Final = 0  # setpriority(2)
_IOPRIO_WHO_PROCESS: Final = 1  # ioprio_set(2)
_IOPRIO_CLASS_SHIFT: Final = 13
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_AT_FDCWD: Final = -100
_WORD_BITS: Final = 64  # bits in the kernel's unsigned long, of which a CPU set is an array


def limit_steps(
    rlimits: Mapping[str | int, int | tuple[int, int]] | None,
    nice: int | None,
    cpu_affinity: Iterable[int] | None,
    scheduler: tuple[int, int] | None,
    ioprio: tuple[int, int] | None,
    oom_score_adj: int | None,
) -> _Steps:
    """The steps that limit a program. Raises TypeError and ValueError."""
    steps: _Steps = []
    if scheduler is not None:
        policy, priority = [integer("scheduler", n) for n in _pair("scheduler", scheduler)]
        call = (_native.SYS_sched_setscheduler, 0, policy, struct.pack("=i", priority))
        steps.append(("scheduler", call))
    if nice is not None:
        value = _in_range("nice", nice, -20, 19)
        steps.append(("nice", (_native.SYS_setpriority, _PRIO_PROCESS, 0, value)))
    if ioprio is not None:
        kind, level = _pair("ioprio", ioprio)
        kind = _in_range("ioprio's class", kind, 0, 3)
        level = _in_range("ioprio's level", level, 0, 7)
        value = kind << _IOPRIO_CLASS_SHIFT | level
        steps.append(("ioprio", (_native.SYS_ioprio_set, _IOPRIO_WHO_PROCESS, 0, value)))
    if cpu_affinity is not None:
        mask = _cpu_set(cpu_affinity)
        steps.append(("cpu_affinity", (_native.SYS_sched_setaffinity, 0, len(mask), mask)))
    if oom_score_adj is not None:
        text = str(_in_range("oom_score_adj", oom_score_adj, -1000, 1000)).encode()
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


def bond_steps(no_new_privs: bool, die_with_parent: bool | int) -> _Steps:
    """The steps that tie a program to us, after any change of ids. Raises as `limit_steps`."""
    steps: _Steps = []
    if no_new_privs:
        steps.append(("no_new_privs", (_native.SYS_prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
    if die_with_parent:
        # The program is tied to the guardian, which ends when this process does. The end of the
        # thread that started it does not matter. (Elsewhere that thread counts as the parent:
        # prctl(2).)
        number = signal.SIGKILL if die_with_parent is True else die_with_parent
        number = _in_range("die_with_parent", number, 1, signal.NSIG - 1)
        steps.append(("die_with_parent", (_native.SYS_prctl, _PR_SET_PDEATHSIG, number, 0, 0, 0)))
    return steps


def integer(name: str, value: Any) -> int:
    """An option that is an int of C. Raises TypeError, OverflowError."""
    if not is_number(value):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if not -MAX_INT - 1 <= value <= MAX_INT:
        raise OverflowError(f"{name} does not fit into a C int: {value}")
    return value


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


def _in_range(name: str, value: Any, least: int, most: int) -> int:
    if not is_number(value):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be between {least} and {most}, not {value}")
    return value


def _cpu_set(cpus: Any) -> bytes:
    if isinstance(cpus, (str, bytes)) or not isinstance(cpus, Iterable):
        kind = type(cpus).__name__
        raise TypeError(f"cpu_affinity must be the numbers of processors, not {kind}")
    numbers = [_in_range("cpu_affinity", cpu, 0, 2**16 - 1) for cpu in cpus]
    if not numbers:
        raise ValueError("cpu_affinity is empty")
    mask = 0
    for number in numbers:
        mask |= 1 << number
    words = range(max(numbers) // _WORD_BITS + 1)
    return b"".join(struct.pack("=Q", mask >> word * _WORD_BITS & _UNLIMITED) for word in words)
