"""How a program is ended on an asyncio loop, whatever happens to the caller."""

import asyncio
import functools
from collections.abc import Iterable

from .._pidfd.although_cancelled import done_although_cancelled
from .._pidfd.any_loop import has_loop
from .._spawn.end_with_grace import end_tree
from .._spawn.tree import KILL_DEADLINE, is_held, kill_now
from .exit_on_loop import Watch

__all__ = ["end", "end_all"]


async def end(watch: Watch, grace: float) -> None:
    """SIGTERM, `grace` seconds, SIGKILL, reap. Returns when done, or if the kernel holds it.

    A cancellation kills at once. It is raised after the kill.

    Raises:
        PermissionError: we may not signal the program, or what is left of its tree.
    """
    await end_all([watch], grace)


async def end_all(watches: Iterable[Watch], grace: float) -> None:
    """As `end`, for several programs at once. They have `grace` seconds together.

    Raises:
        PermissionError: as `end`, for the first such program; the others were ended.
    """
    held: list[Watch] = []
    for watch in watches:
        if watch.over and not is_held(watch.program):
            watch.program.reap_guardian()
        else:
            held.append(watch)
    if not has_loop():  # a block is thrown away with its loop: nothing can be awaited
        _kill_all(held)
        return
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(_end(watch, grace)) for watch in held]
    try:
        await done_although_cancelled(tasks, functools.partial(_kill_all, held))
    finally:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # now asyncio does not report it: a cancellation goes first
    for task in tasks:
        task.result()


def _kill_all(watches: Iterable[Watch]) -> None:
    for watch in watches:
        kill_now(watch.program)


async def _end(watch: Watch, grace: float) -> None:
    try:
        await end_tree(watch.program, grace)
        await watch.exited(timeout=KILL_DEADLINE)
        watch.program.reap_guardian()
    except asyncio.CancelledError:  # the loop itself is shutting down
        kill_now(watch.program)
        raise
