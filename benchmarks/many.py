"""How long a program takes when many are started at once and then all are waited for."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Final

from .rounds import interleave
from .subjects import (
    ASYNCIO,
    OURS,
    OURS_ON_UVLOOP,
    TRUE,
    AsyncSubject,
    Spawn,
    async_subjects,
    blocking_subjects,
)
from .table import Table, Wanted

IN_C: Final = "posix_spawn in C"

# Up to 3.11 asyncio waits in a thread for each program.
OF_ASYNCIO = 0.55 if sys.version_info < (3, 12) else 0.72

WANTED = (
    Wanted(OURS, ASYNCIO, OF_ASYNCIO),
    Wanted(OURS, IN_C, 1.15),
    Wanted(OURS_ON_UVLOOP, ASYNCIO, OF_ASYNCIO),
    Wanted(OURS_ON_UVLOOP, IN_C, 1.15),
)


async def _on_loop(subject: AsyncSubject, at_once: int) -> float:
    """Microseconds per program."""

    async def one() -> None:
        process = await subject.create(TRUE)
        assert await process.wait() == 0

    start = perf_counter_ns()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return (perf_counter_ns() - start) / 1e3 / at_once


def _blocking(spawn: Spawn, at_once: int) -> float:
    """Microseconds per program."""
    start = perf_counter_ns()
    for wait in [spawn([TRUE]) for _ in range(at_once)]:
        wait()
    return (perf_counter_ns() - start) / 1e3 / at_once


@contextmanager
def _in_c(at_once: int) -> Iterator[dict[str, Callable[[], list[float]]]]:
    """The same in C, with nothing around it. Without a compiler there is none."""
    with TemporaryDirectory() as directory:
        program = f"{directory}/posix_spawn"
        source = str(Path(__file__).with_name("posix_spawn.c"))
        compiler = os.environ.get("CC", "cc").split()
        try:
            subprocess.run([*compiler, "-O2", "-o", program, source], check=True)
        except (OSError, subprocess.CalledProcessError):
            yield {}
            return
        command = [program, str(at_once)]
        yield {IN_C: lambda: [float(subprocess.check_output(command))]}


def measure(*, quick: bool) -> list[Table]:
    rounds, at_once = (5, 200) if quick else (25, 200)

    def on_loop(subject: AsyncSubject) -> Callable[[], list[float]]:
        return lambda: [subject.run(_on_loop(subject, at_once))]

    def blocking(spawn: Spawn) -> Callable[[], list[float]]:
        return lambda: [_blocking(spawn, at_once)]

    with async_subjects() as subjects, _in_c(at_once) as in_c:
        turns = {subject.name: on_loop(subject) for subject in subjects}
        turns |= {name: blocking(spawn) for name, spawn in blocking_subjects().items()}
        turns |= in_c
        samples = interleave(turns, rounds)
    title = f"{at_once} x /bin/true at once, time for each; {rounds} rounds"
    return [Table(title, "us each", samples, WANTED)]
