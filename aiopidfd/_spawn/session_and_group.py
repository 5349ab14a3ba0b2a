"""The options start_new_session and process_group, and the controlling terminal of PTY."""

from termios import TIOCSCTTY

from .. import _native
from .._pidfd.arguments import flag, integer
from .options import Steps

__all__ = ["session_steps"]


def session_steps(
    start_new_session: bool, terminal: int | None, process_group: int | None
) -> Steps:
    """The steps that put a program into a session (setsid(2)) or a process group (setpgid(2)).

    Args:
        start_new_session, process_group: as in subprocess.Popen.
        terminal: the child's descriptor for what will be its controlling terminal.

    Raises:
        TypeError, ValueError: not such a value, or both cannot be.
    """
    steps: Steps = []
    if flag("start_new_session", start_new_session) or terminal is not None:
        steps.append(("start_new_session", (_native.SYS_setsid,)))
    if terminal is not None:
        steps.append(("PTY", (_native.SYS_ioctl, terminal, TIOCSCTTY, 0)))
    if process_group is not None and integer("process_group", process_group) >= 0:
        if terminal is not None:
            raise ValueError("process_group cannot go with PTY, which makes a session of its own")
        steps.append(("process_group", (_native.SYS_setpgid, 0, process_group)))
    return steps
