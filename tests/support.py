"""What several test files share."""

import asyncio
import contextlib
import fcntl
import os
import resource
import struct
import sys
import termios
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

import aiopidfd
from aiopidfd._spawn.open_terminal import open_terminal
from aiopidfd._streams.terminal import HELD_AT_MOST

from .census import open_fds

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}

KERNEL = tuple(int(number) for number in os.uname().release.split(".")[:2])

# For helper interpreters, wherever the package under test was imported from.
SOURCES = str(Path(aiopidfd.__file__).parent.parent)

# Leaves a `cat` behind that holds stdout until the other end of what is stdin here is closed, and
# copies to stdout what is written there. The sh itself goes on (and ends) at once.
HOLD_STDOUT = "exec 3<&0; cat <&3 & "


@contextlib.contextmanager
def hang_guard(seconds: float = 30) -> Iterator[None]:
    """Cancel everything on the running loop if it is not done by then: a test never hangs."""
    loop = asyncio.get_running_loop()

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel("the hang guard")

    timer = loop.call_later(seconds, cancel)
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def room_for(fds: int) -> Iterator[None]:
    """Only so many more descriptors can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = set(open_fds())
    # The listing's own descriptor is in it: the lowest that is free.
    limit = next(n for n in range(1 << 20) if n - len([fd for fd in used if fd < n]) > fds)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def until(condition: Callable[[], Any], turn: float = 0.002) -> None:
    """Turn the loop until it is so; the hang guard ends a wait in vain."""
    while not condition():
        await asyncio.sleep(turn)


async def turns(count: int = 20) -> None:
    """Some turns of the loop, each with a look at its descriptors."""
    for _ in range(count):
        await asyncio.sleep(0)


def sh(script: str, *args: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script, "sh", *args)


def python(script: str, *args: str) -> tuple[str, ...]:
    """The quickest start of an interpreter."""
    return (sys.executable, "-I", "-S", "-c", script, *args)


@contextlib.contextmanager
def warnings_given() -> Iterator[list[tuple[type[Warning], str]]]:
    """Collect (category, text) of the warnings, not their sources, which would live on in it."""
    seen: list[tuple[type[Warning], str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_, **__: seen.append(
            (category, str(message))
        )
        yield seen


def held_by_pipe(fd: int) -> int:
    """How many bytes wait in a pipe."""
    size: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return size


def capacity(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def exists(pid: int) -> bool:
    """Whether there is such a process, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def gate() -> Iterator[tuple[int, Callable[[], None], int]]:
    """A pipe to hold something with: (read end, a function that opens the gate, write end)."""
    read, write = os.pipe()
    ends = {read, write}

    def release() -> None:
        ends.discard(write)
        os.close(write)

    def release_once() -> None:
        if write in ends:
            release()

    try:
        yield read, release_once, write
    finally:
        for fd in ends:
            with contextlib.suppress(OSError):
                os.close(fd)


def proc_status(text: bytes | str, *fields: str) -> dict[str, str]:
    """Chosen lines of a /proc/PID/status."""
    if isinstance(text, bytes):
        text = text.decode()
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return {field: lines[field].strip() for field in fields}


def policy(stat: str) -> int:
    """The scheduling policy in a proc_pid_stat(5). musl's sched_getscheduler(2) always fails."""
    return int(stat.rpartition(")")[2].split()[38])


def full_terminal() -> tuple[int, int, int]:
    """(master, slave, how many bytes the kernel holds)."""
    master, slave = open_terminal()
    os.set_blocking(slave, False)
    written = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            written += os.write(slave, bytes(1000))
    assert 4096 < written < HELD_AT_MOST
    return master, slave, written
