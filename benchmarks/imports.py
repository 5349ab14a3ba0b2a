"""What `import aiopidfd` costs beyond `import asyncio`, each in a fresh interpreter.

The first round, which does not count, compiles all modules into a directory of our own.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Final

from .rounds import interleave
from .table import Table

IMPORTS: Final = {
    "import asyncio": ("sys", "asyncio"),
    "import aiopidfd, after it": ("asyncio", "aiopidfd"),
}

CODE: Final = """
import sys, time, {before}
modules, start = len(sys.modules), time.perf_counter()
import {module}
print((time.perf_counter() - start) * 1e3, len(sys.modules) - modules)
"""


def measure(*, quick: bool) -> list[Table]:
    rounds = 5 if quick else 25

    def turn(
        before: str, module: str, env: dict[str, str]
    ) -> Callable[[], list[tuple[float, float]]]:
        command = [sys.executable, "-c", CODE.format(before=before, module=module)]

        def take() -> list[tuple[float, float]]:
            milliseconds, modules = map(float, subprocess.check_output(command, env=env).split())
            return [(milliseconds, modules)]

        return take

    with TemporaryDirectory() as directory:
        env = {**os.environ, "PYTHONPYCACHEPREFIX": directory, "PYTHONDONTWRITEBYTECODE": ""}
        turns = {name: turn(*modules, env) for name, modules in IMPORTS.items()}
        found = interleave(turns, rounds)
    times = {name: [time for time, _ in pairs] for name, pairs in found.items()}
    modules = {name: [count for _, count in pairs] for name, pairs in found.items()}
    return [
        Table(f"Import; {rounds} rounds", "ms", times),
        Table("Modules imported", "modules", modules),
    ]
