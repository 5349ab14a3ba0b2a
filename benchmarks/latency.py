"""How long it takes to start /bin/true and wait for its exit, one after another."""

import sys
from collections.abc import Callable
from time import perf_counter_ns

from .in_c import CORE_IN_C, GUARDIAN_IN_C, POSIX_SPAWN_IN_C, in_c
from .rounds import interleave
from .subjects import (
    ASYNCIO,
    OURS,
    OURS_BLOCKING,
    OURS_ON_UVLOOP,
    POSIX_SPAWN,
    TRUE,
    AsyncSubject,
    Spawn,
    async_subjects,
    blocking_subjects,
)
from .table import Beyond, Table, Wanted

# Up to 3.11 asyncio waits in a thread for each program.
OF_ASYNCIO = 0.90 if sys.version_info < (3, 12) else 0.97

WANTED = (
    Wanted(OURS, ASYNCIO, OF_ASYNCIO),
    Wanted(OURS, POSIX_SPAWN, 1.20),
    Wanted(OURS_ON_UVLOOP, ASYNCIO, OF_ASYNCIO),
    Wanted(OURS_ON_UVLOOP, POSIX_SPAWN, 1.20),
    Wanted(OURS_BLOCKING, POSIX_SPAWN, 1.12),
    # Whose the rest is: the kernel's for a guardian, our C's, Python's.
    Wanted(GUARDIAN_IN_C, POSIX_SPAWN_IN_C),
    Wanted(CORE_IN_C, POSIX_SPAWN_IN_C),
    Beyond(OURS, CORE_IN_C),
    Beyond(ASYNCIO, POSIX_SPAWN_IN_C),
    Beyond(OURS_BLOCKING, CORE_IN_C),
    Beyond(POSIX_SPAWN, POSIX_SPAWN_IN_C),
)


async def times_on_loop(subject: AsyncSubject, spawns: int) -> list[float]:
    """Microseconds each."""
    times = []
    for _ in range(spawns):
        start = perf_counter_ns()
        process = await subject.create(TRUE)
        await process.wait()
        times.append((perf_counter_ns() - start) / 1e3)
    return times


def times_blocking(spawn: Spawn, spawns: int) -> list[float]:
    """Microseconds each."""
    times = []
    for _ in range(spawns):
        start = perf_counter_ns()
        spawn([TRUE])()
        times.append((perf_counter_ns() - start) / 1e3)
    return times


def measure(*, quick: bool) -> list[Table]:
    rounds, spawns = (10, 20) if quick else (100, 20)

    def on_loop(subject: AsyncSubject) -> Callable[[], list[float]]:
        return lambda: subject.run(times_on_loop(subject, spawns))

    def blocking(spawn: Spawn) -> Callable[[], list[float]]:
        return lambda: times_blocking(spawn, spawns)

    with async_subjects() as subjects, in_c("in-turn", spawns) as c_turns:
        turns = {subject.name: on_loop(subject) for subject in subjects}
        turns |= {name: blocking(spawn) for name, spawn in blocking_subjects().items()}
        turns |= c_turns
        samples = interleave(turns, rounds)
    title = f"Spawn and wait of /bin/true, one after another; {rounds} x {spawns} spawns"
    return [Table(title, "us", samples, WANTED)]
