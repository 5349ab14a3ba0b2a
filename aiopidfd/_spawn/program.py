"""A program that was started, without an event loop: its state, its signals, its status.

Internal: users hold handles (`Child`, `Process` and others), and each handle has a `Program`.
"""

import contextlib
import contextvars
import errno
import os
import resource
import signal
import subprocess
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Final

from .. import _native
from .._pidfd.durations import Deadline, check_seconds, monotonic, nanoseconds
from .._pidfd.from_process import NoHandleError
from .._pidfd.wait import Patience, has_exited, returncode
from .hub_of_each_loop import Hub
from .log import log_exit, log_start, log_unknown
from .options import StrOrBytesPath
from .plan import Plan
from .start_errors import start_error
from .weak_programs import RUNNING

__all__ = ["FINAL", "UNKNOWN_RETURNCODE", "Program"]

UNKNOWN_RETURNCODE: Final = 255  # asyncio's number for this

_GUARDIAN_ENDS: Final = 5_000_000  # nanoseconds: much more than a guardian's end takes

_STARTED: Final = frozenset({_native.RUNNING, _native.ORPHANED, _native.EXITED, _native.UNKNOWN})
FINAL: Final = frozenset({_native.EXITED, _native.UNKNOWN, _native.FAILED, _native.FOREIGN})


class Program:
    """A program that is being started, runs, or has exited; and its guardian.

    A program whose `Program` is dropped while it is being started is killed. While it runs, the hub
    of its loop keeps the `Program` until the exit is known. Without a loop, the program goes on
    when its `Program` is dropped, and a later start reaps its guardian.

    Attributes:
        args: the command as it was given, a list; with a shell, the shell's command line.
        context: the context of its start, for the log, until its exit is known.
        begun: when its start was begun, in seconds of CLOCK_MONOTONIC.
        started: the same in seconds since the epoch, as time.time().
        abandoned: whether we have killed it, so that no warning is due while it still runs.
        native: the native half.
        returncode: None as long as no exit is known; then the exit status, or minus the number of
            the signal that ended it.
        rusage: the resources that it, and the descendants that it waited for, have used; known once
            it has exited. None if its guardian was killed.
    """

    __slots__ = (
        "__weakref__",
        "_has_started",
        "_hub",
        "_pid",
        "_plan",
        "abandoned",
        "args",
        "begun",
        "context",
        "native",
        "returncode",
        "rusage",
        "started",
    )

    args: Sequence[StrOrBytesPath]

    def __init__(self, native: _native.Child, plan: Plan, hub: Hub | None = None) -> None:
        """Take what the native spawner returned. `hub` is the hub of the loop that starts it."""
        self.context: contextvars.Context | None = contextvars.copy_context()
        self.begun: float = monotonic()
        self.started: float = time.time()
        self.native: _native.Child = native
        self._plan = plan
        self._pid = 0
        self.args = plan.args
        self.abandoned: bool = False
        self.returncode: int | None = None
        self.rusage: resource.struct_rusage | None = None
        self._has_started = False
        self._hub = None if hub is None else weakref.ref(hub)  # weak: the hub keeps us
        RUNNING.add(self)
        if hub is not None:
            hub.known.add(self)

    @property
    def hub(self) -> Hub | None:
        """The hub of the loop that the program belongs to, as long as that loop exists."""
        return None if self._hub is None else self._hub()

    def move_to(self, hub: Hub) -> None:
        """Belong to another loop from now on, unless it does already. It hears of the exit."""
        hub.native.adopt(self.native)
        if self.hub is not hub:
            self._leave_hub()
            self._hub = weakref.ref(hub)
            self._join_hub()
            if self.advance() in FINAL:
                self._leave_hub()

    def _join_hub(self) -> None:
        if (hub := self.hub) is not None:
            hub.known.remove(self)
            hub.programs[self.native.id] = self

    def _leave_hub(self) -> None:
        if (hub := self.hub) is not None:
            hub.known.remove(self)
            hub.programs.pop(self.native.id, None)

    @property
    def pid(self) -> int:
        """The program's process id; 0 while it is being started."""
        if not self._pid:
            self._pid = self.native.pid
        return self._pid

    @property
    def pidfd(self) -> int:
        """The program's pidfd for polling while it runs; -1 before and after. Do not close it."""
        return self.native.pidfd

    @property
    def guardian_pid(self) -> int:
        """The process id of the guardian, which is the program's parent."""
        return self.native.guardian_pid

    def poll(self) -> int | None:
        """Look, without blocking, whether the program has exited. Returns `returncode`."""
        self.advance()
        return self.returncode

    def tell_started(self) -> None:
        """Record that the program runs, after its exec or fork. Its hub keeps it from now on."""
        self._has_started = True
        self._join_hub()
        if self.returncode is not None:  # another thread has seen the exit meanwhile
            self._leave_hub()
        log_start(self)

    def advance(self) -> int:
        """Take in what is known now. Returns the native state. Never blocks."""
        state = self.native.poll()
        if not self._has_started and state in _STARTED:
            self.tell_started()
        if state in FINAL and self.returncode is None:
            if state == _native.EXITED:
                self._take_result()
            elif state == _native.UNKNOWN:
                self.returncode = UNKNOWN_RETURNCODE
            self._leave_hub()
            if RUNNING.remove(self) and self.returncode is not None:
                if state == _native.UNKNOWN:
                    log_unknown(self)
                log_exit(self)
            self.context = None
        return state

    def _take_result(self) -> None:
        code, status, usage = self.native.result()
        if usage is not None:
            self.rusage = resource.struct_rusage(usage)
        self.returncode = returncode(code, status)

    def failure(self) -> OSError:
        """The error for a program whose state is FAILED or FOREIGN."""
        if self.native.state == _native.FOREIGN:
            return _foreign()
        return start_error(self._plan, *self.native.failure())

    def wait(self, timeout: float | None = None) -> int:
        """Block until the program has exited. The GIL is released meanwhile.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            `returncode`.

        Raises:
            subprocess.TimeoutExpired: the program still runs.
            ChildProcessError: this process is a forked copy of the one that started the program.
            TypeError, ValueError: not a number of seconds.
        """
        self.block(timeout)
        self.close()
        if self.returncode is None:
            raise self.failure()
        return self.returncode

    def block(self, timeout: float | None = None) -> int:
        """Wait as `wait` does, but close nothing: a loop may watch the program's descriptors.

        Returns the native state, one of FINAL. Raises subprocess.TimeoutExpired.
        """
        check_seconds(timeout=timeout)
        deadline = Deadline(timeout)
        patience = Patience()
        while (state := self.advance()) not in FINAL:
            if not (left := deadline.left):
                raise subprocess.TimeoutExpired([*self.args], timeout or 0)
            self.native.block(state, nanoseconds(left))
            if self.advance() == _native.ORPHANED and self.has_exited():
                # The new parent of this orphan has not reaped it yet.
                if patience.over:
                    self.native.give_up_status()
                else:
                    time.sleep(patience.next())
        return state

    def wait_started(self) -> None:
        """Block until the program's exec. The GIL is released meanwhile.

        Raises:
            OSError: the start failed; the program is reaped and all is closed.
        """
        state: int = _native.STARTING
        while state in (_native.STARTING, _native.DYING):
            self.native.block(state, -1)
            state = self.advance()
        if state in (_native.FAILED, _native.FOREIGN):
            self.close()
            raise self.failure()

    @contextlib.contextmanager
    def handle(self) -> Iterator[int]:
        """A pidfd of the program. It stays valid inside the block, even if the program ends.

        Raises:
            NoHandleError: the program has exited, and its exit is known.
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        try:
            fd = self.native.dup_pidfd()
        except ProcessLookupError:
            self.check_ours()
            raise NoHandleError(errno.ESRCH, "the program has exited") from None
        try:
            yield fd
        finally:
            os.close(fd)

    def check_ours(self) -> None:
        """Raise ChildProcessError if this process is a forked copy of the one that started it."""
        if self.returncode is None and self.native.state == _native.FOREIGN:
            raise _foreign()

    def send_signal(self, sig: int) -> None:
        """Send a signal by pidfd, so never to another process that got the same pid.

        Raises:
            ProcessLookupError: the program has exited, and its exit is known.
            ChildProcessError: this process is a forked copy of the one that started the program.
            PermissionError: the program runs with ids that we may not signal (kill(2)).
            OSError: EINVAL: there is no such signal.
        """
        try:
            self.native.send_signal(sig)
        except ProcessLookupError:
            self.check_ours()
            raise

    def terminate(self) -> None:
        """Send SIGTERM. Raises as `send_signal` does."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises as `send_signal` does."""
        self.send_signal(signal.SIGKILL)

    def has_exited(self) -> bool:
        """Whether the program ran and is over, even if its status is not known yet."""
        pidfd = self.native.pidfd
        return pidfd >= 0 and has_exited(pidfd)

    def close(self) -> None:
        """Give back what a program that is over still holds: its pidfd and its guardian."""
        self.native.close()
        self.reap_guardian()

    def reap_guardian(self) -> None:
        """Reap the guardian of a program that is over, unless it stays for the rest of the tree.

        The guardian usually ends within microseconds. We wait for some milliseconds at most; if it
        takes longer, a later start reaps it.
        """
        self.native.finish(_GUARDIAN_ENDS)

    def abandon(self) -> None:
        """SIGKILL the program as soon as there is one, even if nobody cares for it any more."""
        self.abandoned = True
        self.native.kill()


def _foreign() -> ChildProcessError:
    """The error for a program that was started by the process that we were forked from."""
    return ChildProcessError(errno.ECHILD, "the child belongs to the process that forked this one")
