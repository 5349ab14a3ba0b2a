"""How a running program is brought to its end: its tree asked, given time, killed, reaped."""

import asyncio
import contextlib
import errno
import logging
import time
from signal import SIGTERM
from typing import Final

from .child import Child
from .ready import sleep
from .tree import KILL_DEADLINE, Tree, is_held, kill_now
from .watch import Watch

__all__ = ["end", "end_tree"]

_LOOK_AGAIN: Final = 0.1  # seconds

logger = logging.getLogger("aiopidfd")


async def end(watch: Watch, grace: float) -> None:
    """SIGTERM, `grace` seconds, SIGKILL, reap; returns when it is over or the kernel holds it.

    A cancellation kills at once; it is raised when that is done.

    Raises:
        PermissionError: we may not signal the program, or what is left of its tree.
    """
    if watch.over and not is_held(watch.child):
        watch.child.reap_guardian()
        return
    task = asyncio.get_running_loop().create_task(_end(watch, grace))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
            kill_now(watch.child)
        except GeneratorExit:  # thrown away: nothing can be awaited any more
            kill_now(watch.child)
            raise
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved: the cancellation goes first
        raise cancelled
    task.result()


async def _end(watch: Watch, grace: float) -> None:
    try:
        await end_tree(watch.child, grace)
        await watch.exited(timeout=KILL_DEADLINE)
        watch.child.reap_guardian()
    except asyncio.CancelledError:  # the loop itself is going down
        kill_now(watch.child)
        raise


async def end_tree(child: Child, grace: float) -> None:
    """SIGTERM to a program's whole tree, `grace` seconds, SIGKILL; on asyncio and on trio.

    Where the tree cannot be found the program alone is ended, with a warning in the log.

    Raises:
        PermissionError: as `end`.
    """
    try:
        tree = Tree(child)
    except ProcessLookupError:  # not there yet, or any more
        child.abandon()
        return
    except OSError as exc:
        await _end_alone(child, grace, exc)
        return
    with tree:
        try:
            if grace > 0:
                _ask(child, tree)
                if await _gone_within(child, tree, grace):
                    return
            if not tree.orphaned:  # else what descends from it could not be found any more
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            child.doomed = True
            await tree.kill()
        except PermissionError:
            raise
        except OSError as exc:
            await _end_alone(child, grace, exc)


async def _gone_within(child: Child, tree: Tree, grace: float) -> bool:
    """Wait for the end of a tree, unless somebody loses patience and kills the program."""
    deadline = time.monotonic() + grace
    while not child.doomed and (left := deadline - time.monotonic()) > 0:
        if await tree.wait_for(min(left, _LOOK_AGAIN)):
            return True
    return tree.is_gone()


def _ask(child: Child, tree: Tree) -> None:
    try:
        tree.signal(SIGTERM)
    except OSError as exc:
        if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        with contextlib.suppress(ProcessLookupError):  # not all of it could be held at once
            child.terminate()
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(0)  # PermissionError, if we have no right to


async def _end_alone(child: Child, grace: float, reason: OSError) -> None:
    logger.warning(
        "The program with pid %d is ended, but what it has started perhaps is not: %s",
        child.pid,
        reason,
    )
    with contextlib.suppress(ProcessLookupError):
        if grace > 0:
            child.terminate()
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline:  # no descriptor is to be had, perhaps
                if child.poll() is not None:
                    return
                await sleep(0.01)
        child.kill()
        child.doomed = True
