"""Filters such as containers have: some system calls answer an errno. For the rest of a process."""

import ctypes
import errno
import platform
import struct
from typing import Final

# x86-64 and aarch64 agree on these.
CLONE3: Final = 435
PIDFD_OPEN: Final = 434
PIDFD_SEND_SIGNAL: Final = 424
CLOSE_RANGE: Final = 436

_AARCH64: Final = platform.machine() == "aarch64"
SECCOMP: Final = 277 if _AARCH64 else 317
PPOLL: Final = 73 if _AARCH64 else 271
SIGNALFD4: Final = 74 if _AARCH64 else 289
WAITID: Final = 95 if _AARCH64 else 247
EVENTFD2: Final = 19 if _AARCH64 else 290
EPOLL_CREATE1: Final = 20 if _AARCH64 else 291
EPOLL_CTL: Final = 21 if _AARCH64 else 233
PIPE2: Final = 59 if _AARCH64 else 293

PIDFD_GET_INFO: Final = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)

_LD, _JEQ, _RET = 0x20, 0x15, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARG1 = 0, 24  # offsets in struct seccomp_data; the low half of an argument comes first


def _ioctl_number() -> int:
    return {"x86_64": 16, "aarch64": 29}[platform.machine()]


def clone_number() -> int:
    return {"x86_64": 56, "aarch64": 220}[platform.machine()]


def install(*rules: tuple[int, int]) -> None:
    """Let each call (its number, errno) answer that errno from now on, in all children too."""
    program = [(_LD, 0, 0, _NR)]
    for number, answer in rules:
        program += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ERRNO | answer)]
    _load([*program, (_RET, 0, 0, _ALLOW)])


def kill_at(number: int) -> None:
    """The call kills who makes it, as systemd's SystemCallFilter does with what is not in it."""
    _load([(_LD, 0, 0, _NR), (_JEQ, 0, 1, number), (_RET, 0, 0, _KILL), (_RET, 0, 0, _ALLOW)])


def like_docker() -> None:
    """What Docker's default profile does: clone3 answers ENOSYS, clone(2) is let through."""
    install((CLONE3, errno.ENOSYS))


def no_exit_info() -> None:
    """A kernel before 5.x..6.12: it has no PIDFD_GET_INFO."""
    _load(
        [
            (_LD, 0, 0, _NR),
            (_JEQ, 0, 3, _ioctl_number()),
            (_LD, 0, 0, _ARG1),
            (_JEQ, 0, 1, PIDFD_GET_INFO),
            (_RET, 0, 0, _ERRNO | errno.ENOTTY),
            (_RET, 0, 0, _ALLOW),
        ]
    )


def _load(program: list[tuple[int, int, int, int]]) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    fprog = Program(len(program), ctypes.addressof(buffer))
    # SECCOMP_SET_MODE_FILTER with TSYNC: every thread of the process.
    assert libc.syscall(SECCOMP, 1, 1, ctypes.byref(fprog)) == 0, ctypes.get_errno()
