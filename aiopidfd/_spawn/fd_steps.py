"""Which descriptors the program has: the steps that put them in place, and close all others."""

import resource
from collections.abc import Iterable
from fcntl import F_SETFD
from typing import Final
from warnings import warn

from .. import _native
from .._pidfd.arguments import MAX_INT, flag, is_number
from .options import Step, Steps

__all__ = ["check_fds", "close_steps", "dup_step", "is_beyond_limit"]

_MAX_FD: Final = 2**32 - 1


def check_fds(pass_fds: Iterable[int], close_fds: bool) -> tuple[frozenset[int], bool]:
    """The set of descriptors to pass, and whether the others are closed.

    Raises:
        ValueError: one is not a descriptor's number.
    """
    if pass_fds == () and close_fds is True:  # as a rule
        return frozenset(), True
    if isinstance(pass_fds, (str, bytes)) or not isinstance(pass_fds, Iterable):
        raise TypeError(f"pass_fds must be numbers, not {type(pass_fds).__name__}")
    numbers = [*pass_fds]
    for fd in numbers:
        if not is_number(fd):
            raise TypeError(f"pass_fds must be an integer, not {type(fd).__name__}")
        if not 0 <= fd <= MAX_INT:
            raise ValueError(f"bad value(s) in pass_fds: {fd} is no descriptor")
    fds = frozenset(numbers)
    if not flag("close_fds", close_fds) and fds:
        warn("pass_fds overriding close_fds.", RuntimeWarning, stacklevel=2)
        close_fds = True
    return fds, bool(close_fds)


def is_beyond_limit(target: int) -> bool:
    """Whether it was opened before the limit was lowered: dup3 refuses such a number."""
    return target >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] != -1


def dup_step(source: int, target: int) -> tuple[str, Step]:
    """Give the child a duplicate of our `source` at the number `target`."""
    option = "pass_fds" if target > 2 else ("stdin", "stdout", "stderr")[target]
    is_in_place = source == target or (target > 2 and is_beyond_limit(target))
    if is_in_place:
        return option, (_native.SYS_fcntl, target, F_SETFD, 0)
    return option, (_native.SYS_dup3, source, target, 0)


_CLOSE_ALL: Final[Steps] = [("close_fds", (_native.SYS_close_range, 3, _MAX_FD, 0))]


def close_steps(keep: Iterable[int]) -> Steps:
    """Close all but the standard three and `keep`: one close_range for each gap."""
    if not keep:  # as a rule
        return _CLOSE_ALL
    steps: Steps = []
    first = 3
    for fd in sorted(keep):
        if fd < first:
            continue
        if fd > first:
            steps.append(("close_fds", (_native.SYS_close_range, first, fd - 1, 0)))
        first = fd + 1
    steps.append(("close_fds", (_native.SYS_close_range, first, _MAX_FD, 0)))
    return steps
