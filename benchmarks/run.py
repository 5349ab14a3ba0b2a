"""How long `run(["true"], capture_output=True)` takes: ours and the standard module's."""

import subprocess
from collections.abc import Callable
from time import perf_counter_ns

import aiopidfd.subprocess

from .rounds import interleave
from .subjects import OURS_SUBPROCESS, SUBPROCESS
from .table import Table, Wanted

WANTED = (Wanted(OURS_SUBPROCESS, SUBPROCESS, 1.1),)


def times_of_run(run: Callable[..., object], runs: int) -> list[float]:
    """Microseconds each."""
    times = []
    for _ in range(runs):
        start = perf_counter_ns()
        run(["true"], capture_output=True)
        times.append((perf_counter_ns() - start) / 1e3)
    return times


def measure(*, quick: bool) -> list[Table]:
    rounds, runs = (20, 20) if quick else (200, 20)
    turns: dict[str, Callable[[], list[float]]] = {
        OURS_SUBPROCESS: lambda: times_of_run(aiopidfd.subprocess.run, runs),
        SUBPROCESS: lambda: times_of_run(subprocess.run, runs),
    }
    samples = interleave(turns, rounds)
    title = f'run(["true"], capture_output=True), one after another; {rounds} x {runs} runs'
    return [Table(title, "us", samples, WANTED)]
