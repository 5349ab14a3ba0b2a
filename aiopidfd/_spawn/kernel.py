"""What this kernel, and any filter of its system calls, allows. Each call is tried once."""

import errno
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from .. import _native

__all__ = ["Answer", "Kernel", "kernel"]


class _Call(NamedTuple):
    name: str  # as _native.probe() names the call
    what: str
    since: str  # the first kernel that has it


_CLONE3 = _Call("clone3", "clone3(2) with CLONE_CLEAR_SIGHAND", "5.5")
_CLONE = _Call("clone", "clone(2) with CLONE_PIDFD", "5.2")
_NEEDED = (
    _Call("waitid", "waitid(2) with P_PIDFD", "5.4"),
    _Call("pidfd_open", "pidfd_open(2)", "5.3"),
    _Call("pidfd_send_signal", "pidfd_send_signal(2)", "5.1"),
    _Call("close_range", "close_range(2)", "5.9"),
)
_EXIT_INFO = _Call("exit_info", "ioctl PIDFD_GET_INFO with PIDFD_INFO_EXIT", "6.15")


@dataclass(frozen=True)
class Answer:
    """What the kernel answered when a call was tried.

    Attributes:
        name: the call, with the flag that matters.
        since: the first Linux version that has the call, from its man page.
        errno: 0 if the call works, else the error that came.
        needed: whether nothing can be started without the call.
    """

    name: str
    since: str
    errno: int
    needed: bool

    @property
    def works(self) -> bool:
        """Whether the call did what it should."""
        return self.errno == 0


@dataclass(frozen=True)
class Kernel:
    """The running kernel, as this process sees it.

    Attributes:
        release: as ``uname -r`` prints it.
        answers: one for each call that is needed or useful, in the order of the printed table.
    """

    release: str
    answers: tuple[Answer, ...] = field(repr=False)
    _errnos: dict[str, int] = field(repr=False)

    @property
    def method(self) -> str | None:
        """How guardians are made: "clone3", "clone" where clone3 is blocked, or None."""
        if self.missing() is not None:
            return None
        return "clone3" if self._errnos["clone3"] == 0 else "clone"

    @property
    def exit_info(self) -> bool:
        """Whether a pidfd still tells the status after the process was reaped (Linux 6.15)."""
        return self._errnos["exit_info"] == 0

    def missing(self) -> Answer | None:
        """The first call that is missing and without which nothing can be started, or None."""
        if self._errnos["clone3"] and self._errnos["clone"]:
            return next(answer for answer in self.answers if answer.name == _CLONE.what)
        return next((a for a in self.answers if a.needed and not a.works), None)

    def require(self) -> int:
        """The way to clone, as a number of the native module.

        Raises:
            OSError: a call that is needed is missing; with the errno that the kernel gave.
        """
        missing = self.missing()
        if missing is None:
            return _native.CALL_CLONE3 if self._errnos["clone3"] == 0 else _native.CALL_CLONE
        reason = errno.errorcode.get(missing.errno, str(missing.errno))
        raise OSError(
            missing.errno,
            f"aiopidfd cannot spawn here: {missing.name} answers {reason}. It needs Linux "
            f"{missing.since} or later (all of aiopidfd: 5.10) and no seccomp filter in its way; "
            f"this is Linux {self.release}",
        )


# If such a limit is reached now, this says nothing about the kernel.
_PASSING = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def _probe() -> Kernel:
    errnos = _native.probe()
    for number in errnos.values():
        if number in _PASSING:
            raise OSError(number, os.strerror(number))

    def answer(call: _Call, needed: bool) -> Answer:
        return Answer(call.what, call.since, errnos[call.name], needed)

    answers = (
        answer(_CLONE3, False),
        answer(_CLONE, errnos["clone3"] != 0),
        *(answer(call, True) for call in _NEEDED),
        answer(_EXIT_INFO, False),
    )
    return Kernel(os.uname().release, answers, errnos)


_known: Kernel | None = None


def kernel(*, again: bool = False) -> Kernel:
    """What the running kernel lets us do. It is asked at the first call, and the answer is kept.

    It is asked by starting two trial children, which end at once. No start needs this function.
    After unshare(CLONE_NEWPID) do not ask: the first child would be the new namespace's first
    process, and with that one's end nothing can be started there any more (pid_namespaces(7)).

    Args:
        again: whether to ask anew, for example after a seccomp filter was installed.

    Raises:
        OSError: EMFILE, EAGAIN and the like: the kernel could not be asked.
    """
    global _known
    if _known is None or again:
        _known = _probe()
    return _known
