"""The OSError for a start that failed, whatever failed in it, as subprocess would raise it."""

import os

from .. import _native
from .plan import Plan

__all__ = ["start_error"]


def start_error(plan: Plan, errno: int, step: int, call: str | None) -> OSError:
    """The OSError for a start that failed at `step`, as subprocess would raise it.

    `call` is the name of a call that the guardian needs, and that a filter or a limit refuses.
    """
    reason = os.strerror(errno)
    if step == _native.FAILED_EXEC:
        error = OSError(errno, reason, plan.executable)
        if not plan.executable:
            error.add_note("The name of the program is empty.")
        return error
    if step == _native.FAILED_CLONE:
        return OSError(errno, reason) if plan.cgroup is None else plan.cgroup.clone_error(errno)
    if step == _native.FAILED_GUARDIAN:
        return OSError(errno, "its guardian was killed while it started", plan.executable)
    if step == _native.FAILED_CGROUP and plan.cgroup is not None:
        return plan.cgroup.error(errno)
    if step == _native.FAILED_LIFELINES:
        return OSError(errno, "descriptors of aiopidfd were closed while it started a program")
    if step == _native.FAILED_DESCRIPTORS:
        return OSError(errno, "a descriptor for the program was closed while it was started")
    if call is not None:
        return OSError(errno, f"{reason} (for {call})")
    option, _ = plan.steps[step]
    if option == "cwd":
        return OSError(errno, reason, plan.cwd)
    return OSError(errno, f"{reason} (for the option {option})")
