"""What the start and wait of /bin/true costs in a process that has many descriptors open.

As a server's that started its first program early: they are opened after that.
"""

from typing import Final

from .hosts import Ask, Starter, hosts, open_descriptors, raise_descriptor_limit, serve
from .rounds import interleave
from .subjects import ASYNCIO, OURS, OURS_BLOCKING, POSIX_SPAWN, SUBPROCESS
from .table import Table, Wanted, at

OPEN: Final = (0, 1000, 5000, 12000)
SUBJECTS: Final = (OURS, ASYNCIO, OURS_BLOCKING, SUBPROCESS, POSIX_SPAWN)

WANTED = (
    Wanted(at(OURS, OPEN[-1]), at(OURS, 0), 1.15),
    Wanted(at(OURS, OPEN[-1]), at(POSIX_SPAWN, OPEN[-1]), 0.6),
    Wanted(at(OURS_BLOCKING, OPEN[-1]), at(POSIX_SPAWN, OPEN[-1]), 0.6),
    *(Wanted(at(name, OPEN[-1]), at(name, 0)) for name in SUBJECTS[1:]),
)


def host(name: str, count: int, spawns: int) -> None:
    def prepare() -> Ask:
        raise_descriptor_limit()
        starter = Starter(name)
        starter.times(1)
        open_descriptors(count)
        return lambda: starter.times(spawns)

    serve(prepare)


def measure(*, quick: bool) -> list[Table]:
    rounds, spawns = (5, 10) if quick else (40, 10)
    codes = {
        at(name, count): f"from {__name__} import host; host({name!r}, {count}, {spawns})"
        for name in SUBJECTS
        for count in OPEN
    }
    with hosts(codes) as turns:
        samples = interleave(turns, rounds)
    return [
        Table(
            f"Spawn and wait of /bin/true with descriptors open; {rounds} x {spawns} spawns",
            "us",
            samples,
            WANTED,
            across="open descriptors",
        )
    ]
