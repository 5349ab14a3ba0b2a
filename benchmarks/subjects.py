"""What is compared: four ways to run a program from a coroutine, and three that block.

A fifth, a thread for each call, is measured only where it is asked for by name.
"""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import aiopidfd

T = TypeVar("T")

TRUE: Final = "/bin/true"
SLEEP: Final = ["/bin/sleep", "1000"]  # a program that lives

OURS: Final = "aiopidfd"
OURS_ON_UVLOOP: Final = "aiopidfd on uvloop"
OURS_BLOCKING: Final = "aiopidfd.spawn"
ASYNCIO: Final = "asyncio"
UVLOOP: Final = "uvloop"
THREAD: Final = "asyncio.to_thread(subprocess.Popen)"
SUBPROCESS: Final = "subprocess"
OURS_SUBPROCESS: Final = "aiopidfd.subprocess"
POSIX_SPAWN: Final = "os.posix_spawn"

ON_LOOPS: Final = (OURS, OURS_ON_UVLOOP, ASYNCIO, UVLOOP)

Create = Callable[..., Awaitable[asyncio.subprocess.Process]]
Spawn = Callable[[list[str]], Callable[[], object]]


@dataclass(frozen=True)
class AsyncSubject:
    """A way to run programs on a loop. The loop lasts as long as the measurement."""

    name: str
    create: Create  # create_subprocess_exec
    runner: asyncio.Runner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)


@contextmanager
def async_subjects(*names: str) -> Iterator[list[AsyncSubject]]:
    """Those named, or the four, each with a loop of its own. Without uvloop, what needs none."""
    loops = {"asyncio": asyncio.SelectorEventLoop, **_uvloop()}
    ways: list[tuple[str, str, Create]] = [
        (OURS, "asyncio", aiopidfd.create_subprocess_exec),
        (OURS_ON_UVLOOP, "uvloop", aiopidfd.create_subprocess_exec),
        (ASYNCIO, "asyncio", asyncio.create_subprocess_exec),
        (UVLOOP, "uvloop", asyncio.create_subprocess_exec),
        (THREAD, "asyncio", cast("Create", _create_in_thread)),
    ]
    with ExitStack() as stack:
        yield [
            AsyncSubject(
                name, create, stack.enter_context(asyncio.Runner(loop_factory=loops[loop]))
            )
            for name, loop, create in ways
            if loop in loops and name in (names or ON_LOOPS)
        ]


def _uvloop() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    try:
        import uvloop
    except ImportError:
        return {}
    return {"uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class _InThread:
    """Of a `Process` it has only this."""

    popen: subprocess.Popen[bytes]

    async def wait(self) -> int:
        return await asyncio.to_thread(self.popen.wait)


async def _create_in_thread(*command: str) -> _InThread:
    return _InThread(await asyncio.to_thread(subprocess.Popen, command))


def blocking_subjects() -> dict[str, Spawn]:
    """Each starts a program, given with its path, and returns what waits for it.

    All but os.posix_spawn close every other descriptor in the child; that one has no way to ask for
    it before Python 3.13, so it does one system call less.
    """

    def posix_spawn(command: list[str]) -> Callable[[], object]:
        pid = os.posix_spawn(command[0], command, os.environ)
        return lambda: os.waitpid(pid, 0)

    return {
        OURS_BLOCKING: lambda command: aiopidfd.spawn(command).wait,
        SUBPROCESS: lambda command: subprocess.Popen(command).wait,
        POSIX_SPAWN: posix_spawn,
    }
