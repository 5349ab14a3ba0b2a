"""The examples of shellous's README, from its source distribution, on our loop.

    python -m tools.peers.shellous_readme FOLDER

FOLDER is the unpacked distribution of the version that is installed. It has no tests, but the
README, whose examples shellous's own tests run as well. For those see shellous_plugin.py.
"""

import ast
import asyncio
import builtins
import contextlib
import doctest
import inspect
import io
import os
import re
import sys
import traceback
from pathlib import Path
from types import FunctionType
from typing import Any

import shellous

import aiopidfd

from .exceptions import EXCEPTIONS
from .running import spawns

_AT_LEAST = 25
# What the examples find beside the README: so many lines.
_MISSING = {"LICENSE": 201, "CHANGELOG.md": 1}


def examples(readme: str) -> list[doctest.Example]:
    """All that is typed at Python's prompt. What is for /tmp goes to the current directory."""
    blocks = re.findall(r"^```pycon\n(.+?)^```$", readme, re.DOTALL | re.MULTILINE)
    typed = "\n".join(blocks).replace("/tmp/", "")
    return doctest.DocTestParser().get_examples(typed)


async def run(source: str, names: dict[str, Any]) -> str:
    """What Python's prompt shows, of an error the last line. `await` may be used."""
    code = compile(source, "README", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            result = FunctionType(code, names)()
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as exc:
            return traceback.format_exception_only(exc)[-1]
    return shown.getvalue()


def agrees(wanted: str, got: str) -> bool:
    """Whether that is what the README says. Programs differ in white space and their own path."""
    got = re.sub("/(usr/)?bin/", "", got)
    if "Traceback" in wanted:
        got, wanted = got.rpartition("exceptions.")[2], wanted.splitlines()[-1]
    return "".join(wanted.split()) == "".join(got.split())


async def run_all(typed: list[doctest.Example]) -> list[str]:
    """The complaints."""
    names = {"__builtins__": builtins, "asyncio": asyncio, "shellous": shellous}
    complaints = []
    for example in typed:
        source = example.source.strip()
        got = await run(example.source, names)
        if agrees(example.want, got) == (source in EXCEPTIONS["shellous"]):
            complaints.append(f"{source}\n    should give {example.want}    and gives {got}")
    return complaints


def main() -> int:
    """Run them; 0 if it is as it should be."""
    os.chdir(sys.argv[1])
    for name, lines in _MISSING.items():
        Path(name).write_text("\n" * lines)
    typed = examples(Path("README.md").read_text())
    print(f"shellous: {len(typed)} examples", flush=True)
    with spawns() as started, asyncio.Runner(loop_factory=aiopidfd.EventLoop) as runner:
        complaints = runner.run(run_all(typed))
    print(f"shellous: {started.count} programs were started by aiopidfd")
    print(*complaints, sep="\n", file=sys.stderr)
    return 0 if not complaints and started.count >= _AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
