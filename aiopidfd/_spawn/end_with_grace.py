"""How a program's tree is ended, on asyncio and on trio: asked first, killed after the grace."""

import contextlib
import errno
import logging
from signal import SIGTERM
from typing import Final

from .._pidfd.any_loop import now, sleep
from .._pidfd.durations import Deadline
from .program import Program
from .tree import Tree

__all__ = ["ask_tree", "end_tree", "warn_of_the_rest"]

_LOOK_AGAIN: Final = 0.1  # seconds

logger = logging.getLogger("aiopidfd")


async def end_tree(program: Program, grace: float) -> None:
    """SIGTERM to a program's whole tree, `grace` seconds, SIGKILL; on asyncio and on trio.

    If the tree cannot be found, only the program is ended, with a warning in the log.

    Raises:
        PermissionError: as `end`.
    """
    try:
        tree = Tree(program)
    except (ProcessLookupError, ChildProcessError):  # not started yet, over, or not ours
        program.abandon()
        return
    except OSError as exc:
        await _end_alone(program, grace, exc)
        return
    with tree:
        try:
            if grace > 0:
                ask_tree(program, tree)
                if await _gone_within(program, tree, grace):
                    return
            if not tree.orphaned:  # of an orphan nothing could be found after its end
                with contextlib.suppress(ProcessLookupError):
                    program.kill()
            program.abandoned = True
            await tree.kill()
        except PermissionError:
            raise
        except OSError as exc:
            await _end_alone(program, grace, exc)


async def _gone_within(program: Program, tree: Tree, grace: float) -> bool:
    """Wait for the end of a tree. Stop early if somebody kills the program meanwhile."""
    deadline = Deadline(grace, now)
    while not program.abandoned and not deadline.past:
        if await tree.wait_for(min(deadline.left, _LOOK_AGAIN)):
            return True
    return tree.is_gone()


def ask_tree(program: Program, tree: Tree) -> None:
    """SIGTERM to all of a program's tree.

    Raises:
        PermissionError: we may not signal the program; all others that we may signal have got it.
        OSError: as `Tree.signal`, but not if descriptors are short: then only the program gets it.
    """
    try:
        tree.signal(SIGTERM)
    except OSError as exc:
        if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        with contextlib.suppress(ProcessLookupError):  # too few descriptors for all of the tree
            program.terminate()
    with contextlib.suppress(ProcessLookupError):
        program.send_signal(0)  # raises PermissionError if we have no right to signal


def warn_of_the_rest(pid: int, reason: OSError) -> None:
    """Say in the log that a program's tree cannot be found, and that only the program is ended."""
    logger.warning(
        "The program with pid %d is ended, but what it has started perhaps is not: %s",
        pid,
        reason,
    )


async def _end_alone(program: Program, grace: float, reason: OSError) -> None:
    warn_of_the_rest(program.pid, reason)
    with contextlib.suppress(ProcessLookupError):
        if grace > 0:
            program.terminate()
            deadline = Deadline(grace, now)
            while not deadline.past:  # perhaps no descriptor is free, so this polls
                if program.poll() is not None:
                    return
                await sleep(0.01)
        program.kill()
        program.abandoned = True
