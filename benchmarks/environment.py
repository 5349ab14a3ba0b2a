"""What `env=` adds to a start, and what a name does that is searched for in PATH."""

import os
from time import perf_counter_ns
from typing import Any, Final

import aiopidfd

from .rounds import interleave
from .subjects import OURS_BLOCKING, TRUE
from .table import Beyond, Table

ENTRIES: Final = 35

WITH_ENV: Final = f"{OURS_BLOCKING} with env="
BY_NAME: Final = f"{OURS_BLOCKING} by name"

WANTED = (Beyond(WITH_ENV, OURS_BLOCKING), Beyond(BY_NAME, OURS_BLOCKING))


def _times(command: list[str], spawns: int, **options: Any) -> list[float]:
    """Microseconds of the start alone, each."""
    times = []
    for _ in range(spawns):
        start = perf_counter_ns()
        child = aiopidfd.spawn(command, **options)
        times.append((perf_counter_ns() - start) / 1e3)
        child.wait()
    return times


def measure(*, quick: bool) -> list[Table]:
    rounds, spawns = (10, 20) if quick else (100, 20)
    name = os.path.basename(TRUE)
    env = {f"VARIABLE_{number}": f"the value of number {number}" for number in range(ENTRIES)}
    turns = {
        OURS_BLOCKING: lambda: _times([TRUE], spawns),
        WITH_ENV: lambda: _times([TRUE], spawns, env=env),
        BY_NAME: lambda: _times([name], spawns),
    }
    title = f"Start of /bin/true alone, not its wait; {rounds} x {spawns} spawns"
    note = (
        f"env= has {ENTRIES} entries; without it there are {len(os.environ)}. "
        f"By name: {_searched(name)} directories of PATH are looked into."
    )
    return [Table(title, "us", interleave(turns, rounds), WANTED, note=note)]


def _searched(name: str) -> int:
    """Up to the one in which it is found."""
    path = os.get_exec_path()
    found = (number for number, where in enumerate(path) if os.path.exists(f"{where}/{name}"))
    return next(found, len(path) - 1) + 1
