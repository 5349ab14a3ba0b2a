"""How many short lines are read in a millisecond of the time that our own process uses."""

import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from time import process_time
from typing import Any, Final

import aiopidfd

from .rounds import interleave
from .subjects import ASYNCIO, OURS, OURS_ON_UVLOOP, SUBPROCESS, AsyncSubject, async_subjects
from .table import Table, Wanted

LINES: Final = "lines()"
TEXT: Final = "lines of text"
SUPERVISE: Final = "supervise(stdout=function)"
BACKENDS: Final = ("asyncio", "trio")


def _wanted() -> list[Wanted]:
    bounds: list[tuple[str, float]] = []
    for name in (OURS, OURS_ON_UVLOOP):
        bounds += [(name, 2), (f"{name}, {LINES}", 6), (f"{name}, {TEXT}", 6)]
    for backend in BACKENDS:
        bounds += [(f"{SUPERVISE}, {backend}", 6), (f"{SUPERVISE}, {backend}, text", 6)]
    return [Wanted(name, ASYNCIO, bound, at_least=True) for name, bound in bounds]


async def _count(lines: AsyncIterator[Any]) -> int:
    count = 0
    async for _ in lines:
        count += 1
    return count


async def _iterate(subject: AsyncSubject, command: list[str]) -> int:
    process = await subject.create(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    count = await _count(aiter(process.stdout))
    await process.wait()
    return count


async def _lines(command: list[str], encoding: str | None) -> int:
    process = await aiopidfd.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, encoding=encoding
    )
    assert process.stdout is not None
    count = await _count(process.stdout.lines())
    await process.wait()
    return count


def _subprocess(command: list[str], encoding: str | None) -> int:
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding=encoding) as process:
        assert process.stdout is not None
        return sum(1 for _ in process.stdout)


def _supervise(command: list[str], backend: str, encoding: str | None) -> int:
    import anyio

    import aiopidfd.anyio

    count = 0

    def take(_: Any) -> None:
        nonlocal count
        count += 1

    supervise = partial(aiopidfd.anyio.supervise, command, stdout=take, encoding=encoding)
    anyio.run(supervise, backend=backend)
    return count


def measure(*, quick: bool) -> list[Table]:
    rounds, number = (3, 300_000) if quick else (11, 1_500_000)

    def rate(read: Callable[[], int]) -> Callable[[], list[float]]:
        def turn() -> list[float]:
            start = process_time()
            assert read() == number
            return [number / 1000 / (process_time() - start)]

        return turn

    with tempfile.NamedTemporaryFile() as file, async_subjects() as subjects:
        for value in range(number):
            file.write(b"%d\n" % value)
        file.flush()
        command = ["cat", file.name]
        turns: dict[str, Callable[[], int]] = {
            SUBPROCESS: partial(_subprocess, command, None),
            f"{SUBPROCESS}, text": partial(_subprocess, command, "utf-8"),
        }
        for subject in subjects:

            def run(subject: AsyncSubject = subject) -> int:
                return subject.run(_iterate(subject, command))

            turns[subject.name] = run
            if subject.name in (OURS, OURS_ON_UVLOOP):
                for name, encoding in ((LINES, None), (TEXT, "utf-8")):

                    def lines(
                        subject: AsyncSubject = subject, encoding: str | None = encoding
                    ) -> int:
                        return subject.run(_lines(command, encoding))

                    turns[f"{subject.name}, {name}"] = lines
        for backend in BACKENDS:
            name = f"{SUPERVISE}, {backend}"
            turns[name] = partial(_supervise, command, backend, None)
            turns[f"{name}, text"] = partial(_supervise, command, backend, "utf-8")
        samples = interleave({name: rate(read) for name, read in turns.items()}, rounds)
    title = f"{number:,} short lines by `async for`, or as the row says; {rounds} rounds"
    return [Table(title, "lines/ms", samples, _wanted())]
