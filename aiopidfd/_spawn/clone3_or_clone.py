"""Which call makes a guardian: clone3(2), or clone(2) where a filter refuses clone3."""

import errno
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from .. import _native
from .kernel import kernel

__all__ = ["clone_call", "with_a_clone"]

H = TypeVar("H")
P = ParamSpec("P")
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


def with_a_clone(
    clone: Callable[Concatenate[H, int, P], T], hub: H, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call `clone` with `hub`, the way to clone, and the other arguments.

    If a filter has come in the way, it is called again, with the other way to clone.

    Raises:
        OSError: what `clone` raises; or a call that is needed is missing; see `Kernel.require`.
    """
    global _call
    while True:
        call = clone_call()
        try:
            return clone(hub, call, *args, **kwargs)
        except OSError as exc:
            if exc.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            if call == _native.CALL_CLONE:
                kernel(again=True).require()
                raise
            _call = _native.CALL_CLONE
