"""What the kernel tells about the process of a pidfd: by ioctl(PIDFD_GET_INFO), else by /proc."""

import enum
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["CoreDump", "Ids", "ProcessInfo", "process_info"]

# struct pidfd_info (include/uapi/linux/pidfd.h) up to PIDFD_INFO_SIZE_VER1, Linux 6.16. Older
# kernels fill in the fields that they know. The mask in the answer says which fields were filled
# in. After the fields comes a mask of all that the kernel could fill in
# (PIDFD_INFO_SUPPORTED_MASK, 6.19). It is not read, because its place has moved since: a field was
# inserted before it.
_LAYOUT: Final = struct.Struct("=QQ3I8IiII")
_GET_INFO: Final = 3 << 30 | _LAYOUT.size << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, ...)
_PID, _CREDS, _CGROUP, _EXIT, _COREDUMP, _, _COREDUMP_SIGNAL = (1 << bit for bit in range(7))
_DUMPED: Final = 0x80  # WCOREDUMP in a wait status


class Ids(NamedTuple):
    """Four ids of a process, in the order of /proc/PID/status."""

    real: int
    effective: int
    saved: int
    filesystem: int


class CoreDump(enum.IntFlag):
    """What is known of a process's core dump (PIDFD_COREDUMP*, Linux 6.16).

    For a process that runs: with whose rights a dump of it would be made.
    """

    #: It has crashed, and a dump was written or handed to a dump program.
    DUMPED = 1
    #: It has crashed, and no dump was made.
    SKIPPED = 2
    #: The dump is the user's.
    AS_USER = 4
    #: Only root may read the dump.
    AS_ROOT = 8


@dataclass(frozen=True)
class ProcessInfo:
    """What the kernel tells about a process. None is what it does not tell, or no longer tells.

    Attributes:
        pid: its id in our pid namespace; for a thread's handle, the thread's. None once reaped.
        tgid: the id of its thread group, which is the id of the process.
        ppid: its parent's process id.
        uid: its user ids.
        gid: its group ids.
        cgroup_id: the inode number of its cgroup's directory (Linux 6.13).
        returncode: its exit status, or minus the number of the signal that ended it; known once it
            was reaped (Linux 6.15).
        core_dumped: whether it left a core dump; known once it was reaped (Linux 6.15).
        coredump: what is known of its dump (Linux 6.16), also while the dump is being made. Some
            kernels tell it only of dumps that go to a pipe or a socket (core(5)).
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
    """Ask the kernel. `pid_of` reads the pid of a pidfd, or raises the error that we then raise."""
    buffer = bytearray(_LAYOUT.size)
    wanted = _CREDS | _CGROUP | _EXIT | _COREDUMP | _COREDUMP_SIGNAL
    _LAYOUT.pack_into(buffer, 0, wanted, *[0] * 15)
    try:
        try:
            fcntl.ioctl(pidfd, _GET_INFO, buffer)
        except ProcessLookupError:
            # The kernel looks for the exit first and for the process second. If the process was
            # reaped in between, the kernel has found neither, and a second call finds the exit.
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
    """The same information from /proc/PID/status, before Linux 6.13."""
    pid = pid_of(pidfd)
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file)
    finally:
        pid_of(pidfd)  # the process must still have the pid: else the file may be another's
    return ProcessInfo(
        pid=pid,
        tgid=int(fields["Tgid"]),
        ppid=int(fields["PPid"]),
        uid=Ids(*map(int, fields["Uid"].split())),
        gid=Ids(*map(int, fields["Gid"].split())),
    )
