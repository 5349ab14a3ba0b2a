"""An event loop that already exists is made to start invisible programs.

In a coroutine `aiopidfd.install()` does so for the loop that runs it.
"""

import asyncio
import functools
import types
from typing import Any, Final

from .._pidfd.durations import check_seconds
from .loops import SubprocessMethods, close_loop, end_programs
from .start_on_loop import running_loop

__all__ = ["install", "uninstall"]

_METHODS: Final = ("subprocess_exec", "subprocess_shell")

# The first is what each runner awaits before it closes its loop. The second closes the loop.
_ENDS: Final = ("shutdown_asyncgens", "close")


def install(
    loop: asyncio.AbstractEventLoop | None = None, *, shutdown_grace: float | None = None
) -> None:
    """Make the programs that are started through `loop` invisible from now on.

    For a loop that already exists: asyncio's, uvloop's, or any other that allows new attributes.

    Args:
        loop: the loop; None for the running one.
        shutdown_grace: as for `EventLoop`.

    Raises:
        RuntimeError: there is no running loop; or the loop is closed.
        TypeError: not an event loop, or one whose methods cannot be replaced; or `shutdown_grace`
            is not a number.
        ValueError: `shutdown_grace` is negative or NaN.
    """
    check_seconds(shutdown_grace=shutdown_grace)
    loop = _the_loop("install()", loop)
    if loop.is_closed():
        raise RuntimeError("Event loop is closed")
    if isinstance(loop, SubprocessMethods):
        if shutdown_grace is not None:
            loop.shutdown_grace = shutdown_grace
    else:
        try:
            for name in _METHODS:
                setattr(loop, name, types.MethodType(getattr(SubprocessMethods, name), loop))
            if shutdown_grace is not None:
                for name in _ENDS:
                    vars(loop).pop(name, None)
                asyncgens, close = (getattr(loop, name) for name in _ENDS)
                setattr(loop, _ENDS[0], functools.partial(end_programs, shutdown_grace, asyncgens))
                setattr(loop, _ENDS[1], functools.partial(close_loop, loop, shutdown_grace, close))
        except AttributeError:
            raise TypeError(f"the methods of {loop!r} cannot be replaced") from None


def uninstall(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Undo `install`. Programs that already run are not affected.

    Args:
        loop: the loop; None for the running one.

    Raises:
        RuntimeError: there is no running loop.
        TypeError: not an event loop.
    """
    loop = _the_loop("uninstall()", loop)
    for name in (*_METHODS, *_ENDS):
        vars(loop).pop(name, None)


def _the_loop(what: str, loop: Any) -> Any:
    if loop is None:
        hint = "give it one, call it in a coroutine, or use loop_factory=aiopidfd.EventLoop"
        return running_loop(what, hint, "on trio use aiopidfd.anyio, or its install()")
    if isinstance(loop, type):  # a class: the change would affect all of its loops
        raise TypeError(
            f"{what} takes an event loop, not the class {loop.__name__}: that is for loop_factory="
        )
    if not hasattr(loop, "add_reader"):
        raise TypeError(f"the methods of {loop!r} cannot be replaced: it is no event loop")
    return loop
