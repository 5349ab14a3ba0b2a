"""The option no_new_privs."""

from typing import Final

from .. import _native
from .._pidfd.arguments import flag
from .options import Steps

__all__ = ["no_new_privs_steps"]

_PR_SET_NO_NEW_PRIVS: Final = 38


def no_new_privs_steps(no_new_privs: bool) -> Steps:
    """The step after which no exec gives more privileges (prctl(2)). Raises TypeError."""
    if not flag("no_new_privs", no_new_privs):
        return []
    return [("no_new_privs", (_native.SYS_prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))]
