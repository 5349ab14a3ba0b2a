"""Options that tie a program to us: it dies with us, or gains no privileges."""

import signal
from typing import Final

from .. import _native
from .._pidfd.arguments import in_range
from .options import Steps

__all__ = ["prctl_steps"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def prctl_steps(no_new_privs: bool, die_with_parent: bool | int) -> Steps:
    """The steps that tie a program to us, after any change of ids. Raises as `limit_steps`."""
    steps: Steps = []
    if no_new_privs:
        steps.append(("no_new_privs", (_native.SYS_prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
    if die_with_parent is not False:
        # The program is tied to the guardian, which ends when this process does. The end of the
        # thread that started it does not matter. (Elsewhere that thread counts as the parent:
        # prctl(2).)
        number = signal.SIGKILL if die_with_parent is True else die_with_parent
        number = in_range("die_with_parent", number, 1, signal.NSIG - 1)
        steps.append(("die_with_parent", (_native.SYS_prctl, _PR_SET_PDEATHSIG, number, 0, 0, 0)))
    return steps
