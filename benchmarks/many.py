"""How long a program takes when many are started at once and then all are waited for."""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns

from .rounds import interleave
from .subjects import (
    ASYNCIO,
    OURS,
    OURS_ON_UVLOOP,
    TRUE,
    AsyncSubject,
    async_subjects,
    blocking_subjects,
)
from .table import Wanted, report

WANTED = (Wanted(OURS, ASYNCIO, 0.70), Wanted(OURS_ON_UVLOOP, ASYNCIO, 0.70))


async def _on_loop(subject: AsyncSubject, at_once: int) -> float:
    """Microseconds per program."""

    async def one() -> None:
        process = await subject.create(TRUE)
        assert await process.wait() == 0

    start = perf_counter_ns()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return (perf_counter_ns() - start) / 1e3 / at_once


def _blocking(spawn: Callable[[], Callable[[], object]], at_once: int) -> float:
    """Microseconds per program."""
    start = perf_counter_ns()
    for wait in [spawn() for _ in range(at_once)]:
        wait()
    return (perf_counter_ns() - start) / 1e3 / at_once


def measure(*, quick: bool) -> str:
    rounds, at_once = (5, 200) if quick else (25, 200)

    def on_loop(subject: AsyncSubject) -> Callable[[], list[float]]:
        return lambda: [subject.run(_on_loop(subject, at_once))]

    def blocking(spawn: Callable[[], Callable[[], object]]) -> Callable[[], list[float]]:
        return lambda: [_blocking(spawn, at_once)]

    with async_subjects() as subjects:
        turns = {subject.name: on_loop(subject) for subject in subjects}
        turns |= {name: blocking(spawn) for name, spawn in blocking_subjects().items()}
        samples = interleave(turns, rounds)
    title = f"{at_once} x /bin/true at once, time for each; {rounds} rounds"
    return report(title, "us each", samples, WANTED)
