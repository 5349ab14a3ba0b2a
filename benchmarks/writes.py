"""What many small writes to a program cost that does not read yet, and that does."""

import asyncio
import subprocess
from collections.abc import Callable
from time import process_time
from typing import Final

from .rounds import interleave
from .subjects import ASYNCIO, OURS, OURS_ON_UVLOOP, AsyncSubject, async_subjects
from .table import Table, Wanted

LINE: Final = b"a line that is not long\n"
WANTED = tuple(Wanted(name, ASYNCIO, 1.0) for name in (OURS, OURS_ON_UVLOOP))


async def _write(subject: AsyncSubject, number: int, drain: bool) -> float:
    """Seconds of the processor that this process used."""
    script = "exec wc -l" if drain else "sleep 0.5; exec wc -l"
    process = await subject.create(
        "/bin/sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    start = process_time()
    for _ in range(number):
        process.stdin.write(LINE)
        if drain:
            await process.stdin.drain()
    process.stdin.close()
    assert int(await process.stdout.read()) == number
    await asyncio.wait_for(process.wait(), 10)
    return process_time() - start


def measure(*, quick: bool) -> list[Table]:
    rounds, number = (3, 100_000) if quick else (11, 400_000)

    def samples(drain: bool) -> dict[str, list[float]]:
        def turn(subject: AsyncSubject) -> Callable[[], list[float]]:
            return lambda: [subject.run(_write(subject, number, drain)) * 1000]

        with async_subjects() as subjects:
            return interleave({each.name: turn(each) for each in subjects}, rounds)

    return [
        Table(
            f"{number:,} small writes {how}, processor time; {rounds} rounds",
            "ms",
            samples(drain),
            WANTED,
        )
        for drain, how in ((False, "in one go"), (True, "with a drain() after each"))
    ]
