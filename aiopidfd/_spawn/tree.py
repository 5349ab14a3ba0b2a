"""A program's tree: all that it has started, and what that has started, wherever it has gone.

The program's guardian is a child subreaper (PR_SET_CHILD_SUBREAPER(2const), Linux 3.4): what loses
its parent, by a double fork for one, becomes the guardian's child. So the tree is what descends
from the guardian, and /proc lists that (proc_tid_children(5), CONFIG_PROC_CHILDREN).
"""

import contextlib
import errno
import math
import os
import signal
from collections.abc import Iterator
from typing import Final, Self

from .. import _native
from .._pidfd.backend import now, readable_within
from .._pidfd.durations import Deadline, nanoseconds
from .._pidfd.wait import has_exited
from .containment import explained
from .program import Program

__all__ = ["KILL_DEADLINE", "Tree", "denied_error", "is_held", "kill_now"]

# After SIGKILL a program is gone at once, unless it sleeps uninterruptibly in the kernel. Then its
# caller goes on, and it is reaped when it wakes.
KILL_DEADLINE: Final = 5.0  # seconds

_KILL_AGAIN: Final = 0.002  # seconds: what was born during one pass is found by the next


class Tree:
    """The processes of a program's tree, for as long as this is open.

    While it is, and from then on, the guardian stays until all of them are gone. Of a program whose
    guardian was killed, the tree is what still descends from the program itself.

    Attributes:
        orphaned: whether that is so.
    """

    def __init__(self, program: Program) -> None:
        """Hold the guardian, which then stays.

        Raises:
            ProcessLookupError: it is gone: the program has exited, and what it left is no one's.
            ChildProcessError: this process is a forked copy of the one that started the program.
            OSError: EMFILE.
        """
        self._program = program
        self._root = program.guardian_pid
        self.orphaned = False
        try:
            self._fd = program.native.stay()
            if (hub := program.hub) is not None:
                hub.trees.add(program)
        except ProcessLookupError:
            try:
                self._fd = program.native.dup_pidfd()
            except ProcessLookupError:
                program.check_ours()
                reason = "the program has exited, and nobody has kept track of what it started"
                raise ProcessLookupError(errno.ESRCH, reason) from None
            self._root = program.pid
            self.orphaned = True

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Let go of the guardian, and reap it if it has ended."""
        os.close(self._fd)
        self._program.advance()

    def is_gone(self) -> bool:
        """Whether there is nothing left of it."""
        return has_exited(self._fd) and not self._lost_guardian()

    async def wait(self) -> None:
        """Wait until there is nothing left of it."""
        while not await self.wait_for(math.inf):
            pass

    async def wait_for(self, seconds: float) -> bool:
        """The same for so long at most; whether that has come."""
        await readable_within(self._fd, seconds)
        return self.is_gone()

    def _lost_guardian(self) -> bool:
        """Whether it was killed under us, and the program lives on: from now on we hold that."""
        if self.orphaned:
            return False
        self._program.advance()
        try:
            fd = self._program.native.dup_pidfd()
        except ProcessLookupError:
            return False
        os.close(self._fd)
        self._fd, self._root, self.orphaned = fd, self._program.pid, True
        return True

    def members(self) -> list[tuple[int, int]]:
        """(pid, pidfd) of each process there is now; the pidfds are the caller's to close.

        Raises:
            OSError: as `signal`.
        """
        try:
            return _native.list_tree(self._root, self._fd)
        except OSError as exc:
            raise explained(exc) from None

    def signal(self, sig: int) -> tuple[int, int]:
        """Send a signal to each process there is now, each by its pidfd.

        Returns:
            How many have got it (a zombie gets it too), and how many we may not signal.

        Raises:
            OSError: ENOTSUP, ENOSYS: /proc does not tell what the tree is. EMFILE and the like.
        """
        return _checked(*_native.signal_tree(self._root, self._fd, self.orphaned, sig))

    async def kill(self) -> bool:
        """SIGKILL them, and what they have started meanwhile, until there is nothing left.

        Returns:
            Whether that has come within KILL_DEADLINE.

        Raises:
            PermissionError: all that is left are processes that we may not signal.
            OSError: as `signal`.
        """
        for _ in self._kill_passes(Deadline(KILL_DEADLINE, now)):
            if await self.wait_for(_KILL_AGAIN):
                return True
        return False

    def kill_blocking(self) -> bool:
        """As `kill`, for code without a loop."""
        for _ in self._kill_passes(Deadline(KILL_DEADLINE)):
            if _native.wait_readable(self._fd, nanoseconds(_KILL_AGAIN)) and self.is_gone():
                return True
        return False

    def kill_once(self) -> tuple[int, int]:
        """SIGKILL to those that are next: the guardian's children, or all if there is no guardian.

        Returns and raises as `signal`.
        """
        if self.orphaned:
            return self.signal(signal.SIGKILL)
        return _checked(*_native.kill_next(self._root, self._fd))

    def _kill_passes(self, deadline: Deadline) -> Iterator[None]:
        """SIGKILL to all there is now, at each step; until it is late."""
        with contextlib.suppress(OSError):
            self.signal(signal.SIGKILL)  # from below they come to the guardian one by one only
        while True:
            signalled, denied = self.kill_once()
            yield
            late = deadline.past
            if denied and (not signalled or late):
                raise denied_error()
            if late:
                return


def is_held(program: Program) -> bool:
    """Whether a guardian has stayed for what a program that has exited left behind."""
    try:
        with Tree(program) as tree:
            return not tree.is_gone()
    except OSError:
        return False


def _checked(signalled: int, denied: int, error: int) -> tuple[int, int]:
    if error:
        raise explained(OSError(error, os.strerror(error)))
    return signalled, denied


def denied_error() -> PermissionError:
    """The error for processes that run with ids that we may not signal."""
    return PermissionError(errno.EPERM, "part of the program's tree may not be signalled (kill(2))")


def kill_now(program: Program) -> None:
    """SIGKILL to all there is now; for where nothing can be awaited."""
    with contextlib.suppress(OSError), Tree(program) as tree:
        tree.signal(signal.SIGKILL)
    program.abandon()
