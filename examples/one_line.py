"""One line: somebody else's program, unchanged, with children that nobody can take.

    pip install uvloop anyio trio
    python one_line.py

`their_asyncio_program` and `their_anyio_program` stand for code that you cannot change: they know
nothing of aiopidfd. Each is run as it is and then with one line more, while threads of this process
reap every child that they can see. As they are, they lose the exit statuses: asyncio then says 255,
uvloop waits for ever, and trio says 0, so that a failure reads as success. With the line every
status is right, and nobody saw a child.

Exits with 0 if so.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    import anyio
    import uvloop

    import aiopidfd
    import aiopidfd.anyio
except ModuleNotFoundError as exc:
    sys.exit(f"{exc.name} is needed: pip install uvloop anyio trio")

PROGRAMS = 20
TIMEOUT = 2.0  # seconds, of programs that take a twentieth of one
# The last command is exec'd: a real program, not a fork of ours, exits with status 3.
COMMAND = ["/bin/sh", "-c", "sleep 0.05; exec sh -c 'exit 3'"]

Statuses = list[int | str]


# Somebody else's ---------------------------------------------------------------------------------


async def their_asyncio_program() -> Statuses:
    async def run_one() -> int | str:
        process = await asyncio.create_subprocess_exec(*COMMAND)
        try:
            return await asyncio.wait_for(process.wait(), TIMEOUT)
        except TimeoutError:
            return "timed out"

    return await asyncio.gather(*(run_one() for _ in range(PROGRAMS)))


async def their_anyio_program() -> Statuses:
    statuses: Statuses = []

    async def run_one() -> None:
        result = await anyio.run_process(COMMAND, check=False)
        statuses.append(result.returncode)

    async with anyio.create_task_group() as group:
        for _ in range(PROGRAMS):
            group.start_soon(run_one)
    return statuses


# Yours: as it was, and with one line more --------------------------------------------------------


def on_asyncio() -> Statuses:
    with asyncio.Runner() as runner:
        return runner.run(their_asyncio_program())


def on_asyncio_with_one_line() -> Statuses:
    with asyncio.Runner(loop_factory=aiopidfd.EventLoop) as runner:  # this one
        return runner.run(their_asyncio_program())


def on_uvloop() -> Statuses:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(their_asyncio_program())


def on_uvloop_with_one_line() -> Statuses:
    with asyncio.Runner(loop_factory=aiopidfd.UvloopEventLoop) as runner:  # this one
        return runner.run(their_asyncio_program())


def on_trio() -> Statuses:
    return anyio.run(their_anyio_program, backend="trio")


def on_trio_with_one_line() -> Statuses:
    aiopidfd.anyio.install()  # this one
    return anyio.run(their_anyio_program, backend="trio")


PAIRS: dict[str, tuple[Callable[[], Statuses], Callable[[], Statuses]]] = {
    "asyncio": (on_asyncio, on_asyncio_with_one_line),
    "uvloop": (on_uvloop, on_uvloop_with_one_line),
    "anyio on trio": (on_trio, on_trio_with_one_line),
}


@contextmanager
def thieves(stolen: list[int]) -> Iterator[None]:
    """Threads that reap every child that they can see."""

    def reap() -> None:
        while not stop.is_set():
            try:
                pid, _ = os.waitpid(-1, 0)
            except ChildProcessError:  # no child to be seen
                time.sleep(0.001)
            else:
                stolen.append(pid)

    stop = threading.Event()
    threads = [threading.Thread(target=reap) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def row(*cells: object) -> str:
    widths = (14, 10, 8, 8, 40)
    aligned = (str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(aligned).rstrip()


def main() -> int:
    # asyncio logs a warning for each status that it lost.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    cured = True
    print(f"{PROGRAMS} programs that exit with status 3, while others call waitpid(-1):\n")
    print(row("program", "the line", "right", "stolen", "reported"))
    for name, pair in PAIRS.items():
        for line, run in zip(("without", "with"), pair, strict=True):
            stolen: list[int] = []
            with thieves(stolen):
                statuses = run()
            counted = Counter(statuses).most_common()
            reported = ", ".join(f"{status} ({times}x)" for status, times in counted)
            right = statuses.count(3)
            print(row(name, line, f"{right}/{PROGRAMS}", len(stolen), reported), flush=True)
            if line == "with":
                cured = cured and right == PROGRAMS and not stolen
    return 0 if cured else 1


if __name__ == "__main__":
    sys.exit(main())
