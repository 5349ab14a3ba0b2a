"""How a program is brought to its end on an asyncio loop, whatever becomes of the caller."""

import asyncio

from .._spawn.shutdown import end_tree
from .._spawn.tree import KILL_DEADLINE, is_held, kill_now
from .watch import Watch

__all__ = ["end"]


async def end(watch: Watch, grace: float) -> None:
    """SIGTERM, `grace` seconds, SIGKILL, reap; returns when it is over or the kernel holds it.

    A cancellation kills at once; it is raised when that is done.

    Raises:
        PermissionError: we may not signal the program, or what is left of its tree.
    """
    if watch.over and not is_held(watch.program):
        watch.program.reap_guardian()
        return
    task = asyncio.get_running_loop().create_task(_end(watch, grace))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
            kill_now(watch.program)
        except GeneratorExit:  # thrown away: nothing can be awaited any more
            kill_now(watch.program)
            raise
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved: the cancellation goes first
        raise cancelled
    task.result()


async def _end(watch: Watch, grace: float) -> None:
    try:
        await end_tree(watch.program, grace)
        await watch.exited(timeout=KILL_DEADLINE)
        watch.program.reap_guardian()
    except asyncio.CancelledError:  # the loop itself is going down
        kill_now(watch.program)
        raise
