"""What the start and wait of /bin/true costs while many other programs of the same host live.

All hosts live at the same time: that is some 12,000 programs and 5 GiB.
"""

from typing import Final

from .hosts import Ask, Starter, hosts, raise_descriptor_limit, serve
from .rounds import interleave
from .subjects import ASYNCIO, OURS, POSIX_SPAWN, SUBPROCESS
from .table import Table, Wanted, at

LIVE: Final = (0, 100, 1000, 2000)
SUBJECTS: Final = (OURS, ASYNCIO, SUBPROCESS, POSIX_SPAWN)

WANTED = (
    Wanted(at(OURS, LIVE[-1]), at(OURS, 0), 1.15),
    Wanted(at(OURS, LIVE[-1]), at(ASYNCIO, LIVE[-1]), 1.0),
    *(Wanted(at(name, LIVE[-1]), at(name, 0)) for name in SUBJECTS[1:]),
)


def host(name: str, live: int, spawns: int) -> None:
    def prepare() -> Ask:
        raise_descriptor_limit()
        starter = Starter(name)
        starter.keep(live)
        return lambda: starter.times(spawns)

    serve(prepare)


def measure(*, quick: bool) -> list[Table]:
    rounds, spawns = (5, 10) if quick else (40, 10)
    codes = {
        at(name, live): f"from {__name__} import host; host({name!r}, {live}, {spawns})"
        for name in SUBJECTS
        for live in LIVE
    }
    with hosts(codes) as turns:
        samples = interleave(turns, rounds)
    return [
        Table(
            f"Spawn and wait of /bin/true while other programs live; {rounds} x {spawns} spawns",
            "us",
            samples,
            WANTED,
            note="Without uvloop: it is too slow with many.",
            across="live programs",
        )
    ]
