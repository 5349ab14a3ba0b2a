"""The same work in C, by benchmarks/in_c.c: what the kernel asks for, and what our core adds."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

__all__ = ["CORE_IN_C", "GUARDIAN_IN_C", "POSIX_SPAWN_IN_C", "in_c"]

POSIX_SPAWN_IN_C: Final = "posix_spawn in C"
GUARDIAN_IN_C: Final = "least guardian in C"  # two processes for a program, and no more than that
CORE_IN_C: Final = "aiopidfd's core in C"

_WAYS: Final = {POSIX_SPAWN_IN_C: "posix_spawn", GUARDIAN_IN_C: "guardian", CORE_IN_C: "core"}
_OF_PYTHON: Final = re.compile(r"module\.c|python_\w+\.c|lines_python311\.c")


@contextmanager
def in_c(order: str, count: int) -> Iterator[dict[str, Callable[[], list[float]]]]:
    """What takes the microseconds for each of `count` programs. Without a compiler: nothing.

    Args:
        order: "in-turn" or "at-once".
        count: how many programs a turn starts.
    """
    with TemporaryDirectory() as directory:
        program = f"{directory}/in_c"
        source = Path(__file__).with_name("in_c.c")
        native = source.parent.parent / "aiopidfd" / "native"
        core = [file for file in native.glob("*.c") if not _OF_PYTHON.fullmatch(file.name)]
        compiler = [*os.environ.get("CC", "cc").split(), "-O2", "-fno-stack-protector", "-pthread"]
        try:
            subprocess.run([*compiler, "-o", program, source, *core], check=True)
        except (OSError, subprocess.CalledProcessError):
            yield {}
            return

        def turn(way: str) -> Callable[[], list[float]]:
            command = [program, way, order, str(count)]
            return lambda: [float(subprocess.check_output(command))]

        yield {name: turn(way) for name, way in _WAYS.items()}
