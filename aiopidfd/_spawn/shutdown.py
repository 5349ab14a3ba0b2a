"""How a program's tree is brought to its end: asked, given time, killed. On asyncio and on trio."""

import contextlib
import errno
import logging
from signal import SIGTERM
from typing import Final

from .._pidfd.backend import now, sleep
from .._pidfd.durations import Deadline
from .program import Program
from .tree import Tree

__all__ = ["ask_tree", "end_tree", "warn_of_the_rest"]

_LOOK_AGAIN: Final = 0.1  # seconds

logger = logging.getLogger("aiopidfd")


async def end_tree(program: Program, grace: float) -> None:
    """SIGTERM to a program's whole tree, `grace` seconds, SIGKILL; on asyncio and on trio.

    Where the tree cannot be found the program alone is ended, with a warning in the log.

    Raises:
        PermissionError: as `end`.
    """
    try:
        tree = Tree(program)
    except (ProcessLookupError, ChildProcessError):  # not there yet, or any more; or not ours
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
            if not tree.orphaned:  # else what descends from it could not be found any more
                with contextlib.suppress(ProcessLookupError):
                    program.kill()
            program.abandoned = True
            await tree.kill()
        except PermissionError:
            raise
        except OSError as exc:
            await _end_alone(program, grace, exc)


async def _gone_within(program: Program, tree: Tree, grace: float) -> bool:
    """Wait for the end of a tree, unless somebody loses patience and kills the program."""
    deadline = Deadline(grace, now)
    while not program.abandoned and not deadline.past:
        if await tree.wait_for(min(deadline.left, _LOOK_AGAIN)):
            return True
    return tree.is_gone()


def ask_tree(program: Program, tree: Tree) -> None:
    """SIGTERM to all of a program's tree.

    Raises:
        PermissionError: we may not signal the program; what else we may signal has got it.
        OSError: as `Tree.signal`, but for a lack of descriptors: then the program alone has got it.
    """
    try:
        tree.signal(SIGTERM)
    except OSError as exc:
        if exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        with contextlib.suppress(ProcessLookupError):  # not all of it could be held at once
            program.terminate()
    with contextlib.suppress(ProcessLookupError):
        program.send_signal(0)  # PermissionError, if we have no right to


def warn_of_the_rest(pid: int, reason: OSError) -> None:
    """Say in the log that a program's tree cannot be found, so that it is ended alone."""
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
            while not deadline.past:  # no descriptor is to be had, perhaps
                if program.poll() is not None:
                    return
                await sleep(0.01)
        program.kill()
        program.abandoned = True
