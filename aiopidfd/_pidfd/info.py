"""What the kernel tells about the process of a pidfd: ioctl(PIDFD_GET_INFO), else /proc."""

import enum
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["CoreDump", "Ids", "ProcessInfo", "process_info"]

# struct pidfd_info (include/uapi/linux/pidfd.h) up to PIDFD_INFO_SIZE_VER1, Linux 6.16; older
# kernels fill in what they know of it. Which fields a kernel has filled in, the mask of its answer
# says. Behind them comes a mask of all that it could fill in (PIDFD_INFO_SUPPORTED_MASK, 6.19),
# whose place has moved since, when a field was put before it: so it is not read.
_LAYOUT: Final = struct.Struct("=QQ3I8IiII")
_GET_INFO: Final = 3 << 30 | _LAYOUT.size << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, ...)
_PID, _CREDS, _CGROUP, _EXIT, _COREDUMP, _, _COREDUMP_SIGNAL = (1 << bit for bit in range(7))
_DUMPED: Final = 0x80  # of a wait status: WCOREDUMP


class Ids(NamedTuple):
    """Four ids of a process, in the order of /proc/PID/status."""

    real: int
    effective: int
    saved: int
    filesystem: int


class CoreDump(enum.IntFlag):
    """What is known of a process's core dump (PIDFD_COREDUMP*, Linux 6.16).

    Of one that runs: with whose rights a dump of it would be made.
    """

    DUMPED = 1  # it has crashed, and was dumped or handed to whoever dumps
    SKIPPED = 2  # it has crashed, and was not dumped
    AS_USER = 4
    AS_ROOT = 8  # so the dump is for the eyes of root


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
        coredump: what is known of its dump (Linux 6.16), while it is being dumped too. Some
            kernels tell it of dumps only that go to a pipe or a socket (core(5)).
        coredump_signal: the number of the signal that it crashed by, likewise (Linux 6.19).
    """

    pid: int | None = None
    tgid: int | None = None
    ppid: int | None = None
    uid: Ids | None = None
    gid: Ids | None = None
    cgroup_id: int | None = None
    returncode: int | None = None
    core_dumped: bool | None = None
    coredump: CoreDump | None = None
    coredump_signal: int | None = None


def process_info(pidfd: int, pid_of: Callable[[int], int]) -> ProcessInfo:
    """Ask the kernel; `pid_of` reads a pidfd's pid, or raises what is to be raised."""
    buffer = bytearray(_LAYOUT.size)
    wanted = _CREDS | _CGROUP | _EXIT | _COREDUMP | _COREDUMP_SIGNAL
    _LAYOUT.pack_into(buffer, 0, wanted, *[0] * 15)
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
    *ids, wait_status, coredump, coredump_signal = rest
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
        coredump=CoreDump(coredump) if mask & _COREDUMP and coredump else None,
        coredump_signal=coredump_signal if mask & _COREDUMP_SIGNAL and coredump_signal else None,
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
