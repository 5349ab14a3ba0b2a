"""How long the loop is blocked while programs are started and waited for.

A callback schedules itself for each turn of the loop and notes the time. Meanwhile /bin/true is
started and waited for, one after another. Two figures are taken from the gaps between two turns:

- the 99.9th percentile of all of them. The longer a program takes, and the faster the loop turns,
  the more short gaps dilute it: with over 1,000 turns for each spawn it misses the spawn itself.
- the longest within each spawn and wait. It misses nothing, but counts each time that the
  scheduler gave the loop's CPU to another process, the program for one.
"""

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Gaps:
    """Microseconds."""

    percentile: float  # 99.9th, of all
    longest: list[float]  # of each spawn and wait


async def _gaps(subject: AsyncSubject, spawns: int) -> Gaps:
    loop = subject.runner.get_loop()
    turns: list[int] = []
    ticking = True

    def tick() -> None:
        turns.append(perf_counter_ns())
        if ticking:
            loop.call_soon(tick)

    tick()
    ends = [0]  # how many turns there were when a program was done
    for _ in range(spawns):
        process = await subject.create(TRUE)
        assert await process.wait() == 0
        ends.append(len(turns) - 1)
    ticking = False
    gaps = [(later - earlier) / 1e3 for earlier, later in pairwise(turns)]
    return Gaps(quantiles(gaps, n=1000)[-1], [max(gaps[a:b]) for a, b in pairwise(ends)])


def measure(*, quick: bool) -> str:
    rounds, spawns = (5, 50) if quick else (25, 100)

    def turn(subject: AsyncSubject) -> Callable[[], list[Gaps]]:
        return lambda: [subject.run(_gaps(subject, spawns))]

    with async_subjects() as subjects:
        found = interleave({subject.name: turn(subject) for subject in subjects}, rounds)
    percentiles = {name: [one.percentile for one in gaps] for name, gaps in found.items()}
    longest = {name: [gap for one in gaps for gap in one.longest] for name, gaps in found.items()}
    title = f"Loop blocked while spawning; {rounds} x {spawns} spawns"
    return "\n\n".join(
        [
            report(f"{title}; 99.9th percentile of the gap", "us", percentiles, WANTED),
            report(f"{title}; longest gap of each", "us", longest, ()),
        ]
    )
