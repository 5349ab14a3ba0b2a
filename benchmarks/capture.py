"""How fast much output is captured, from the start of the program to its exit."""

import subprocess
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import aiopidfd.subprocess

from .rounds import interleave
from .subjects import (
    ASYNCIO,
    OURS,
    OURS_ON_UVLOOP,
    OURS_SUBPROCESS,
    SUBPROCESS,
    AsyncSubject,
    async_subjects,
)
from .table import Table, Wanted

MIB: Final = 1024 * 1024

RUN: Final = {OURS: "aiopidfd.run_process", OURS_ON_UVLOOP: "aiopidfd.run_process on uvloop"}
AGAIN: Final = "subprocess, once more"  # how far two medians of the same thing may lie apart
WANTED = (
    Wanted(OURS_SUBPROCESS, SUBPROCESS, 1.0, at_least=True),
    Wanted(AGAIN, SUBPROCESS),
    *[
        Wanted(name, reference, bound, at_least=True)
        for reference, bound in ((SUBPROCESS, 1.0), (ASYNCIO, 3))
        for pair in RUN.items()
        for name in pair
    ],
)


def _writer(size: int) -> list[str]:
    return ["head", "-c", str(size), "/dev/zero"]


async def _communicate(subject: AsyncSubject, size: int) -> int:
    process = await subject.create(*_writer(size), stdout=subprocess.PIPE)
    stdout, _ = await process.communicate()
    return len(stdout)


async def _run_process(size: int) -> int:
    result = await aiopidfd.run_process(_writer(size), stderr=None)
    return len(result.stdout)


def _run(run: Callable[..., Any], size: int) -> int:
    return len(run(_writer(size), stdout=subprocess.PIPE, check=True).stdout)


def measure(*, quick: bool) -> list[Table]:
    rounds, size = (3, 128 * MIB) if quick else (25, 512 * MIB)

    def rate(capture: Callable[[], int]) -> Callable[[], list[float]]:
        def turn() -> list[float]:
            start = perf_counter()
            assert capture() == size
            return [size / MIB / (perf_counter() - start)]

        return turn

    def communicate(subject: AsyncSubject) -> Callable[[], int]:
        return lambda: subject.run(_communicate(subject, size))

    def run_process(subject: AsyncSubject) -> Callable[[], int]:
        return lambda: subject.run(_run_process(size))

    with async_subjects() as subjects:
        captures = {subject.name: communicate(subject) for subject in subjects}
        captures |= {RUN[each.name]: run_process(each) for each in subjects if each.name in RUN}
        captures[OURS_SUBPROCESS] = lambda: _run(aiopidfd.subprocess.run, size)
        captures[SUBPROCESS] = captures[AGAIN] = lambda: _run(subprocess.run, size)
        turns = {name: rate(capture) for name, capture in captures.items()}
        samples = interleave(turns, rounds)
    title = f"{size // MIB} MiB captured by communicate(), or as the row says; {rounds} rounds"
    return [Table(title, "MiB/s", samples, WANTED)]
