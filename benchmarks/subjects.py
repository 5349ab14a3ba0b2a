"""What is compared: four ways to run a program from a coroutine, and three that block."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiopidfd

T = TypeVar("T")

TRUE: Final = "/bin/true"

OURS: Final = "aiopidfd"
OURS_ON_UVLOOP: Final = "aiopidfd on uvloop"
OURS_BLOCKING: Final = "aiopidfd.spawn"
ASYNCIO: Final = "asyncio"
UVLOOP: Final = "uvloop"
SUBPROCESS: Final = "subprocess"
POSIX_SPAWN: Final = "os.posix_spawn"

Create = Callable[..., Awaitable[asyncio.subprocess.Process]]


@dataclass(frozen=True)
class AsyncSubject:
    """A way to run programs on a loop. The loop lasts as long as the measurement."""

    name: str
    create: Create  # create_subprocess_exec
    runner: asyncio.Runner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)


@contextmanager
def async_subjects() -> Iterator[list[AsyncSubject]]:
    """The four of them, each with a loop of its own. Without uvloop, the two that need none."""
    loops = {"asyncio": asyncio.SelectorEventLoop, **_uvloop()}
    ways: list[tuple[str, str, Create]] = [
        (OURS, "asyncio", aiopidfd.create_subprocess_exec),
        (OURS_ON_UVLOOP, "uvloop", aiopidfd.create_subprocess_exec),
        (ASYNCIO, "asyncio", asyncio.create_subprocess_exec),
        (UVLOOP, "uvloop", asyncio.create_subprocess_exec),
    ]
    with ExitStack() as stack:
        yield [
            AsyncSubject(
                name, create, stack.enter_context(asyncio.Runner(loop_factory=loops[loop]))
            )
            for name, loop, create in ways
            if loop in loops
        ]


def _uvloop() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    try:
        import uvloop
    except ImportError:
        return {}
    return {"uvloop": uvloop.new_event_loop}


def blocking_subjects() -> dict[str, Callable[[], Callable[[], object]]]:
    """Each starts /bin/true and returns what waits for it.

    All but os.posix_spawn close every other descriptor in the child; that one has no way to ask for
    it before Python 3.13, so it does one system call less.
    """

    def posix_spawn() -> Callable[[], object]:
        pid = os.posix_spawn(TRUE, [TRUE], os.environ)
        return lambda: os.waitpid(pid, 0)

    return {
        OURS_BLOCKING: lambda: aiopidfd.spawn([TRUE]).wait,
        SUBPROCESS: lambda: subprocess.Popen([TRUE]).wait,
        POSIX_SPAWN: posix_spawn,
    }
