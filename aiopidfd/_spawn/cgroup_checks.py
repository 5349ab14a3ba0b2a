"""The option `cgroup`: whether a directory is a cgroup that a program can be put into, and how.

clone3(2) puts the program there at its birth (CLONE_INTO_CGROUP, Linux 5.7). clone(2) cannot do
this, so with it the child writes itself into `cgroup.procs` before it does anything else
(cgroups(7)). The child does the same where the kernel has killed it at birth (guardian.c says why
that may happen). In both cases the kernel decides: the checks here only make the error's text
better.
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

# The controllers that are not threaded. A cgroup that gives one of them to its children holds no
# process itself (cgroups(7), "no internal processes"). For the others it depends, and the kernel
# decides.
_DOMAIN_CONTROLLERS: Final = frozenset({"memory", "io", "hugetlb", "rdma", "misc", "dmem"})

# What each error of the kernel means, for clone3(2) and for a write to cgroup.procs.
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

# Errors that any clone may fail with, into a cgroup or not.
_ANY_CLONE: Final = frozenset({EMFILE, ENFILE, ENOMEM})


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The cgroup that a program is put into.

    Attributes:
        fd: the cgroup's directory, open until the program has started.
        path: the path as the caller wrote it, for errors; None if a descriptor was given.
    """

    fd: int
    path: str | bytes | os.PathLike[Any] | None

    def check(self) -> None:
        """Check whether a program can be put into it.

        Raises:
            NotADirectoryError: it is a descriptor of something else.
            FileNotFoundError: the cgroup was removed.
            PermissionError: its cgroup.procs may not be written.
            OSError: EROFS: it is on a read-only mount. EINVAL: it is not a cgroup, or one of
                version 1. EOPNOTSUPP: it is threaded, or below a threaded one. EBUSY: it gives
                controllers to its children.
        """
        if not S_ISDIR(os.fstat(self.fd).st_mode):
            raise self._error(ENOTDIR)
        kind = _native.filesystem(self.fd)
        if kind == _CGROUP_SUPER_MAGIC:
            raise self._error(EINVAL, "it is a cgroup v1 directory, and this needs cgroup v2")
        if kind != _CGROUP2_SUPER_MAGIC:
            raise self._error(EINVAL, "it is no cgroup: not on a cgroup2 file system")
        if not os.access(_PROCS, os.W_OK, dir_fd=self.fd, effective_ids=True):
            try:  # this error says why
                os.close(os.open(_PROCS, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd))
            except OSError as exc:
                raise self.error(exc.errno or 0) from None
        if (role := self._read("cgroup.type")) is None:
            return  # the root, which has no such rules; or the kernel will decide
        # The kernel would also let a whole program into a "threaded" cgroup. Then it would account
        # its memory to an ancestor, and not list it in cgroup.procs there.
        if role not in ("domain", "domain threaded"):
            raise self.error(EOPNOTSUPP)
        if _DOMAIN_CONTROLLERS & {*(self._read("cgroup.subtree_control") or "").split()}:
            raise self.error(EBUSY)

    def open_kill(self) -> int | None:
        """A descriptor by which the cgroup can be killed (cgroup.kill); None before Linux 5.14.

        Raises:
            OSError: EBUSY: the cgroup already holds processes, which we must not kill; or it is the
                root, which holds all processes that are in no other cgroup.
        """
        events = self._read("cgroup.events")  # the root has no such file
        if events is None or "populated 1" in events:
            raise self._error(EBUSY, "with contain it must be the program's own, and it is in use")
        try:
            return os.open("cgroup.kill", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return None

    def clone_error(self, errno: int) -> OSError:
        """The error for a clone into it, when the kernel has refused that with `errno`."""
        if errno in _ANY_CLONE:
            return OSError(errno, os.strerror(errno))
        return self.error(errno)

    def error(self, errno: int) -> OSError:
        """The error for what the kernel says of the cgroup, or would say."""
        return self._error(errno, _MEANING.get(errno))

    def _error(self, errno: int, meaning: str | None = None) -> OSError:
        option = "the option cgroup" if meaning is None else f"the option cgroup: {meaning}"
        reason = f"{os.strerror(errno)} (for {option})"
        return OSError(errno, reason) if self.path is None else OSError(errno, reason, self.path)

    def _read(self, name: str) -> str | None:
        """The text of one of its files; None if the file is missing or we may not read it."""
        try:
            with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)) as file:
                return file.read().strip()
        except OSError as exc:
            if exc.errno in (ENOENT, ENODEV, EACCES):
                return None
            raise self.error(exc.errno or 0) from None
