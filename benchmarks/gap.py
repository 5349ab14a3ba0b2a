"""How long the loop is blocked while programs are started and waited for.

A callback schedules itself for each turn of the loop and notes the time. Meanwhile /bin/true is
started and waited for, one after another. Three figures are taken from the gaps between two turns:

- the 99.9th percentile of all of them. The longer a program takes, and the faster the loop turns,
  the more short gaps dilute it: with over 1,000 turns for each spawn it misses the spawn itself.
- the longest within each spawn and wait. It misses nothing, but counts each time that the
  scheduler gave the loop's CPU to another process, the program for one.
- the longest within each start: from just before the call to its return. Also in a host that has
  many descriptors open.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles
from time import perf_counter_ns
from typing import Final

from .hosts import Ask, hosts, open_descriptors, raise_descriptor_limit, serve
from .rounds import interleave
from .subjects import (
    ASYNCIO,
    ON_LOOPS,
    OURS,
    OURS_ON_UVLOOP,
    THREAD,
    TRUE,
    UVLOOP,
    AsyncSubject,
    async_subjects,
)
from .table import Table, Wanted

OPEN: Final = 12_000

WANTED = (
    Wanted(OURS, ASYNCIO, 1 / 8),
    Wanted(OURS_ON_UVLOOP, ASYNCIO, 1 / 8),
    Wanted(OURS_ON_UVLOOP, UVLOOP, 1 / 8),
)
# Up to 3.11 asyncio starts a thread for each program.
WANTED_STARTING = (
    Wanted(OURS, ASYNCIO, 0.10 if sys.version_info < (3, 12) else 0.22),
    Wanted(OURS, THREAD),
)
WANTED_OPEN = (Wanted(OURS, ASYNCIO, 0.05), Wanted(OURS, THREAD))


@dataclass(frozen=True)
class Gaps:
    """Microseconds."""

    percentile: float  # 99.9th, of all
    longest: list[float]  # of each spawn and wait
    starting: list[float]  # the longest of each start


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
    starting = []
    for _ in range(spawns):
        seen, start = len(turns), perf_counter_ns()
        process = await subject.create(TRUE)
        times = [start, *turns[seen:], perf_counter_ns()]
        starting.append(max(_microseconds(times)))
        assert await process.wait() == 0
        ends.append(len(turns) - 1)
    ticking = False
    gaps = _microseconds(turns)
    longest = [max(gaps[a:b], default=0.0) for a, b in pairwise(ends)]
    return Gaps(quantiles(gaps, n=1000)[-1], longest, starting)


def _microseconds(times: list[int]) -> list[float]:
    return [(later - earlier) / 1e3 for earlier, later in pairwise(times)]


def host(name: str, spawns: int) -> None:
    with async_subjects(name) as (subject,):

        def prepare() -> Ask:
            raise_descriptor_limit()
            subject.run(_gaps(subject, 1))
            open_descriptors(OPEN)
            return lambda: subject.run(_gaps(subject, spawns)).starting

        serve(prepare)


def measure(*, quick: bool) -> list[Table]:
    rounds, spawns = (5, 50) if quick else (25, 100)
    names = (*ON_LOOPS, THREAD)

    def turn(subject: AsyncSubject) -> Callable[[], list[Gaps]]:
        return lambda: [subject.run(_gaps(subject, spawns))]

    with async_subjects(*names) as subjects:
        found = interleave({subject.name: turn(subject) for subject in subjects}, rounds)
    percentiles = {name: [one.percentile for one in gaps] for name, gaps in found.items()}
    longest = {name: [gap for one in gaps for gap in one.longest] for name, gaps in found.items()}
    starting = {name: [gap for one in gaps for gap in one.starting] for name, gaps in found.items()}

    codes = {
        name: f"from {__name__} import host; host({name!r}, {spawns})"
        for name in (OURS, ASYNCIO, THREAD)
    }
    with hosts(codes) as turns:
        starting_open = interleave(turns, rounds)
    title = f"Loop blocked while spawning; {rounds} x {spawns} spawns"
    return [
        Table(f"{title}; 99.9th percentile of the gap", "us", percentiles, WANTED),
        Table(f"{title}; longest gap of each", "us", longest),
        Table(f"{title}; longest gap of each start", "us", starting, WANTED_STARTING),
        Table(f"{title}; the same with {OPEN:,} open", "us", starting_open, WANTED_OPEN),
    ]
