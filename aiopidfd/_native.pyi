# The native spawner (native/module.c, python_*.c). Internal: only the modules beside it use it.

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Self, TypeAlias, TypeVar, final

_T = TypeVar("_T")

CALL_CLONE3: Final[int]
CALL_CLONE: Final[int]

STARTING: Final[int]
RUNNING: Final[int]
ORPHANED: Final[int]
DYING: Final[int]
EXITED: Final[int]
UNKNOWN: Final[int]
FAILED: Final[int]
FOREIGN: Final[int]

FAILED_CLONE: Final[int]
FAILED_EXEC: Final[int]
FAILED_GUARDIAN: Final[int]
FAILED_CGROUP: Final[int]
FAILED_TABLE: Final[int]
FAILED_LIFELINES: Final[int]
FAILED_DESCRIPTORS: Final[int]
FAILED_CALL: Final[int]

SYS_kill: Final[int]
SYS_ppoll: Final[int]
SYS_signalfd4: Final[int]
SYS_waitid: Final[int]

SYS_dup3: Final[int]
SYS_fcntl: Final[int]
SYS_close_range: Final[int]
SYS_chdir: Final[int]
SYS_umask: Final[int]
SYS_rt_sigaction: Final[int]
SYS_setsid: Final[int]
SYS_ioctl: Final[int]
SYS_setpgid: Final[int]
SYS_setgroups: Final[int]
SYS_setregid: Final[int]
SYS_setreuid: Final[int]
SYS_prlimit64: Final[int]
SYS_setpriority: Final[int]
SYS_sched_setaffinity: Final[int]
SYS_sched_setscheduler: Final[int]
SYS_ioprio_set: Final[int]
SYS_prctl: Final[int]
SYS_openat: Final[int]
SYS_write: Final[int]
SYS_close: Final[int]
OPENED: Final[int]
TIOCSPTLCK: Final[int]
TIOCGPTPEER: Final[int]

_Step: TypeAlias = tuple[int | bytes, ...]
_Usage: TypeAlias = tuple[
    float, float, int, int, int, int, int, int, int, int, int, int, int, int, int, int
]

@final
class Child:
    @property
    def state(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def pidfd(self) -> int: ...
    @property
    def guardian_pid(self) -> int: ...
    @property
    def id(self) -> int: ...
    def poll(self) -> int: ...
    def close(self) -> None: ...
    def kill(self) -> None: ...
    def give_up_status(self) -> None: ...
    def send_signal(self, signal: int, /) -> None: ...
    def dup_pidfd(self) -> int: ...
    def block(self, state: int, nanoseconds: int, /) -> int: ...
    def finish(self, nanoseconds: int, /) -> None: ...
    def stay(self) -> int: ...
    def wake(self) -> None: ...
    def failure(self) -> tuple[int, int]: ...
    def result(self) -> tuple[int, int, _Usage | None]: ...

@final
class Hub:
    @property
    def fd(self) -> int: ...
    def adopt(self, child: Child, /) -> None: ...
    def collect(self) -> tuple[list[int], int]: ...
    def look_again(self) -> int: ...

@final
class Lines(AsyncIterator[_T]):
    def __new__(cls, ahead: Any, wait: Callable[[], Coroutine[Any, Any, _T]], /) -> Self: ...
    def __anext__(self) -> Awaitable[_T]: ...

def hub() -> Hub: ...
def prepare() -> None: ...
def spawn(
    hub: Hub | None,
    call: int,
    private_memory: bool,
    private_table: bool,
    highest: int,
    contain: bool,
    cgroup: int,
    kill_fd: int,
    steps: tuple[_Step, ...],
    paths: tuple[bytes, ...],
    argv: tuple[bytes, ...],
    env: Mapping[Any, Any] | None,
    fds: list[int],
    borrowed: list[int],
    /,
) -> Child: ...
def fork(hub: Hub | None, call: int, /) -> Child | None: ...
def exit_status(pidfd: int, /) -> tuple[int, int]: ...
def is_readable(fd: int, /) -> bool: ...
def is_hung_up(fd: int, /) -> bool: ...
def wait_readable(fd: int, nanoseconds: int, /) -> bool: ...
def filesystem(fd: int, /) -> int: ...
def pidfd_getfd(pidfd: int, number: int, /) -> int: ...
def signal_tree(pid: int, pidfd: int, root_too: bool, signal: int, /) -> tuple[int, int, int]: ...
def kill_next(pid: int, pidfd: int, /) -> tuple[int, int, int]: ...
def list_tree(pid: int, pidfd: int, /) -> list[tuple[int, int]]: ...
def sweep() -> int: ...
def records() -> int: ...
def has_calls() -> bool: ...
def probe() -> dict[str, int]: ...
