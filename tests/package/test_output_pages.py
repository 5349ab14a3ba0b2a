"""docs/output.md and docs/pipelines.md: each block runs, on asyncio and on uvloop."""

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path
from types import FunctionType

import pytest

import aiopidfd

from ..support import hang_guard

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = [
    pytest.param(page, block, id=f"{page}-{number}")
    for page in ("output.md", "pipelines.md")
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
async def test_block(page: str, block: str) -> None:
    names = {"aiopidfd": aiopidfd, "asyncio": asyncio, "sys": sys, "PIPE": aiopidfd.PIPE}
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(block, page, "exec", flags=flags)
    with hang_guard():
        result = FunctionType(code, names)()
        if inspect.isawaitable(result):
            await result


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == 10
