"""Whether a program's tree can be found here: by a guardian that contains it, and by us."""

import errno
import os

__all__ = ["check_containment", "explained"]


def check_containment() -> None:
    """Check whether a guardian can find its program's tree.

    Raises:
        OSError: ENOTSUP, ENOSYS: it cannot.
    """
    try:
        ours = os.readlink("/proc/self") == str(os.getpid())
        names = [f"/proc/thread-self/ns/{name}" for name in ("pid", "pid_for_children")]
        same = os.readlink(names[0]) == os.readlink(names[1])
    except OSError:
        ours = same = False
    if not (ours and same):
        raise explained(OSError(errno.ENOTSUP, ""))
    if not os.path.exists("/proc/thread-self/children"):
        raise explained(OSError(errno.ENOSYS, ""))


def explained(exc: OSError) -> OSError:
    """The error of the native walk through a tree, explained in words."""
    if exc.errno == errno.ENOTSUP:
        return OSError(
            exc.errno, "a tree is found in /proc, which must be there and of our pid namespace"
        )
    if exc.errno == errno.EACCES:
        return OSError(
            errno.ENOTSUP, "/proc hides processes of the tree from us (hidepid, proc_pid(5))"
        )
    if exc.errno == errno.ENOSYS:
        return OSError(exc.errno, "the kernel lists no children in /proc (CONFIG_PROC_CHILDREN)")
    return exc
