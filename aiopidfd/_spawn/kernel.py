"""What this kernel, and whatever filters its system calls, lets us do. Probed by doing it, once."""

import errno
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from .. import _native

__all__ = ["Answer", "Kernel", "kernel"]


class _Call(NamedTuple):
    name: str  # as _native.probe() names it
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
        since: the first Linux version that has it, from its man page.
        errno: 0 where it works, else what it answered.
        needed: whether nothing can be spawned without it.
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
    """The running kernel as seen from this process.

    Attributes:
        release: as ``uname -r`` prints it.
        answers: one for each call that matters here, in the order of the printed table.
    """

    release: str
    answers: tuple[Answer, ...] = field(repr=False)
    _errnos: dict[str, int] = field(repr=False)

    @property
    def method(self) -> str | None:
        """How guardians are made: "clone3", "clone" where that is blocked, or None."""
        if self.missing() is not None:
            return None
        return "clone3" if self._errnos["clone3"] == 0 else "clone"

    @property
    def exit_info(self) -> bool:
        """Whether a status can be had from a pidfd after the process was reaped (Linux 6.15)."""
        return self._errnos["exit_info"] == 0

    def missing(self) -> Answer | None:
        """The first call without which nothing can be spawned, or None."""
        if self._errnos["clone3"] and self._errnos["clone"]:
            return next(answer for answer in self.answers if answer.name == _CLONE.what)
        return next((a for a in self.answers if a.needed and not a.works), None)

    def require(self) -> int:
        """The way to clone, in the native module's terms.

        Raises:
            OSError: with the errno that the kernel gave, where a needed call is missing.
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


# A limit that is reached now says nothing about the kernel.
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
    """What the running kernel lets us do. Asked at the first call and remembered.

    It is asked by starting two trial children, which end at once. Spawning does not need this.

    Args:
        again: ask anew, as after a seccomp filter was installed.

    Raises:
        OSError: EMFILE, EAGAIN and the like: it could not be asked.
    """
    global _known
    if _known is None or again:
        _known = _probe()
    return _known


_call: int | None = None


def clone_call() -> int:
    """The way to clone that the first spawn tries, or that worked.

    Raises:
        OSError: a needed call is missing; see `Kernel.require`.
    """
    global _call
    if _call is None:
        _call = _native.CALL_CLONE3 if _native.has_calls() else kernel(again=True).require()
    return _call


def other_clone_call() -> int | None:
    """The way to clone after the present one was refused; None where there is no other.

    Raises:
        OSError: a needed call is missing; see `Kernel.require`.
    """
    global _call
    if _call == _native.CALL_CLONE:
        kernel(again=True).require()
        return None
    _call = _native.CALL_CLONE
    return _call
