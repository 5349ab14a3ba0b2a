"""How a running program is brought to its end: asked, given time, killed, reaped."""

import asyncio
import contextlib
from typing import Final

from .watch import Watch

__all__ = ["end"]

# After SIGKILL a program is gone at once, unless it sleeps uninterruptibly in the kernel. Then its
# caller goes on, and it is reaped when it wakes.
KILL_DEADLINE: Final = 5.0


async def end(watch: Watch, grace: float) -> None:
    """SIGTERM, `grace` seconds, SIGKILL, reap; returns when it is over or the kernel holds it.

    A cancellation kills at once; it is raised when that is done.

    Raises:
        PermissionError: we may not signal the program.
    """
    if watch.over:
        return
    task = asyncio.get_running_loop().create_task(_end(watch, grace))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
            _kill_quietly(watch)
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved: the cancellation goes first
        raise cancelled
    task.result()


async def _end(watch: Watch, grace: float) -> None:
    try:
        with contextlib.suppress(ProcessLookupError):
            if grace > 0:
                watch.child.terminate()
                if await watch.exited(timeout=grace):
                    return
            watch.child.kill()
        await watch.exited(timeout=KILL_DEADLINE)
    except asyncio.CancelledError:  # the loop itself is going down
        _kill_quietly(watch)
        raise


def _kill_quietly(watch: Watch) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        watch.child.kill()
