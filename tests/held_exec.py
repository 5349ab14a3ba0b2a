"""A program whose exec hangs in the kernel until it is let go: fanotify(7), FAN_OPEN_EXEC_PERM."""

import contextlib
import ctypes
import os
import select
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_FAN_CLASS_CONTENT: Final = 0x4
_FAN_CLOEXEC: Final = 0x1
_FAN_MARK_ADD: Final = 0x1
_FAN_OPEN_EXEC_PERM: Final = 0x40000
_FAN_ALLOW: Final = 1


class HeldExec:
    """A copy of /bin/sh that no one can exec without our leave."""

    def __init__(self, path: Path, group: int) -> None:
        self.path = str(path)
        self._group = group
        self._held: list[int] = []

    def wait_until_held(self) -> int:
        """Block until some process tries; returns its pid."""
        assert select.select([self._group], [], [], 30)[0], "nobody tried to exec it"
        event = os.read(self._group, 24)
        *_, fd, pid = struct.unpack("=IBBHQii", event)
        self._held.append(fd)
        return int(pid)

    def let_go(self) -> None:
        for fd in self._held:
            os.write(self._group, struct.pack("=iI", fd, _FAN_ALLOW))
            os.close(fd)
        self._held.clear()


@contextlib.contextmanager
def held_exec(directory: Path) -> Iterator[HeldExec]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fanotify_mark.argtypes = (
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint64,
        ctypes.c_int,
        ctypes.c_char_p,
    )
    group = libc.fanotify_init(_FAN_CLASS_CONTENT | _FAN_CLOEXEC, os.O_RDONLY | os.O_CLOEXEC)
    if group < 0:
        pytest.skip(f"fanotify permission events need root: {os.strerror(ctypes.get_errno())}")
    # A folder of its own: one that was held before may be dying still, and can't be written to.
    path = Path(tempfile.mkdtemp(dir=directory), "held-sh")
    held = HeldExec(path, group)
    try:
        shutil.copy("/bin/sh", path)
        mark = libc.fanotify_mark(group, _FAN_MARK_ADD, _FAN_OPEN_EXEC_PERM, -100, bytes(path))
        assert mark == 0, os.strerror(ctypes.get_errno())
        yield held
    finally:
        held.let_go()
        os.close(group)
