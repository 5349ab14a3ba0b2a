"""How long a program takes when many are started at once and then all are waited for."""

import asyncio
import sys
from collections.abc import Callable
from time import perf_counter_ns

from .in_c import CORE_IN_C, GUARDIAN_IN_C, POSIX_SPAWN_IN_C, in_c
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

# Up to 3.11 asyncio waits in a thread for each program.
OF_ASYNCIO = 0.55 if sys.version_info < (3, 12) else 0.72

WANTED = (
    Wanted(OURS, ASYNCIO, OF_ASYNCIO),
    Wanted(OURS, POSIX_SPAWN_IN_C, 1.15),
    Wanted(OURS_ON_UVLOOP, ASYNCIO, OF_ASYNCIO),
    Wanted(OURS_ON_UVLOOP, POSIX_SPAWN_IN_C, 1.15),
    Wanted(OURS, GUARDIAN_IN_C),
    Wanted(OURS, CORE_IN_C),
)


async def on_loop_at_once(subject: AsyncSubject, at_once: int) -> float:
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


def measure(*, quick: bool) -> list[Table]:
    rounds, at_once = (5, 200) if quick else (25, 200)

    def on_loop(subject: AsyncSubject) -> Callable[[], list[float]]:
        return lambda: [subject.run(on_loop_at_once(subject, at_once))]

    def blocking(spawn: Spawn) -> Callable[[], list[float]]:
        return lambda: [_blocking(spawn, at_once)]

    with async_subjects() as subjects, in_c("at-once", at_once) as c_turns:
        turns = {subject.name: on_loop(subject) for subject in subjects}
        turns |= {name: blocking(spawn) for name, spawn in blocking_subjects().items()}
        turns |= c_turns
        samples = interleave(turns, rounds)
    title = f"{at_once} x /bin/true at once, time for each; {rounds} rounds"
    return [Table(title, "us each", samples, WANTED)]
