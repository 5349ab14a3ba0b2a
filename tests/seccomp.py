"""Filters such as containers have: some system calls answer an errno. For the rest of a process."""

import ctypes
import errno
import json
import os
import platform
import re
import struct
import subprocess
from pathlib import Path
from typing import Any, Final

# x86-64 and aarch64 agree on these.
CLONE3: Final = 435
PIDFD_OPEN: Final = 434
PIDFD_SEND_SIGNAL: Final = 424
CLOSE_RANGE: Final = 436

_AARCH64: Final = platform.machine() == "aarch64"
SECCOMP: Final = 277 if _AARCH64 else 317
KILL: Final = 129 if _AARCH64 else 62
PPOLL: Final = 73 if _AARCH64 else 271
SIGNALFD4: Final = 74 if _AARCH64 else 289
WAITID: Final = 95 if _AARCH64 else 247
EVENTFD2: Final = 19 if _AARCH64 else 290
EPOLL_CREATE1: Final = 20 if _AARCH64 else 291
EPOLL_CTL: Final = 21 if _AARCH64 else 233
EPOLL_PWAIT: Final = 22 if _AARCH64 else 281
EPOLL_WAIT: Final = None if _AARCH64 else 232
PIPE2: Final = 59 if _AARCH64 else 293
KCMP: Final = 272 if _AARCH64 else 312
STATX: Final = 291 if _AARCH64 else 332
FSTAT: Final = 80 if _AARCH64 else 5
FSTATFS: Final = 44 if _AARCH64 else 138
LSEEK: Final = 62 if _AARCH64 else 8
CLOCK_GETTIME: Final = 113 if _AARCH64 else 228
SCHED_SETSCHEDULER: Final = 119 if _AARCH64 else 144
OPENAT: Final = 56 if _AARCH64 else 257
READLINKAT: Final = 78 if _AARCH64 else 267

PIDFD_GET_INFO: Final = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)

_LD, _JEQ, _RET = 0x20, 0x15, 0x06
_ALLOW, _ERRNO, _KILL, _USER_NOTIF = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000
_EVERY_THREAD, _NEW_LISTENER = 1, 8  # SECCOMP_FILTER_FLAG_TSYNC and another
_NR, _ARG0, _ARG1 = (
    0,
    16,
    24,
)  # offsets in struct seccomp_data; the low half of an argument comes first


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


def refuse_with(number: int, argument: int, value: int, answer: int) -> None:
    """The call answers an errno where one of its arguments (from 0 on) has that value."""
    where = _ARG0 + 8 * argument
    program = [(_LD, 0, 0, _NR), (_JEQ, 0, 3, number), (_LD, 0, 0, where), (_JEQ, 0, 1, value)]
    _load([*program, (_RET, 0, 0, _ERRNO | answer), (_RET, 0, 0, _ALLOW)])


def kill_at(number: int) -> None:
    """The call kills who makes it, as systemd's SystemCallFilter does with what is not in it."""
    _load([(_LD, 0, 0, _NR), (_JEQ, 0, 1, number), (_RET, 0, 0, _KILL), (_RET, 0, 0, _ALLOW)])


def hold(number: int) -> int:
    """The call never returns in this thread, as long as the returned descriptor is open."""
    held = [(_LD, 0, 0, _NR), (_JEQ, 0, 1, number), (_RET, 0, 0, _USER_NOTIF), (_RET, 0, 0, _ALLOW)]
    return _load(held, _NEW_LISTENER)


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


def _load(program: list[tuple[int, int, int, int]], flags: int = _EVERY_THREAD) -> int:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    fprog = Program(len(program), ctypes.addressof(buffer))
    # SECCOMP_SET_MODE_FILTER
    result: int = libc.syscall(SECCOMP, 1, flags, ctypes.byref(fprog))
    assert result >= 0, ctypes.get_errno()
    return result


# --- Lists of what is allowed, by libseccomp, as systemd and container engines apply them

PROFILE: Final = Path(
    "/usr/share/containers/seccomp.json"
)  # Podman's, which has grown from Docker's
_COMPARE: Final = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_TSYNC: Final = 4


class _Argument(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class Rules:
    """A filter whose answer is `default`, but for what is added."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._default = default
        self._filter = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def number(self, name: str) -> int:
        """The call's number; negative where this machine has no such call."""
        number: int = self._library.seccomp_syscall_resolve_name(name.encode())
        return number

    def add(self, name: str, answer: int, arguments: list[dict[str, Any]]) -> None:
        number = self.number(name)
        if number < 0 or answer == self._default:
            return
        compared = (_Argument * len(arguments))(
            *(
                (each["index"], _COMPARE[each["op"]], each["value"], each.get("valueTwo", 0))
                for each in arguments
            )
        )
        result = self._library.seccomp_rule_add_array(
            self._filter, ctypes.c_uint32(answer), number, len(arguments), compared
        )
        assert result == 0, (name, result)

    def load(self) -> None:
        """From now on, for all threads, for good."""
        assert self._library.seccomp_attr_set(self._filter, _TSYNC, 1) == 0
        assert self._library.seccomp_load(self._filter) == 0


def missing() -> str | None:
    """Why the lists below cannot be had here, or None."""
    try:
        ctypes.CDLL("libseccomp.so.2")
        _system_service()
    except OSError as exc:
        return f"{exc.filename or exc} is not here"
    return None if PROFILE.exists() else f"{PROFILE} is not here"


def _system_service() -> set[str]:
    """The calls in systemd's @system-service, as the systemd that is installed has it."""
    told = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    ).stdout
    sets: dict[str, list[str]] = {}
    for paragraph in told.split("\n\n"):
        name, *members = re.findall(r"^\s*(@?[\w-]+)$", paragraph, re.MULTILINE) or [""]
        sets[name] = members
    todo, found = ["@default", "@system-service"], set()
    while todo:
        name = todo.pop()
        if name.startswith("@"):
            todo += sets[name]
        else:
            found.add(name)
    return found


def like_systemd(answer: int = _KILL) -> None:
    """SystemCallFilter=@system-service; `answer` is SystemCallErrorNumber=, else it kills."""
    rules = Rules(_ERRNO | answer if answer != _KILL else _KILL)
    for name in _system_service():
        rules.add(name, _ALLOW, [])
    rules.load()


def like_a_container() -> None:
    """The default profile of a container that has none of the capabilities that it knows."""
    profile = json.loads(PROFILE.read_text())
    answers = {"SCMP_ACT_ALLOW": _ALLOW, "SCMP_ACT_ERRNO": _ERRNO}
    machine = "arm64" if _AARCH64 else "amd64"
    rules = Rules(_ERRNO | profile["defaultErrnoRet"])
    for entry in profile["syscalls"]:
        wanted = entry.get("includes", {})
        if "caps" in wanted or machine not in wanted.get("arches", [machine]):
            continue
        answer = answers[entry["action"]] | (entry.get("errnoRet") or 0)
        for name in entry["names"]:
            rules.add(name, answer, entry.get("args") or [])
    rules.load()


def like_docker_s_list() -> None:
    """The same, and what Docker's default profile refuses beyond that, or refuses otherwise."""
    number = Rules(_ALLOW).number
    like_docker()
    # Docker wants CAP_SYS_ADMIN or CAP_SYS_PTRACE for these, in any namespace.
    refused = ("unshare", "setns", "mount", "umount2", "kcmp", "pidfd_getfd", "process_madvise")
    install(*((number(name), errno.EPERM) for name in refused))
    like_a_container()


def kcmp_is_refused() -> bool:
    """Whether we may not compare what two processes have in common (kcmp(2))."""
    pid = os.getpid()
    return bool(ctypes.CDLL(None).syscall(KCMP, pid, pid, 1, 0, 0))


def answer_of(name: str) -> int | str:
    """What a call with no arguments gives to a process of ours: 0, an errno, or "killed"."""
    number = Rules(_ALLOW).number(name)
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os._exit(0 if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0 else ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else "killed"
