"""`python -m benchmarks.where`: where the time of a start and its exit goes.

Samples all processors with perf(1) while one subject works, and says how many microseconds of
processor time each program has cost, and whose. Idle time is that of all processors together.
It needs root, or kernel.perf_event_paranoid of -1.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiopidfd.subprocess as ours

from .latency import times_blocking, times_on_loop
from .machine import describe
from .many import on_loop_at_once
from .run import times_of_run
from .subjects import (
    ASYNCIO,
    OURS,
    OURS_BLOCKING,
    OURS_SUBPROCESS,
    POSIX_SPAWN,
    SUBPROCESS,
    async_subjects,
    blocking_subjects,
)

COUNT: Final = 3000
AT_ONCE: Final = 200
CPUS: Final = len(os.sched_getaffinity(0))
US: Final = Path("/proc/self/comm").read_text().strip()
PROGRAM: Final = "the program, from its birth on"

# A part of the time: the name of the process, and what is in the name of the file whose code ran.
PARTS: Final[dict[str, tuple[str, str]]] = {
    PROGRAM: ("true", ""),
    "the guardian, in the kernel": ("aiopidfd-guard", "kernel"),
    "the guardian, its own code": ("aiopidfd-guard", ""),
    "this process, in the kernel": (US, "kernel"),
    "this process, aiopidfd's C": (US, "_native"),
    "this process, Python and libraries": (US, ""),
    "nobody: idle": ("swapper", ""),
    "others": ("", ""),
}


def in_turn(name: str) -> Callable[[int], object]:
    """One after another; the function takes how many."""
    if name in blocking_subjects():
        return lambda count: times_blocking(blocking_subjects()[name], count)

    def work(count: int) -> None:
        with async_subjects(name) as (subject,):
            subject.run(times_on_loop(subject, count))

    return work


def at_once(name: str) -> Callable[[int], object]:
    """Many at once, and again until it was so many."""

    def work(count: int) -> None:
        with async_subjects(name) as (subject,):
            for _ in range(count // AT_ONCE):
                subject.run(on_loop_at_once(subject, AT_ONCE))

    return work


WORKS: Final[dict[str, Callable[[int], object]]] = {
    **{f"{name}, one after another": in_turn(name) for name in (OURS, ASYNCIO)},
    **{f"{name}, one after another": in_turn(name) for name in (OURS_BLOCKING, POSIX_SPAWN)},
    f"{OURS_SUBPROCESS}.run, captured": lambda count: times_of_run(ours.run, count),
    f"{SUBPROCESS}.run, captured": lambda count: times_of_run(subprocess.run, count),
    **{f"{name}, {AT_ONCE} at once": at_once(name) for name in (OURS, ASYNCIO)},
}


def sampled(work: Callable[[int], object], file: str) -> tuple[float, Counter[str]]:
    """Seconds that `work` took, and how many samples of each part there were meanwhile."""
    command = ["perf", "record", "-q", "-a", "-e", "cpu-clock", "-F", "9973", "-k", "mono"]
    with subprocess.Popen([*command, "-m", "4096", "-o", file]) as perf:
        work(AT_ONCE)  # meanwhile perf begins
        begin = time.monotonic()
        work(COUNT)
        end = time.monotonic()
        perf.send_signal(signal.SIGINT)
    listed = subprocess.run(
        ["perf", "script", "-i", file, "-F", "comm,pid,ip,dso", f"--time={begin},{end}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    samples = re.findall(r"^ *(\S+) +(\d+) +[0-9a-f]+ \((.*)\)$", listed, re.MULTILINE)
    # Before its exec a program has the name of its parent.
    programs = {pid for comm, pid, _ in samples if comm == PARTS[PROGRAM][0]}
    return end - begin, Counter(
        PROGRAM if pid in programs else part_of(comm, code) for comm, pid, code in samples
    )


def part_of(comm: str, code: str) -> str:
    """Which part of the time this is."""
    return next(name for name, (who, what) in PARTS.items() if who in comm and what in code)


def main() -> None:
    print(describe())
    with tempfile.NamedTemporaryFile() as file:
        for title, work in WORKS.items():
            seconds, found = sampled(work, file.name)
            each = seconds / COUNT * 1e6
            print(f"\n{title}: {each:.0f} us each", flush=True)
            for name in PARTS:
                share = found[name] / found.total()
                print(f"  {name:36}{share:6.1%}{share * each * CPUS:8.0f} us")


if __name__ == "__main__":
    main()
