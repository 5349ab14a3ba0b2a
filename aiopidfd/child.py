"""A spawned child without an event loop: its start, its signals, its status.

`spawn` is the blocking way to start a program. Everything with a loop is built on `Child` too.
"""

import errno
import logging
import resource
import signal
import subprocess
import time
from difflib import get_close_matches
from typing import Any, Final, Unpack

from . import _native
from .cgroups import Cgroup
from .exits import Patience, has_exited, returncode
from .kernel import clone_call, other_clone_call
from .plan import Command, Options, Plan, check_fds, make_plan
from .seconds import nanoseconds
from .stdio import Descriptors, Stdio
from .terminal import PTY

__all__ = ["Child", "spawn"]

logger = logging.getLogger("aiopidfd")

UNKNOWN_RETURNCODE: Final = 255  # as asyncio has it

_GUARDIAN_ENDS: Final = 5_000_000  # nanoseconds: much more than it takes

FINAL: Final = frozenset({_native.EXITED, _native.UNKNOWN, _native.FAILED, _native.FOREIGN})


class Child:
    """A program that was started, or is being started, and its guardian.

    Made by `spawn`. A child that is dropped while it runs lives on; its guardian is reaped by a
    later spawn of this process.

    Attributes:
        args: the command as it was given, a list; with a shell, the shell's command line.
        returncode: None while it runs as far as is known; then the exit status, or minus the number
            of the signal that ended it.
        rusage: what it and the descendants that it waited for used, a `resource.struct_rusage`
            (getrusage(2)), once it has exited; None if its guardian was killed. The kernel counts
            in `ru_maxrss` what it shared with us before exec, so it is never below our own size.
    """

    __slots__ = (
        "__weakref__",
        "_native",
        "_pid",
        "_plan",
        "args",
        "doomed",
        "returncode",
        "rusage",
    )

    def __init__(self, native: _native.Child, plan: Plan) -> None:
        """Wrap what the native spawner returned. Use `spawn` instead."""
        self._native = native
        self._plan = plan
        self._pid = 0
        self.args = plan.args
        self.doomed = False  # it was killed, and nobody wants to hear that it still runs
        self.returncode: int | None = None
        self.rusage: resource.struct_rusage | None = None

    def __repr__(self) -> str:
        """The pid and how it stands."""
        return f"<{type(self).__name__} pid={self.pid} returncode={self.returncode}>"

    @property
    def native(self) -> _native.Child:
        """The native half. Internal: for whoever binds a child to a loop."""
        return self._native

    @property
    def pid(self) -> int:
        """The program's process id; 0 while it is being started."""
        if not self._pid:
            self._pid = self._native.pid
        return self._pid

    @property
    def pidfd(self) -> int:
        """The program's pidfd while it runs, for polling; -1 before and after. Do not close it."""
        return self._native.pidfd

    @property
    def guardian_pid(self) -> int:
        """The process id of the guardian, which is the program's parent."""
        return self._native.guardian_pid

    def poll(self) -> int | None:
        """Look whether it has exited, without blocking. Returns `returncode`."""
        self.advance()
        return self.returncode

    def advance(self) -> int:
        """Take in what is known now; returns the native state. Never blocks."""
        state = self._native.poll()
        if state in FINAL and self.returncode is None:
            if state == _native.EXITED:
                self._take_result()
            elif state == _native.UNKNOWN:
                logger.warning(
                    "The guardian of child process pid %d was killed, and this kernel cannot tell "
                    "how the child ended: will report returncode %d",
                    self.pid,
                    UNKNOWN_RETURNCODE,
                )
                self.returncode = UNKNOWN_RETURNCODE
        return state

    def _take_result(self) -> None:
        code, status, usage = self._native.result()
        if usage is not None:
            self.rusage = resource.struct_rusage(usage)
        self.returncode = returncode(code, status)

    def failure(self) -> OSError:
        """The error of a child whose state is FAILED or FOREIGN."""
        if self._native.state == _native.FOREIGN:
            return foreign()
        return self._plan.error(*self._native.failure())

    def wait(self, timeout: float | None = None) -> int:
        """Block until the program has exited. The GIL is not held meanwhile.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            `returncode`.

        Raises:
            subprocess.TimeoutExpired: it still runs.
            ChildProcessError: this process is a forked copy of the child's parent.
        """
        state = self.block(timeout)
        self._native.close()
        self.reap_guardian()
        if state == _native.FOREIGN:
            raise foreign()
        if self.returncode is None:
            raise self.failure()
        return self.returncode

    def block(self, timeout: float | None = None) -> int:
        """Wait as `wait` does, and close nothing: for a child whose descriptors a loop watches.

        Returns the native state, one of FINAL. Raises subprocess.TimeoutExpired.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        patience = Patience()
        while (state := self.advance()) not in FINAL:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired([*self.args], timeout or 0)
            self._native.block(state, -1 if left is None else nanoseconds(left))
            if self.advance() == _native.ORPHANED and self.has_exited():
                # Whoever adopted it has not reaped it yet.
                if patience.over:
                    self._native.give_up_status()
                else:
                    time.sleep(patience.next())
        return state

    def wait_started(self) -> None:
        """Block until the program was exec'd. The GIL is not held meanwhile.

        Raises:
            OSError: it could not be; the child is reaped and all is closed.
        """
        while (state := self.advance()) in (_native.STARTING, _native.DYING):
            self._native.block(state, -1)
        if state in (_native.FAILED, _native.FOREIGN):
            self._native.close()
            raise self.failure()

    def send_signal(self, sig: int) -> None:
        """Send a signal through the pidfd, so never to another process that got the same pid.

        Raises:
            ProcessLookupError: it has exited and that is known.
            PermissionError: it runs with ids that we may not signal (kill(2)).
            OSError: EINVAL: no such signal.
        """
        self._native.send_signal(sig)

    def terminate(self) -> None:
        """Send SIGTERM. Raises as `send_signal` does."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises as `send_signal` does."""
        self.send_signal(signal.SIGKILL)

    def has_exited(self) -> bool:
        """Whether the program ran and is over, though it may not be known yet how it ended."""
        pidfd = self._native.pidfd
        return pidfd >= 0 and has_exited(pidfd)

    def reap_guardian(self) -> None:
        """Reap the guardian of a program that is over, unless it stays for the rest of the tree.

        It is on its way, and that takes some microseconds; more than milliseconds are not waited
        for, and then a later start reaps it.
        """
        self._native.finish(_GUARDIAN_ENDS)

    def abandon(self) -> None:
        """SIGKILL as soon as there is a program to kill, even if no one looks after it any more."""
        self.doomed = True
        self._native.kill()


def start(
    command: Command,
    *,
    shell: bool,
    descriptors: Descriptors,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    preexec_fn: Any = None,
    startupinfo: Any = None,
    creationflags: int = 0,
    hub: _native.Hub | None = None,
    **options: Unpack[Options],
) -> Child:
    """Begin to start a program; returns at once, with the child in the state STARTING.

    `descriptors` holds our ends of the pipes afterwards. `hub` is how a loop will hear of it.
    Raises as `spawn` does, but for what only the exec can tell.
    """
    if preexec_fn is not None:
        raise ValueError(
            "preexec_fn is not supported: between clone and exec no Python can run safely. Use the "
            "option for what it does: cwd, umask, user, group, extra_groups, start_new_session, "
            "process_group, restore_signals, rlimits, nice, cpu_affinity, cgroup, "
            "die_with_parent, ... (see aiopidfd.Options)"
        )
    if startupinfo is not None:
        raise ValueError("startupinfo is only supported on Windows platforms")
    if creationflags != 0:
        raise ValueError("creationflags is only supported on Windows platforms")
    call = clone_call()

    rest: dict[str, Any] = {**options}
    if rest and (unknown := rest.keys() - Options.__annotations__.keys()):
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}{_meant(min(unknown))}")
    pipesize = rest.pop("pipesize", -1)
    if pipesize is not None and not isinstance(pipesize, int):
        raise TypeError("pipesize must be an integer")
    passed, close_fds = check_fds(rest.pop("pass_fds", ()), rest.pop("close_fds", True))
    where = rest.pop("cgroup", None)
    descriptors.open(
        stdin,
        stdout,
        stderr,
        passed,
        -1 if pipesize is None else pipesize,
        where,
        rest.pop("window_size", None),
    )
    cgroup = None
    if descriptors.cgroup is not None:
        cgroup = Cgroup(descriptors.cgroup, None if isinstance(where, int) else where)
        cgroup.check()
        if rest.get("contain"):
            descriptors.hold_kill(cgroup.open_kill())
    plan = make_plan(
        command,
        shell=shell,
        dups=descriptors.dups,
        pass_fds=passed,
        terminal=min(descriptors.on_terminal, default=None),
        close_fds=close_fds,
        cgroup=cgroup,
        **rest,
    )
    while True:
        try:
            native = _native.spawn(
                hub,
                call,
                plan.private_memory,
                plan.private_table,
                plan.highest,
                plan.contain,
                -1 if cgroup is None else cgroup.fd,
                descriptors.kill,
                plan.steps,
                plan.paths,
                plan.argv,
                plan.env,
                descriptors.child_ends,
            )
            return Child(native, plan)
        except OSError as exc:
            if exc.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            other = other_clone_call()  # a filter is in the way, perhaps since a moment ago
            if other is None:
                raise
            call = other


def spawn(
    command: Command,
    *,
    shell: bool = False,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    **options: Unpack[Options],
) -> Child:
    """Start a program, blocking until it was exec'd; for code without a loop.

    Args:
        command: the program and its arguments, or one string.
        shell: run the command by `/bin/sh -c`.
        stdin, stdout, stderr: None to inherit, DEVNULL, a descriptor or a file; STDOUT for stderr.
            PIPE and PTY are refused: make a pipe with `os.pipe` and pass its end.
        options: as everywhere, see `aiopidfd.Options`.

    Returns:
        The running child.

    Raises:
        FileNotFoundError, PermissionError, NotADirectoryError: with `filename`, as subprocess.
        TypeError, ValueError: bad arguments, before anything is started.
        OSError: EMFILE, EAGAIN and the like; or a call is missing here (see `aiopidfd.kernel`).
    """
    if subprocess.PIPE in (stdin, stdout, stderr):
        raise ValueError("spawn() makes no pipes: pass an end of one made with os.pipe()")
    if PTY in (stdin, stdout, stderr):
        raise ValueError("spawn() makes no terminals: use create_subprocess_exec()")
    with Descriptors() as descriptors:
        child = start(
            command,
            shell=shell,
            descriptors=descriptors,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            **options,
        )
    try:
        child.wait_started()
    except BaseException:
        child.abandon()  # nothing to do for one that failed; interrupted, it shall not run on
        raise
    return child


def _meant(name: str) -> str:
    known = [*Options.__annotations__, "stdin", "stdout", "stderr"]
    return "".join(f": did you mean {match!r}?" for match in get_close_matches(name, known, 1))


def foreign() -> ChildProcessError:
    """The error for a child of the process that we were forked from."""
    return ChildProcessError(errno.ECHILD, "the child belongs to the process that forked this one")
