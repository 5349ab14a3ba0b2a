"""The OSError for a start that failed, whatever failed in it, as subprocess would raise it."""

import os

from .. import _native
from .plan import Plan

__all__ = ["start_error"]

# The calls that a guardian needs, by number. An error names the call that a filter refuses.
_CALLS = {
    _native.SYS_kill: "kill(2)",
    _native.SYS_ppoll: "ppoll(2)",
    _native.SYS_prctl: "prctl(2)",
    _native.SYS_signalfd4: "signalfd4(2)",
    _native.SYS_waitid: "waitid(2)",
}


def start_error(plan: Plan, errno: int, step: int) -> OSError:
    """The OSError for a start that failed at `step`, as subprocess would raise it."""
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
    if step < 0:
        name = _CALLS.get(_native.FAILED_CALL - step, "close_range(2)")
        return OSError(errno, f"{reason} (for {name})")
    option, _ = plan.steps[step]
    if option == "cwd":
        return OSError(errno, reason, plan.cwd)
    return OSError(errno, f"{reason} (for the option {option})")
