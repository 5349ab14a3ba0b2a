"""What the kernel tells about the process of a pidfd: ioctl(PIDFD_GET_INFO), else /proc."""

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Ids", "ProcessInfo", "process_info"]

# struct pidfd_info (include/uapi/linux/pidfd.h) up to PIDFD_INFO_SIZE_VER1, Linux 6.16; older
# kernels fill in what they know of it.
_LAYOUT: Final = struct.Struct("=QQ3I8IiII")
_GET_INFO: Final = 3 << 30 | _LAYOUT.size << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, ...)
_PID, _CREDS, _CGROUP, _EXIT, _COREDUMP = (1 << bit for bit in range(5))
_DUMPED: Final = 0x80  # of a wait status: WCOREDUMP


class Ids(NamedTuple):
    """Four ids of a process, in the order of /proc/PID/status."""

    real: int
    effective: int
    saved: int
    filesystem: int


@dataclass(frozen=True)
class ProcessInfo:
    """What the kernel tells about a process. None is what it does not tell (any more).

    Attributes:
        pid: its id in our pid namespace; of a thread's handle, the thread's. None once reaped.
        tgid: the id of its thread group, the process's own.
        ppid: its parent's.
        uid: its user ids.
        gid: its group ids.
        cgroup_id: the inode number of its cgroup's directory (Linux 6.13).
        returncode: its exit status, or minus the number of the signal that ended it, once it was
            reaped (Linux 6.15).
        core_dumped: whether it left a core dump, likewise.
    """

    pid: int | None = None
    tgid: int | None = None
    ppid: int | None = None
    uid: Ids | None = None
    gid: Ids | None = None
    cgroup_id: int | None = None
    returncode: int | None = None
    core_dumped: bool | None = None


def process_info(pidfd: int, pid_of: Callable[[int], int]) -> ProcessInfo:
    """Ask the kernel; `pid_of` reads a pidfd's pid, or raises what is to be raised."""
    buffer = bytearray(_LAYOUT.size)
    _LAYOUT.pack_into(buffer, 0, _CREDS | _CGROUP | _EXIT | _COREDUMP, *[0] * 15)
    try:
        try:
            fcntl.ioctl(pidfd, _GET_INFO, buffer)
        except ProcessLookupError:
            # The kernel looks for the exit first and for the process second: reaped in between, it
            # has found neither.
            fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError as exc:
        if exc.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return _from_proc(pidfd, pid_of)
    mask, cgroup, pid, tgid, ppid, *rest = _LAYOUT.unpack(buffer)
    *ids, wait_status, _, _ = rest
    lives, has_ids, exited = mask & _PID, mask & _CREDS, mask & _EXIT
    return ProcessInfo(
        pid=pid if lives else None,
        tgid=tgid if lives else None,
        ppid=ppid if lives else None,
        uid=Ids(*ids[::2]) if has_ids else None,
        gid=Ids(*ids[1::2]) if has_ids else None,
        cgroup_id=cgroup if mask & _CGROUP else None,
        returncode=os.waitstatus_to_exitcode(wait_status) if exited else None,
        core_dumped=bool(wait_status & _DUMPED) if exited else None,
    )


def _from_proc(pidfd: int, pid_of: Callable[[int], int]) -> ProcessInfo:
    """The same from /proc/PID/status, before Linux 6.13."""
    pid = pid_of(pidfd)
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file)
    finally:
        pid_of(pidfd)  # it has the pid still: else what we read may be another's
    return ProcessInfo(
        pid=pid,
        tgid=int(fields["Tgid"]),
        ppid=int(fields["PPid"]),
        uid=Ids(*map(int, fields["Uid"].split())),
        gid=Ids(*map(int, fields["Gid"].split())),
    )
