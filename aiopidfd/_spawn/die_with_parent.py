"""The option `die_with_parent`: a program gets a signal when this process ends."""

import signal
from typing import Final

from .. import _native
from .._pidfd.arguments import in_range
from .options import Steps

__all__ = ["die_steps"]

_PR_SET_PDEATHSIG: Final = 1


def die_steps(die_with_parent: bool | int) -> Steps:
    """The step that ties a program to us, after any change of ids. Raises as `limit_steps`.

    It is tied to the guardian, which ends when this process does. The end of the thread that
    started it does not matter. (Elsewhere that thread counts as the parent: prctl(2).)
    """
    if die_with_parent is False:
        return []
    number = signal.SIGKILL if die_with_parent is True else die_with_parent
    number = in_range("die_with_parent", number, 1, signal.NSIG - 1)
    return [("die_with_parent", (_native.SYS_prctl, _PR_SET_PDEATHSIG, number, 0, 0, 0))]
