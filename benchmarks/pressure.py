"""Back-pressure: how our memory grows while a program writes without end to a slow reader.

Each sample is taken in a process of its own: the peak of a process's memory never goes down.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .rounds import interleave
from .subjects import AsyncSubject, async_subjects
from .table import Table

CHUNK: Final = 64 * 1024
PAUSE: Final = 0.01  # seconds between two reads: some MiB/s, of the GiB/s that /dev/zero would give


def _memory(field: str) -> int:
    """KiB, of the fields VmRSS and VmHWM (its peak) in proc_pid_status(5)."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


async def _read_slowly(subject: AsyncSubject, seconds: float) -> float:
    """MiB that the peak rises above what it was when the program had started."""
    loop = asyncio.get_running_loop()
    process = await subject.create("cat", "/dev/zero", stdout=subprocess.PIPE)
    assert process.stdout is not None
    before = _memory("VmHWM")
    end = loop.time() + seconds
    while loop.time() < end:
        assert await process.stdout.read(CHUNK)
        await asyncio.sleep(PAUSE)
    peak = _memory("VmHWM")
    process.kill()
    await process.stdout.read()
    await process.wait()
    return (peak - before) / 1024


def measure_here(name: str, seconds: float) -> float:
    """For the process that takes the sample."""
    with async_subjects(name) as (subject,):
        return subject.run(_read_slowly(subject, seconds))


def measure(*, quick: bool) -> list[Table]:
    rounds, seconds = (1, 1.0) if quick else (5, 2.0)

    def turn(name: str) -> Callable[[], list[float]]:
        code = f"from {__name__} import *; print(measure_here({name!r}, {seconds}))"
        command = [sys.executable, "-c", code]
        return lambda: [float(subprocess.check_output(command))]

    with async_subjects() as subjects:
        names = [subject.name for subject in subjects]
    samples = interleave({name: turn(name) for name in names}, rounds, warm_up=0)
    title = (
        f"Memory gained in {seconds:g} s from a program that writes without end to a slow reader"
    )
    return [Table(title, "MiB", samples)]
