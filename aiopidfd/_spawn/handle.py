"""What every handle to a program has: the program's identity, exit and signals."""

import resource
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from .._pidfd.not_copyable import Lent, Owner
from .hub_of_each_loop import is_of_another_loop
from .options import StrOrBytesPath
from .program import Program
from .tree import kill_now
from .tree_methods import AsyncTreeMethods, BlockingTreeMethods, TreeMethods

__all__ = ["AFTER_CTRL_C", "AsyncHandle", "BlockingHandle", "Handle"]

AFTER_CTRL_C: Final = 0.25  # seconds that a `with` waits then, as in subprocess


class PidfdHandle:
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


class BlockingHandle(PidfdHandle, BlockingTreeMethods):
    """What is blocking of them, for a class that has the rest from the standard library."""

    __slots__ = ()


class Handle(Owner, PidfdHandle, TreeMethods):
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


class AsyncHandle(Handle, AsyncTreeMethods):
    """A handle whose waits are awaited, on any asyncio loop and on trio. It has streams."""

    @abstractmethod
    async def aclose(self) -> None:
        """End the program, or wait for it, and close its pipes."""

    @abstractmethod
    def _close_pipes(self) -> None:
        """Close our ends of its pipes."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As `aclose`. If the block is thrown away with its loop, the program is killed."""
        if exc_type is GeneratorExit and is_of_another_loop(self._program):
            kill_now(self._program)
            self._close_pipes()
        else:
            await self.aclose()
