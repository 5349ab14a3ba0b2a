"""What every handle to a running program has, whatever loop it is for."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator, Sequence

from .child import Child
from .plan import StrOrBytesPath

__all__ = ["Handle", "NoHandleError"]


class NoHandleError(ProcessLookupError):
    """There is no pidfd to be had: the program has exited and that is known."""


class Handle:
    """A program: who it is, how it ended, and its signals. All but the streams and the waiting."""

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
