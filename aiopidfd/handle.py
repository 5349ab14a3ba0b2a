"""What every handle to a running program has, whatever loop it is for."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator, Sequence
from signal import SIGTERM
from typing import TYPE_CHECKING

from .child import Child
from .plan import StrOrBytesPath
from .tree import Tree, denied_error

if TYPE_CHECKING:
    from .pidfd import PidFd

__all__ = ["Handle", "NoHandleError"]


class NoHandleError(ProcessLookupError):
    """There is no pidfd to be had: the program has exited and that is known."""


class Handle:
    """A program: who it is, how it ended, and its signals. All but the streams and its own end."""

    _child: Child

    def __repr__(self) -> str:
        """The pid, and the return code where there is one."""
        code = "" if self.returncode is None else f" returncode={self.returncode}"
        return f"<{type(self).__name__} {self.pid}{code}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def args(self) -> Sequence[StrOrBytesPath]:
        """The command line as it was given; with a shell, the shell's."""
        return self._child.args

    @property
    def returncode(self) -> int | None:
        """None while it runs; then the exit status, or minus the signal's number.

        255, with a warning in the log, where the guardian was killed and the kernel (before 6.15)
        cannot tell.
        """
        return self._child.returncode

    @property
    def pidfd(self) -> int:
        """The program's pidfd (pidfd_open(2)) while it runs, else -1. Do not close it."""
        return self._child.pidfd

    @contextlib.contextmanager
    def handle(self) -> Iterator[int]:
        """A pidfd of the program that is valid for the block, even if the program ends meanwhile.

            with process.handle() as pidfd:
                signal.pidfd_send_signal(pidfd, signal.SIGUSR1)

        Raises:
            NoHandleError: the program has exited and that is known.
        """
        try:
            fd = self._child.native.dup_pidfd()
        except ProcessLookupError:
            raise NoHandleError(errno.ESRCH, "the program has exited") from None
        try:
            yield fd
        finally:
            os.close(fd)

    @property
    def guardian_pid(self) -> int:
        """The pid of the guardian: the program's parent, and our child."""
        return self._child.guardian_pid

    @property
    def rusage(self) -> resource.struct_rusage | None:
        """What this program alone used, once it has exited. See `Child.rusage`."""
        return self._child.rusage

    def send_signal(self, signal: int) -> None:
        """Send a signal, by pidfd: never to another process that got the same pid.

        Raises:
            ProcessLookupError: the program has exited and that is known.
            PermissionError: it runs with ids that we may not signal (kill(2)).
        """
        self._child.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM. Raises as `send_signal`."""
        self._child.terminate()

    def kill(self) -> None:
        """Send SIGKILL. Raises as `send_signal`."""
        self._child.kill()

    def children(self) -> list["PidFd"]:
        """All that the program has started and that is there now, and what those have started.

        Daemons too, which have left their parent and their session. Parents come before their
        children. A handle to each, to be closed (or dropped):

            for child in process.children():
                with child:
                    print(child.getpid())

        From this call on the guardian stays as long as there is any of them, after the program's
        own exit too; and so for the other calls that deal with the tree.

        Raises:
            ProcessLookupError: the program has exited, and no one has kept track of its tree.
            OSError: EMFILE; ENOTSUP, ENOSYS: /proc cannot tell (see docs/trees.md).
        """
        from .pidfd import PidFd  # which knows us

        handles: list[PidFd] = []
        with Tree(self._child) as tree:
            members = tree.members()
        try:
            while members:
                pid, fd = members.pop(0)
                handle = PidFd.owning(fd)
                if pid != self.pid:
                    handles.append(handle)
        finally:
            for _, fd in members:
                os.close(fd)
        return handles

    def terminate_tree(self) -> None:
        """Send SIGTERM to the program and to all that it has started, each by its pidfd.

        Once: what is started meanwhile may not get it. `kill_tree` leaves nothing.

        Raises:
            ProcessLookupError: as `children`.
            PermissionError: some may not be signalled (kill(2)); the others have got it.
            OSError: as `children`.
        """
        with Tree(self._child) as tree:
            if tree.signal(SIGTERM)[1]:
                raise denied_error()

    async def kill_tree(self) -> bool:
        """SIGKILL to the program and to all that it has started, until there is nothing left.

        On any asyncio loop and on trio. What keeps forking is killed faster than it forks; what
        sleeps uninterruptibly in the kernel is left after 5 seconds, and dies when it wakes.

        Returns:
            Whether nothing is left.

        Raises:
            PermissionError: all that is left may not be signalled (kill(2)).
            OSError: as `children`; the program itself has got SIGKILL.
        """
        try:
            with Tree(self._child) as tree:
                try:
                    return await tree.kill()
                except PermissionError:
                    raise
                except OSError:  # the tree cannot be found: the program can
                    with contextlib.suppress(ProcessLookupError):
                        self.kill()
                    raise
        except ProcessLookupError:
            return True

    async def wait_tree(self) -> int:
        """Wait until the program has exited, and all that it has started is gone too.

        On any asyncio loop and on trio. A cancelled wait leaves them alone. What the program left
        behind before anybody dealt with its tree, when it exited, is not waited for.

        Returns:
            The program's return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
            OSError: EMFILE.
        """
        with contextlib.suppress(ProcessLookupError), Tree(self._child) as tree:
            await tree.wait()
        return await self.wait()

    async def wait(self) -> int:
        """Wait for the program's exit; the return code."""
        raise NotImplementedError
