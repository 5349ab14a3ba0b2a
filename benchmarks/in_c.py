"""The same work in C, by benchmarks/in_c.c: what the kernel asks for, with nothing around it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

__all__ = ["GUARDIAN_IN_C", "POSIX_SPAWN_IN_C", "in_c"]

POSIX_SPAWN_IN_C: Final = "posix_spawn in C"
GUARDIAN_IN_C: Final = "least guardian in C"  # two processes for a program, and no more than that

_WAYS: Final = {POSIX_SPAWN_IN_C: "posix_spawn", GUARDIAN_IN_C: "guardian"}


@contextmanager
def in_c(order: str, count: int) -> Iterator[dict[str, Callable[[], list[float]]]]:
    """What takes the microseconds for each of `count` programs. Without a compiler: nothing.

    Args:
        order: "in-turn" or "at-once".
        count: how many programs a turn starts.
    """
    with TemporaryDirectory() as directory:
        program = f"{directory}/in_c"
        source = str(Path(__file__).with_name("in_c.c"))
        compiler = os.environ.get("CC", "cc").split()
        try:
            subprocess.run([*compiler, "-O2", "-o", program, source], check=True)
        except (OSError, subprocess.CalledProcessError):
            yield {}
            return

        def turn(way: str) -> Callable[[], list[float]]:
            command = [program, way, order, str(count)]
            return lambda: [float(subprocess.check_output(command))]

        yield {name: turn(way) for name, way in _WAYS.items()}
