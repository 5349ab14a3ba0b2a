"""Memory for each live program: the kernel's, and what its host has gained.

The programs' own is the same for all, but counts: only differences tell something. The kernel's is
the whole machine's, so whatever else goes on there counts, too. Each sample is taken in a host of
its own, in which nothing was started before.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .hosts import Ask, Starter, hosts, raise_descriptor_limit, serve
from .rounds import interleave
from .subjects import ASYNCIO, OURS
from .table import Beyond, Table, at

SUBJECTS: Final = (OURS, ASYNCIO)
SETTLE: Final = 0.3  # seconds
KERNEL: Final = ("Slab", "KernelStack", "PageTables", "Percpu")  # proc_meminfo(5)


def _kib(path: str, *fields: str) -> int:
    """The sum of some fields of such a file."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path(path).read_text(), re.MULTILINE))
    return sum(int(found[field]) for field in fields)


def _memory() -> tuple[int, int]:
    """KiB: the kernel's, our own."""
    time.sleep(SETTLE)
    return _kib("/proc/meminfo", *KERNEL), _kib("/proc/self/status", "VmRSS")


def host(name: str, live: int) -> None:
    def prepare() -> Ask:
        raise_descriptor_limit()
        starter = Starter(name)

        def take() -> list[float]:
            before = _memory()
            starter.keep(live)
            return [(b - a) / live for a, b in zip(before, _memory(), strict=True)]

        return take

    serve(prepare)


def measure(*, quick: bool) -> list[Table]:
    rounds, numbers = (2, (100, 2000)) if quick else (5, (100, 2000, 4000))

    def turn(name: str, live: int) -> Callable[[], list[list[float]]]:
        code = f"from {__name__} import host; host({name!r}, {live})"

        def take() -> list[list[float]]:
            with hosts({name: code}) as turns:
                found = turns[name]()
            return [found] if found else []

        return take

    turns = {at(name, live): turn(name, live) for name in SUBJECTS for live in numbers}
    found = interleave(turns, rounds, warm_up=0)
    samples = {
        "kernel's and host's": {name: [a + b for a, b in pairs] for name, pairs in found.items()},
        "kernel's": {name: [kernel for kernel, _ in pairs] for name, pairs in found.items()},
        "host's": {name: [own for _, own in pairs] for name, pairs in found.items()},
    }
    return [
        Table(
            f"Memory for each live program, the {whose}; {rounds} rounds",
            "KiB each",
            each,
            [Beyond(at(OURS, live), at(ASYNCIO, live), None if number else 48) for live in numbers],
            across="live programs",
        )
        for number, (whose, each) in enumerate(samples.items())
    ]
