"""The theft and the cure: someone else's `waitpid(-1)`, and SIGCHLD ignored.

    python theft.py

A program that embeds Python, a test runner, a web server: any of them may reap children that are
not its own. Here a thread does it. The same 20 programs, each of which exits with status 3, are run
by asyncio and by aiopidfd. asyncio loses their exit statuses and says 255; aiopidfd's programs
cannot be seen, so there is nothing to steal, and no SIGCHLD comes either.

Exits with 0 if every status that aiopidfd reported is right.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiopidfd

PROGRAMS = 20
STATUS = 3
# Some milliseconds of life, so that the thief is asleep in waitpid() when the program exits. The
# last command is exec'd: it is a real program that exits with the status, not a fork of ours.
COMMAND = ("/bin/sh", "-c", f"sleep 0.05; exec sh -c 'exit {STATUS}'")

Create = Callable[..., Awaitable[asyncio.subprocess.Process]]


@dataclass
class Seen:
    """What the rest of the process notices of the children."""

    stolen: list[int] = field(default_factory=list)  # pids that waitpid(-1) has returned
    signals: int = 0  # SIGCHLD


async def run_programs(create: Create) -> list[int]:
    """The statuses that the library reports for 20 programs at once."""

    async def run_one() -> int:
        process = await create(*COMMAND)
        return await process.wait()

    return await asyncio.gather(*(run_one() for _ in range(PROGRAMS)))


@contextmanager
def thief(seen: Seen) -> Iterator[None]:
    """Threads that reap every child of this process that they can see, and a count of SIGCHLD."""

    def reap() -> None:
        while not stop.is_set():
            try:
                pid, _ = os.waitpid(-1, 0)
            except ChildProcessError:  # no child to be seen
                time.sleep(0.001)
            else:
                seen.stolen.append(pid)

    def count(*_: object) -> None:
        seen.signals += 1

    stop = threading.Event()
    # On Python 3.11 asyncio waits in a thread of its own for each child, and sometimes wins against
    # a single thief.
    threads = [threading.Thread(target=reap) for _ in range(4)]
    before = signal.signal(signal.SIGCHLD, count)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        signal.signal(signal.SIGCHLD, before)


@contextmanager
def ignored_sigchld(seen: Seen) -> Iterator[None]:
    """SIGCHLD ignored: the kernel drops the status of every child that would have sent one."""
    del seen  # nobody is told anything
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def row(*cells: object) -> str:
    widths = (10, 8, 24, 8, 8)
    aligned = (str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(aligned).rstrip()


def main() -> int:
    # asyncio logs a warning for each status that it lost.
    logging.getLogger("asyncio").setLevel(logging.ERROR)

    acts = (
        ("Threads call waitpid(-1) in a loop", thief),
        ("SIGCHLD is ignored", ignored_sigchld),
    )
    libraries: tuple[tuple[str, Create], ...] = (
        ("asyncio", asyncio.create_subprocess_exec),
        ("aiopidfd", aiopidfd.create_subprocess_exec),
    )
    cured = True
    print(f"Each time {PROGRAMS} programs that exit with status {STATUS}.")
    for title, act in acts:
        print(f"\n{title}:\n")
        print(row("library", "right", "reported", "stolen", "SIGCHLDs"))
        for name, create in libraries:
            seen = Seen()
            with act(seen):
                statuses = asyncio.run(run_programs(create))
            right = statuses.count(STATUS)
            reported = ", ".join(
                f"{status} ({times}x)" for status, times in sorted(Counter(statuses).items())
            )
            print(row(name, f"{right}/{PROGRAMS}", reported, len(seen.stolen), seen.signals))
            if name == "aiopidfd":
                cured = cured and right == PROGRAMS
    return 0 if cured else 1


if __name__ == "__main__":
    sys.exit(main())
