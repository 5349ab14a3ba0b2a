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
        # By readlinkat(2), which the guardian uses; the path is absolute, so no descriptor counts.
        ours = os.readlink("/proc/self", dir_fd=0) == str(os.getpid())
        names = [f"/proc/thread-self/ns/{name}" for name in ("pid", "pid_for_children")]
        same = os.readlink(names[0]) == os.readlink(names[1])
    except OSError:
        ours = same = False
    if not (ours and same):
        raise explained(OSError(errno.ENOTSUP, ""))
    try:  # the guardian opens it too, when the program runs already
        os.close(os.open("/proc/thread-self/children", os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise explained(OSError(errno.ENOSYS, "")) from None
    except PermissionError:  # a filter, or Landlock
        raise explained(OSError(errno.ENOTSUP, "")) from None


def explained(exc: OSError) -> OSError:
    """The error of the native walk through a tree, explained in words."""
    if exc.errno == errno.ENOTSUP:
        return OSError(
            exc.errno,
            "a tree is found in /proc, which must be there, readable, and of our pid namespace",
        )
    if exc.errno == errno.EACCES:
        return OSError(
            errno.ENOTSUP, "/proc hides processes of the tree from us (hidepid, proc_pid(5))"
        )
    if exc.errno == errno.ENOSYS:
        return OSError(exc.errno, "the kernel lists no children in /proc (CONFIG_PROC_CHILDREN)")
    return exc
