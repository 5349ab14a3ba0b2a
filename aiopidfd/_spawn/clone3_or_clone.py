"""Which call makes a guardian: clone3(2), or clone(2) where a filter refuses clone3."""

import errno
from collections.abc import Callable
from typing import TypeVar

from .. import _native
from .kernel import kernel

__all__ = ["clone_call", "with_a_clone"]

T = TypeVar("T")

_call: int | None = None


def clone_call() -> int:
    """The way to clone that the first start tries, or the one that has worked.

    Raises:
        OSError: a call that is needed is missing; see `Kernel.require`.
    """
    global _call
    if _call is None:
        _call = _native.CALL_CLONE3 if _native.has_calls() else kernel(again=True).require()
    return _call


def with_a_clone(clone: Callable[[int], T]) -> T:
    """Call `clone` with the way to clone; with the other one if a filter has come in the way.

    Raises:
        OSError: what `clone` raises; or a call that is needed is missing; see `Kernel.require`.
    """
    global _call
    while True:
        call = clone_call()
        try:
            return clone(call)
        except OSError as exc:
            if exc.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            if call == _native.CALL_CLONE:
                kernel(again=True).require()
                raise
            _call = _native.CALL_CLONE
