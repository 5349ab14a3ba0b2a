"""How many descriptors a program costs: while it lives, and for the moment of its start.

The second is found by leaving ever fewer numbers free until a start fails: so it counts those too
that are open only within one call.
"""

import asyncio
import itertools
import os
import resource
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final

from .hosts import Ask, hosts, raise_descriptor_limit, serve
from .rounds import interleave
from .subjects import OURS, OURS_ON_UVLOOP, SLEEP, TRUE, AsyncSubject, async_subjects
from .table import AtMost, Table

PIPES: Final[dict[str, Any]] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
LIVE: Final = 20
FREE: Final = 32  # more than anyone needs
CLOSED_WITHIN: Final = 2.0  # seconds


def _count() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _warm_up(subject: AsyncSubject) -> None:
    """What is opened once, with the first program, does not count."""
    process = await subject.create(TRUE)
    await process.wait()
    await asyncio.sleep(0.1)
    await _run(subject)


async def _run(subject: AsyncSubject) -> None:
    """A program with three pipes, to its end, until its descriptors are closed."""
    before = _count()
    process = await subject.create(TRUE, **PIPES)
    await process.communicate()
    end = time.monotonic() + CLOSED_WITHIN
    while _count() > before and time.monotonic() < end:
        await asyncio.sleep(0.001)


async def _live(subject: AsyncSubject) -> list[float]:
    """What each holds, beside our ends of its pipes."""
    await _warm_up(subject)
    before = _count()
    processes = [await subject.create(*SLEEP, **PIPES) for _ in range(LIVE)]
    await asyncio.sleep(0.1)
    each = (_count() - before) / len(processes)
    return [each - len(PIPES)]


async def _starting(subject: AsyncSubject) -> list[float]:
    """How many numbers must be free, so that a program with three pipes can be started."""
    await _warm_up(subject)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while (lowest_free := os.open(os.devnull, os.O_RDONLY)) <= highest:
        pass  # so that no number below is free
    os.close(lowest_free)
    for free in itertools.count(FREE, -1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + free, hard))
        try:
            await _run(subject)
        except OSError:
            return [free + 1]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    raise AssertionError("it needs none")


def host(name: str, what: str) -> None:
    take = {"live": _live, "starting": _starting}[what]
    with async_subjects(name) as (subject,):

        def prepare() -> Ask:
            raise_descriptor_limit()
            return lambda: subject.run(take(subject))

        serve(prepare)


def measure(*, quick: bool) -> list[Table]:
    rounds = 1 if quick else 3

    def turn(name: str, what: str) -> Callable[[], list[float]]:
        code = f"from {__name__} import host; host({name!r}, {what!r})"

        def take() -> list[float]:
            with hosts({name: code}) as turns:
                return turns[name]()

        return take

    with async_subjects() as subjects:
        names = [subject.name for subject in subjects]
    live, starting = (
        interleave({name: turn(name, what) for name in names}, rounds, warm_up=0)
        for what in ("live", "starting")
    )
    wanted = [AtMost(name, 2) for name in (OURS, OURS_ON_UVLOOP)]
    return [
        Table("Descriptors for each live program, beside its pipes", "each", live, wanted),
        Table("Descriptors that a start with three pipes needs, at the most", "", starting),
    ]
