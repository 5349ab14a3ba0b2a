"""How long the loop is blocked while programs are started and waited for.

A callback schedules itself for each turn of the loop and notes the time. Meanwhile /bin/true is
started and waited for, one after another. One sample is the 99.9th percentile of the gaps between
two turns during that.
"""

from collections.abc import Callable
from itertools import pairwise
from statistics import quantiles
from time import perf_counter_ns

from .rounds import interleave
from .subjects import ASYNCIO, OURS, OURS_ON_UVLOOP, TRUE, UVLOOP, AsyncSubject, async_subjects
from .table import Wanted, report

WANTED = (
    Wanted(OURS, ASYNCIO, 1 / 8),
    Wanted(OURS_ON_UVLOOP, ASYNCIO, 1 / 8),
    Wanted(OURS_ON_UVLOOP, UVLOOP, 1 / 8),
)


async def _gap(subject: AsyncSubject, spawns: int) -> float:
    """Microseconds."""
    loop = subject.runner.get_loop()
    turns: list[int] = []
    ticking = True

    def tick() -> None:
        turns.append(perf_counter_ns())
        if ticking:
            loop.call_soon(tick)

    tick()
    for _ in range(spawns):
        process = await subject.create(TRUE)
        assert await process.wait() == 0
    ticking = False
    gaps = [(later - earlier) / 1e3 for earlier, later in pairwise(turns)]
    return quantiles(gaps, n=1000)[-1]


def measure(*, quick: bool) -> str:
    rounds, spawns = (5, 50) if quick else (25, 100)

    def turn(subject: AsyncSubject) -> Callable[[], list[float]]:
        return lambda: [subject.run(_gap(subject, spawns))]

    with async_subjects() as subjects:
        samples = interleave({subject.name: turn(subject) for subject in subjects}, rounds)
    title = f"Loop blocked while spawning, 99.9th percentile of the gap; {rounds} x {spawns} spawns"
    return report(title, "us", samples, WANTED)
