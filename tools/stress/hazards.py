"""What is done to a host while it starts programs: each is a thread, until the phase is over."""

import contextlib
import ctypes
import fcntl
import functools
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Final

import aiopidfd
from aiopidfd import _native

from .flows import Flow, on_loop
from .programs import ENDLESS, endless, sh
from .world import LIMIT_ERRORS, World, WrongError, children, held_guardian

WALL: Final = 0x40000000
OTHER_UID: Final = 54321
COPY_SECONDS: Final = 30

_libc = ctypes.CDLL(None, use_errno=True)

Hazard = Callable[[World, str, int], None]


def kill_guardians(world: World, name: str, null: int) -> None:
    """Guardians are killed, twice perhaps, and stopped for a while."""
    luck = world.luck(name)
    while not world.hazards_over.wait(luck.random() ** 2 * 0.1):
        with world.action(name, "kill guardians"):
            guardians = [child.pid for child in children() if child.is_guardian]
            for pid in luck.sample(guardians, min(len(guardians), luck.choice([1, 1, 1, 5]))):
                with held_guardian(pid) as pidfd:
                    if pidfd is not None:
                        _strike(world, pidfd, pid, luck.choice("kkksssb"))


def _strike(world: World, pidfd: int, pid: int, how: str) -> None:
    if how == "k":
        world.send(pidfd, pid, signal.SIGKILL, signal.SIGKILL)
        return
    world.send(pidfd, pid, signal.SIGSTOP)
    try:
        world.hazards_over.wait(0.2 * world.luck(str(pid)).random())
        if how == "b":
            world.send(pidfd, pid, signal.SIGKILL)
    finally:
        world.send(pidfd, pid, signal.SIGCONT)


def fork_copies(world: World, name: str, null: int) -> None:
    """Copies of this process are made: by os.fork, which start programs; and raw ones."""
    luck = world.luck(name)
    kinds = (_copy_spawns, _copy_spawns, _copy_runs_a_loop, _copy_is_limited)
    while not world.hazards_over.wait(luck.random() ** 2 * 0.3):
        if luck.random() < 0.4:
            with world.action(name, "raw copy"):
                _reap(_raw_copy(luck.randrange(200_000)))
            continue
        kind = luck.choice(kinds)
        with world.action(name, kind.__name__):
            mine = aiopidfd.spawn(ENDLESS, rlimits=_unlimited(), die_with_parent=True)
            try:
                _fork_and_hear(world, functools.partial(kind, world, name, mine))
            finally:
                with contextlib.suppress(ProcessLookupError):
                    mine.kill()
                world.check("a forker's", mine.wait(), mine.guardian_pid, -signal.SIGKILL)


def _unlimited() -> dict[str | int, int | tuple[int, int]]:
    return {"NOFILE": resource.getrlimit(resource.RLIMIT_NOFILE)[1]}


def _raw_copy(microseconds: int) -> int:
    """A copy past all at-fork handlers, with no Python in it: it sleeps, and ends. Its pid."""
    stack = ctypes.create_string_buffer(1 << 16)
    top = (ctypes.addressof(stack) + len(stack)) & ~15
    argument = ctypes.c_long(microseconds)
    pid = _libc.clone(_libc.usleep, ctypes.c_void_p(top), signal.SIGCHLD, argument)
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(pid)


def _fork_and_hear(world: World, body: Callable[[], None]) -> None:
    read, write = os.pipe()
    with open(read, "rb") as file:
        try:
            with world.limits:  # libuv's at-fork handler aborts where it gets no pipe
                pid = os.fork()
            if pid == 0:
                said = b"interrupted"
                try:
                    signal.alarm(COPY_SECONDS)
                    records = _native.records()  # those of handles that nobody drops in here
                    body()
                    _copy_has_nothing_left(records)
                    said = b"well"
                except BaseException as exc:
                    said = f"{type(exc).__name__}: {exc}".encode()
                finally:
                    os.write(write, said[:4000])
                    os._exit(0)
        finally:
            os.close(write)
        said = file.read()
    _reap(pid)
    if said != b"well":
        if any(f"[Errno {number}]".encode() in said for number in LIMIT_ERRORS) and world.limited:
            return
        raise WrongError(f"a copy says {said.decode()!r} (nothing: it has crashed, or hung)")


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # somebody else was faster
        os.waitpid(pid, 0)


def _copy_spawns(world: World, name: str, mine: aiopidfd.Child) -> None:
    known = mine.returncode is not None  # before the fork: somebody had killed its guardian
    try:
        mine.wait(5)
    except ChildProcessError:
        pass
    else:
        if not known:
            raise WrongError("a copy can wait for a program of its original")
    child = aiopidfd.spawn(sh("exit 71"), rlimits=_unlimited())
    world.check("a copy's program", child.wait(), 0, 71)


def _copy_runs_a_loop(world: World, name: str, mine: aiopidfd.Child) -> None:
    luck = world.luck(f"{name}{os.getpid()}")
    kind = luck.choice(["asyncio", "uvloop"])
    world.failures.clear()

    async def main() -> None:
        await Flow(world, "copy", on_trio=False, null=2).ends()

    on_loop(world, kind, main)
    if world.failures:
        raise WrongError(world.failures[0])


def _copy_is_limited(world: World, name: str, mine: aiopidfd.Child) -> None:
    """As another user, who may have so many processes and no more."""
    luck = world.luck(f"{name}{os.getpid()}")
    os.setresuid(OTHER_UID, OTHER_UID, OTHER_UID)
    most = luck.randrange(2, 8)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    started: list[aiopidfd.Child] = []
    for _ in range(6):
        try:
            started.append(aiopidfd.spawn(ENDLESS, rlimits={"NOFILE": 1024}))
        except BlockingIOError:
            continue
    for child in started:
        child.kill()
        world.check("a limited user's", child.wait(), 0, -signal.SIGKILL)


def _copy_has_nothing_left(records: int) -> None:
    deadline = time.monotonic() + 10
    while _native.sweep() or _native.records() > records or children():
        if time.monotonic() > deadline:
            left = (_native.sweep(), _native.records() - records, children())
            raise WrongError(f"left in a copy: {left}")
        time.sleep(0.01)


def churn_descriptors(world: World, name: str, null: int) -> None:
    """Numbers are taken, low and high, and given back."""
    luck = world.luck(name)
    held: list[int] = []
    try:
        while not world.hazards_over.wait(0.001):
            with world.action(name, "descriptors"):
                for _ in range(luck.randrange(100)):
                    low = luck.choice([3, 3, luck.randrange(3, 100), luck.randrange(3, 3000)])
                    held.append(fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, low))
            luck.shuffle(held)
            for _ in range(luck.randrange(len(held) + 1)):
                os.close(held.pop())
    finally:
        for fd in held:
            os.close(fd)


def limit_descriptors(world: World, name: str, null: int) -> None:
    """No more descriptors are to be had, for moments."""
    luck = world.luck(name)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    while not world.hazards_over.wait(luck.random() ** 2 * 0.2):
        with world.action(name, "low limit"), world.limits:
            low = luck.choice([0, 3, luck.randrange(100), luck.randrange(100)])
            resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
            try:
                time.sleep(luck.random() ** 2 * 0.03)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _reaper(options: int) -> Hazard:
    def reap(world: World, name: str, null: int) -> None:
        while not world.hazards_over.is_set():
            try:
                os.waitpid(-1, options)
            except ChildProcessError:
                time.sleep(0.0002)  # else nobody else has the GIL

    return reap


def close_loops(world: World, name: str, null: int) -> None:
    """Loops are closed under programs that run, and under starts."""
    luck = world.luck(name)
    while not world.hazards_over.wait(luck.random() * 0.1):
        kind = luck.choice(["asyncio", "uvloop", "trio"])
        flow = Flow(world, f"{name}/short", on_trio=kind == "trio", null=null)
        flow.luck = luck
        started: list[object] = []

        async def leave(flow: Flow = flow, started: list[object] = started) -> None:
            while luck.random() < 0.7:
                started.append(await flow.start(endless(luck, world, null)))
            await flow.dropped()

        on_loop(world, kind, leave)
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # type: ignore[attr-defined]


HAZARDS: dict[str, Hazard] = {
    "kill guardians": kill_guardians,
    "fork copies": fork_copies,
    "churn descriptors": churn_descriptors,
    "limit descriptors": limit_descriptors,
    "reaper": _reaper(os.WNOHANG),
    "__WALL reaper": _reaper(os.WNOHANG | WALL),
    "close loops": close_loops,
}
