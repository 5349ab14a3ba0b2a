"""A program in uninterruptible sleep: it waits for a FUSE server (fuse(4)) that never answers."""

import contextlib
import ctypes
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_LOOKUP: Final = 1
_INIT: Final = 26
_MNT_DETACH: Final = 2


class Stuck:
    """A file on a file system whose server sleeps: who opens it sleeps, SIGKILL or not."""

    def __init__(self, path: Path, device: int) -> None:
        self.path = str(path)
        self._device = device

    def wait_until_asked(self) -> None:
        """Until somebody tries to open it: then the kernel waits for our answer, for good."""
        while self._request()[0] != _LOOKUP:
            pass

    def begin(self) -> None:
        """Answer the kernel's first question, and no other one."""
        opcode, unique = self._request()
        assert opcode == _INIT
        answer = struct.pack("=IIIIHHI", 7, 19, 0, 0, 0, 0, 4096)
        os.write(self._device, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)

    def _request(self) -> tuple[int, int]:
        assert select.select([self._device], [], [], 30)[0], "nobody opens it"
        _, opcode, unique = struct.unpack_from("=IIQ", os.read(self._device, 1 << 17))
        return opcode, unique


@contextlib.contextmanager
def stuck_file(directory: Path) -> Iterator[Stuck]:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        pytest.skip(f"no FUSE to get a program into uninterruptible sleep: {exc}")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"stuck", bytes(directory), b"fuse", 0, options) != 0:
        os.close(device)
        pytest.skip(f"a FUSE mount needs root: {os.strerror(ctypes.get_errno())}")
    try:
        stuck = Stuck(directory / "file", device)
        stuck.begin()
        yield stuck
    finally:
        os.close(device)  # all requests fail: who sleeps wakes, and dies
        libc.umount2(bytes(directory), _MNT_DETACH)
