"""A program's tree: all that it has started, and what that has started, wherever it has gone.

The program's guardian is a child subreaper (PR_SET_CHILD_SUBREAPER(2const), Linux 3.4): a process
that loses its parent, for example by a double fork, becomes the guardian's child. So the tree is
all that descends from the guardian. /proc lists that (proc_tid_children(5), CONFIG_PROC_CHILDREN).
"""

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from typing import Final, Self

from .. import _native
from .._pidfd.any_loop import now, readable_within
from .._pidfd.durations import Deadline, nanoseconds
from .._pidfd.wait import has_exited
from .containment_checks import explained
from .program import Program

__all__ = ["KILL_DEADLINE", "Tree", "denied_error", "is_held", "kill_now"]

# After SIGKILL a program is gone at once, unless it is in uninterruptible sleep in the kernel. In
# that case its caller goes on, and the program is reaped when it wakes.
KILL_DEADLINE: Final = 5.0  # seconds

_LOOK_AGAIN: Final = 0.5  # seconds
_KILL_AGAIN: Final = 0.002  # seconds: the next pass finds what was born during one


class Tree:
    """The processes of a program's tree, for as long as this is open.

    From its opening on, the guardian stays until all of them are gone. If the guardian was killed,
    the tree is what still descends from the program itself.

    Attributes:
        orphaned: whether the guardian was killed.
    """

    def __init__(self, program: Program) -> None:
        """Hold the guardian, so that it stays.

        Raises:
            ProcessLookupError: the guardian is gone: the program has exited, and its rest is
                nobody's.
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
        """Whether nothing is left of the tree."""
        return has_exited(self._fd) and not self._lost_guardian()

    async def wait(self) -> None:
        """Wait until nothing is left of the tree."""
        while not await self.wait_for(_LOOK_AGAIN):
            self._program.native.wake()  # somebody may have stopped the guardian, which is not told

    async def wait_for(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of the tree. Returns whether nothing is left."""
        await readable_within(self._fd, seconds)
        return self.is_gone()

    def _lost_guardian(self) -> bool:
        """Whether the guardian was killed and the program lives on. If so, hold the program."""
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
        """(pid, pidfd) of each process of the tree; the caller must close the pidfds.

        Raises:
            OSError: as `signal`.
        """
        try:
            return _native.list_tree(self._root, self._fd)
        except OSError as exc:
            raise explained(exc) from None

    def signal(self, sig: int) -> tuple[int, int]:
        """Send a signal to each process that is there now, each by its pidfd.

        Returns:
            How many have got it (a zombie counts too), and how many we may not signal.

        Raises:
            OSError: ENOTSUP, ENOSYS: /proc does not tell the tree. EMFILE and the like.
        """
        return _checked(*_native.signal_tree(self._root, self._fd, self.orphaned, sig))

    async def kill(self) -> bool:
        """SIGKILL the processes, and what they start meanwhile, until nothing is left.

        Returns:
            Whether nothing is left within KILL_DEADLINE.

        Raises:
            PermissionError: we may not signal any of the processes that are left.
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
        """SIGKILL the next ones: the guardian's children, or all if there is no guardian.

        Returns and raises as `signal`.
        """
        if self.orphaned:
            return self.signal(signal.SIGKILL)
        return _checked(*_native.kill_next(self._root, self._fd))

    def _kill_passes(self, deadline: Deadline) -> Iterator[None]:
        """SIGKILL all processes that are there, once at each step, until the deadline."""
        with contextlib.suppress(OSError):
            self.signal(signal.SIGKILL)  # kill_once() alone would reach deep ones one by one only
        while True:
            signalled, denied = self.kill_once()
            yield
            late = deadline.past
            if denied and (not signalled or late):
                raise denied_error()
            if late:
                return


def is_held(program: Program) -> bool:
    """Whether a guardian has stayed for what an exited program has left behind."""
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
    """SIGKILL all processes of the tree once, where nothing can be awaited."""
    program.advance()  # it may run without our having heard of it
    with contextlib.suppress(OSError), Tree(program) as tree:
        tree.signal(signal.SIGKILL)
    program.abandon()
