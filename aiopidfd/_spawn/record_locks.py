"""Record locks on a file, which are lost when any descriptor of it is closed."""

import fcntl
import os
import struct

__all__ = ["has_record_locks"]


def has_record_locks(fd: int) -> bool:
    """Whether a process holds a record lock on the descriptor's file, as by fcntl.lockf().

    If it is this process, then any close of any descriptor of that file drops the lock (fcntl(2)).
    The question is asked for an open file description, with which our own locks are in conflict,
    too.
    """
    anything = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, anything)
    except OSError:  # a directory that is open as a path, or a file system without such locks
        return False
    kind: int = struct.unpack_from("h", found)[0]
    return kind != fcntl.F_UNLCK
