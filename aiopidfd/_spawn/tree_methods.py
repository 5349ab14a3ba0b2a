"""What a handle's user may do with the program's tree: all that the program has started."""

import contextlib
import os
from collections.abc import Iterator
from signal import SIGTERM

from .._pidfd.pidfd import DroppablePidFd, PidFd
from .program import Program
from .tree import Tree, denied_error, kill_now

__all__ = ["AsyncTreeMethods", "BlockingTreeMethods", "TreeMethods"]


class TreeMethods:
    """What all handles have; `kill_tree` and `wait_tree` differ."""

    __slots__ = ()

    _program: Program

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


class BlockingTreeMethods(TreeMethods):
    """Those of a handle whose waits block the thread."""

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
        try:
            with self._tree_to_kill() as tree:
                return tree is None or tree.kill_blocking()
            return True
        except PermissionError:
            raise
        except BaseException:  # a signal handler may have raised this, before the first kill
            kill_now(self._program)
            raise


class AsyncTreeMethods(TreeMethods):
    """Those of a handle whose waits are awaited, on any asyncio loop and on trio."""

    __slots__ = ()

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
        try:
            with self._tree_to_kill() as tree:
                return tree is None or await tree.kill()
            return True
        except PermissionError:
            raise
        except BaseException:  # a signal handler may have raised this, before the first kill
            kill_now(self._program)
            raise

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
