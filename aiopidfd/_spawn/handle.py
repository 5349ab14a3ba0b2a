"""What every handle to a program has: the program's identity, exit, signals and tree."""

import contextlib
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from signal import SIGTERM

from .._pidfd.no_copies import Lent, Owner
from .._pidfd.pidfd import DroppablePidFd, PidFd
from .options import StrOrBytesPath
from .program import Program
from .tree import Tree, denied_error

__all__ = ["AsyncHandle", "BlockingTreeHandle", "Handle", "TreeHandle"]


class TreeHandle:
    """What our handles to a program have and those of the standard library lack.

    So a class can derive from this and from a class of the standard library, which has the rest.
    """

    __slots__ = ()

    _program: Program

    @property
    def pidfd(self) -> int:
        """The program's pidfd (pidfd_open(2)) while it runs, else -1. You must not close it."""
        return self._program.pidfd

    def handle(self) -> AbstractContextManager[int]:
        """A pidfd of the program. It stays valid inside the block, even if the program ends.

            with process.handle() as pidfd:
                signal.pidfd_send_signal(pidfd, signal.SIGUSR1)

        Raises:
            NoHandleError: the program has exited, and its exit is known.
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        return Lent(self, "handle", self._program.handle)

    @property
    def guardian_pid(self) -> int:
        """The pid of the guardian: the program's parent, and our child."""
        return self._program.guardian_pid

    @property
    def rusage(self) -> resource.struct_rusage | None:
        """The resources that this program alone used, once it has exited. See `Child.rusage`."""
        return self._program.rusage

    def children(self) -> list[PidFd]:
        """All that the program has started and that runs now, and what those have started.

        This includes daemons, which have left their parent and their session. Parents come before
        their children. You get a handle to each process, which you close (or drop):

            for child in process.children():
                with child:
                    print(child.getpid())

        From this call on the guardian stays until all of them are gone, even after the program's
        own exit. The other calls that deal with the tree have the same effect.

        Raises:
            ProcessLookupError: the program has exited, and nobody has kept track of its tree.
            ChildProcessError: this process is a forked copy of the one that started the program.
            OSError: EMFILE; ENOTSUP, ENOSYS: /proc does not tell (see the manual's page trees).
        """
        handles: list[PidFd] = []
        with Tree(self._program) as tree:
            members = tree.members()
        owned = 0
        try:
            for pid, fd in members:
                handle = DroppablePidFd(fd)
                owned += 1
                if pid != self._program.pid:
                    handles.append(handle)
        finally:
            for _, fd in members[owned:]:
                os.close(fd)
        return handles

    def terminate_tree(self) -> None:
        """Send SIGTERM to the program and to all that it has started, each by its pidfd.

        The signal is sent once: what is started meanwhile may not get it. `kill_tree` leaves
        nothing.

        Raises:
            ProcessLookupError: as `children`.
            PermissionError: some may not be signalled (kill(2)); the others have got the signal.
            OSError: as `children`.
        """
        with Tree(self._program) as tree:
            if tree.signal(SIGTERM)[1]:
                raise denied_error()

    @contextlib.contextmanager
    def _tree_to_kill(self) -> Iterator[Tree | None]:
        """The program's tree, or None if it is gone. If it cannot be found, kill the program."""
        try:
            tree = Tree(self._program)
        except ProcessLookupError:
            tree = None
        except OSError:
            self._kill_program()
            raise
        if tree is None:
            yield None
            return
        with tree:
            try:
                yield tree
            except PermissionError:
                raise
            except OSError as exc:
                self._kill_program()
                if not isinstance(exc, ProcessLookupError):  # else the tree is gone
                    raise

    def _kill_program(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._program.kill()


class BlockingTreeHandle(TreeHandle):
    """A handle whose waits block the thread."""

    __slots__ = ()

    def kill_tree(self) -> bool:
        """SIGKILL the program and all that it has started, until nothing is left.

        Blocks, and releases the GIL. A process in uninterruptible sleep is left after 5 seconds; it
        dies when it wakes.

        Returns:
            Whether nothing is left.

        Raises:
            PermissionError: all that is left may not be signalled (kill(2)).
            OSError: as `children`; SIGKILL was sent to the program itself.
        """
        with self._tree_to_kill() as tree:
            return tree is None or tree.kill_blocking()
        return True


class Handle(Owner, TreeHandle):
    """A program: its identity, its exit, its signals and its tree. It has no streams."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The pid and the state."""
        return f"<{type(self).__name__} {self._described()}>"

    def _described(self) -> str:
        code = self._program.returncode
        return f"pid={self.pid} {'running' if code is None else f'returncode={code}'}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._program.pid

    @property
    def args(self) -> Sequence[StrOrBytesPath]:
        """The command line as it was given; with a shell, the command line of the shell."""
        return self._program.args

    @property
    def returncode(self) -> int | None:
        """None while the program runs; then its exit status, or minus the signal's number.

        It is 255, with a warning in the log, if the guardian was killed and the kernel (before
        Linux 6.15) cannot tell the status.
        """
        return self._program.returncode

    def send_signal(self, signal: int) -> None:
        """Send a signal by pidfd, so never to another process that got the same pid.

        Raises:
            ProcessLookupError: the program has exited, and its exit is known.
            ChildProcessError: this process is a forked copy of the one that started the program.
            PermissionError: the program runs with ids that we may not signal (kill(2)).
        """
        self._program.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM. Raises as `send_signal`."""
        self._program.terminate()

    def kill(self) -> None:
        """Send SIGKILL. Raises as `send_signal`."""
        self._program.kill()


class AsyncHandle(Handle):
    """A handle whose waits are awaited, on any asyncio loop and on trio."""

    async def kill_tree(self) -> bool:
        """SIGKILL the program and all that it has started, until nothing is left.

        This works on any asyncio loop and on trio. Processes that keep forking are killed faster
        than they fork. A process in uninterruptible sleep is left after 5 seconds; it dies when it
        wakes.

        Returns:
            Whether nothing is left.

        Raises:
            PermissionError: all that is left may not be signalled (kill(2)).
            OSError: as `children`; SIGKILL was sent to the program itself.
        """
        with self._tree_to_kill() as tree:
            return tree is None or await tree.kill()
        return True

    async def wait_tree(self) -> int:
        """Wait until the program has exited, and all that it has started is gone too.

        This works on any asyncio loop and on trio. A cancelled wait leaves them alone. If nobody
        has dealt with the tree before the program's exit, what the program left behind is not
        waited for.

        Returns:
            The program's return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
            OSError: EMFILE.
        """
        with contextlib.suppress(ProcessLookupError), Tree(self._program) as tree:
            await tree.wait()
        return await self.wait()

    async def wait(self) -> int:
        """Wait for the program's exit. Returns the return code."""
        raise NotImplementedError
