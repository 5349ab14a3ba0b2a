"""The option `cgroup`: whether a directory is a cgroup that a program can be put into, and how.

clone3(2) puts the program there at its birth (CLONE_INTO_CGROUP, Linux 5.7). clone(2) cannot, so
there the child writes itself into `cgroup.procs` before all else (cgroups(7)); and so it does where
the kernel has killed it at birth (guardian.c says why it may). Either way the kernel has the last
word: what is checked here is checked for the sake of the error's text.
"""

import os
from dataclasses import dataclass
from errno import (
    EACCES,
    EAGAIN,
    EBUSY,
    EINVAL,
    EMFILE,
    ENFILE,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOTDIR,
    EOPNOTSUPP,
)
from stat import S_ISDIR
from typing import Any, Final

from .. import _native

__all__ = ["Cgroup"]

_CGROUP_SUPER_MAGIC: Final = 0x27E0EB  # statfs(2)
_CGROUP2_SUPER_MAGIC: Final = 0x63677270

_PROCS: Final = "cgroup.procs"

# Those that are not threaded: a cgroup that hands one of them to its children holds no process
# itself (cgroups(7), "no internal processes"). With the others it depends; the kernel knows.
_DOMAIN_CONTROLLERS: Final = frozenset({"memory", "io", "hugetlb", "rdma", "misc", "dmem"})

# What the kernel means by each, for clone3(2) and for a write to cgroup.procs.
_MEANING: Final = {
    EACCES: "its cgroup.procs must be writable for us, and that of the nearest ancestor that it "
    "has in common with our own cgroup",
    EAGAIN: "its pids.max, or an ancestor's, is reached; or our RLIMIT_NPROC",
    EBUSY: "it hands controllers to its children (cgroup.subtree_control), so programs go into a "
    "child cgroup of it",
    ENODEV: "it was removed",
    ENOENT: "it was removed, or is not in our cgroup namespace",
    EOPNOTSUPP: "it is threaded, or below a threaded one: its cgroup.type is not a domain",
}

# What a clone into a cgroup fails with for reasons that any clone has.
_ANY_CLONE: Final = frozenset({EMFILE, ENFILE, ENOMEM})


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Where a program is put.

    Attributes:
        fd: the cgroup's directory, open until the program has started.
        path: it as the caller wrote it, for errors; None where a descriptor was given.
    """

    fd: int
    path: str | bytes | os.PathLike[Any] | None

    def check(self) -> None:
        """See whether a program can be put there.

        Raises:
            NotADirectoryError: a descriptor of something else.
            FileNotFoundError: it was removed.
            PermissionError: its cgroup.procs may not be written.
            OSError: EROFS: on a read-only mount. EINVAL: no cgroup, or one of version 1.
                EOPNOTSUPP: it is threaded, or below a threaded one. EBUSY: it hands controllers
                to its children.
        """
        if not S_ISDIR(os.fstat(self.fd).st_mode):
            raise self._error(ENOTDIR)
        kind = _native.filesystem(self.fd)
        if kind == _CGROUP_SUPER_MAGIC:
            raise self._error(EINVAL, "it is a cgroup v1 directory, and this needs cgroup v2")
        if kind != _CGROUP2_SUPER_MAGIC:
            raise self._error(EINVAL, "it is no cgroup: not on a cgroup2 file system")
        if not os.access(_PROCS, os.W_OK, dir_fd=self.fd, effective_ids=True):
            try:  # that tells why
                os.close(os.open(_PROCS, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd))
            except OSError as exc:
                raise self.error(exc.errno or 0) from None
        if (role := self._read("cgroup.type")) is None:
            return  # the root, which has no such rules; or the kernel shall tell
        # The kernel would let a whole program into a "threaded" one, too: and account its memory to
        # an ancestor, and not list it in cgroup.procs there.
        if role not in ("domain", "domain threaded"):
            raise self.error(EOPNOTSUPP)
        if _DOMAIN_CONTROLLERS & {*(self._read("cgroup.subtree_control") or "").split()}:
            raise self.error(EBUSY)

    def open_kill(self) -> int | None:
        """A descriptor that all of it can be killed by (cgroup.kill, Linux 5.14); None before that.

        Raises:
            OSError: EBUSY: it holds processes already, which are not ours to kill; or it is the
                root, which holds all that are in no other.
        """
        events = self._read("cgroup.events")  # the root has none
        if events is None or "populated 1" in events:
            raise self._error(EBUSY, "with contain it must be the program's own, and it is in use")
        try:
            return os.open("cgroup.kill", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return None

    def clone_error(self, errno: int) -> OSError:
        """The error of a clone into it that the kernel refused with `errno`."""
        if errno in _ANY_CLONE:
            return OSError(errno, os.strerror(errno))
        return self.error(errno)

    def error(self, errno: int) -> OSError:
        """The error for what the kernel says of it, or would say."""
        return self._error(errno, _MEANING.get(errno))

    def _error(self, errno: int, meaning: str | None = None) -> OSError:
        option = "the option cgroup" if meaning is None else f"the option cgroup: {meaning}"
        reason = f"{os.strerror(errno)} (for {option})"
        return OSError(errno, reason) if self.path is None else OSError(errno, reason, self.path)

    def _read(self, name: str) -> str | None:
        """A file of it; None if it is not there (any more), or not for us to read."""
        try:
            with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)) as file:
                return file.read().strip()
        except OSError as exc:
            if exc.errno in (ENOENT, ENODEV, EACCES):
                return None
            raise self.error(exc.errno or 0) from None
