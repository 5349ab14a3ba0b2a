"""docs/seeds.md: every row of its table has a section, and what stands there runs."""

import ast
import asyncio
import inspect
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import aiopidfd

from ..spawn.test_cgroup import cgroup as cgroup
from ..support import hang_guard

PAGE = Path(__file__).parents[2] / "docs" / "seeds.md"
TEXT = PAGE.read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|")
][2:]
SECTIONS = dict(re.findall(r"^### (.+?)\n.*?```python\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL))

SEEDS = {
    "pidfd at creation",
    "cgroup at creation",
    "race-free signal",
    "poll by a non-parent",
    "status to a non-parent",
    "hand-over to another process",
    "waitid by pidfd",
    "close-on-exec by default",
    "fdinfo to pid",
    "identity",
    "a connection's peer",
    "what has crashed",
    "kill on close",
    "invisible helper",
    "spawn by path",
    "spawn by PATH search",
}


def test_no_row_is_missing_or_empty() -> None:
    assert {row[0] for row in ROWS} == SEEDS == SECTIONS.keys()
    assert all(len(row) == 4 and all(row) for row in ROWS)


async def run(code: str, **names: Any) -> None:
    given = {
        "aiopidfd": aiopidfd,
        "os": os,
        "signal": signal,
        "socket": socket,
        "subprocess": subprocess,
        "__name__": "section",
        **names,
    }
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with hang_guard():
        result = FunctionType(compiled, given)()
        if inspect.isawaitable(result):
            await result
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", sorted(SEEDS - {"cgroup at creation"}))
async def test_row(name: str) -> None:
    await run(SECTIONS[name])


async def test_row_cgroup_at_creation(cgroup: Path) -> None:
    await run(SECTIONS["cgroup at creation"], cgroup=str(cgroup))
