"""docs/shutdown.md: what stands there runs, and does what is said."""

import asyncio
import importlib.util
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import aiopidfd

from ..support import warnings_given

PAGE = Path(__file__).parents[2] / "docs" / "shutdown.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run(word: str) -> dict[str, Any]:
    """The one block that has the word, as a program."""
    (block,) = [block for block in BLOCKS if word in block]
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_no_block_is_forgotten() -> None:
    assert len(BLOCKS) == 7


def test_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("aiopidfd.running()")["child"].returncode == -signal.SIGKILL
    assert "['sleep', '60']" in capsys.readouterr().out


@pytest.mark.skipif(not importlib.util.find_spec("fastapi"), reason="FastAPI is not installed")
async def test_fastapi() -> None:
    names = run("fastapi")
    async with names["app"].router.lifespan_context(names["app"]):
        process = await aiopidfd.create_subprocess_exec("sleep", "60")
    assert process.returncode == -signal.SIGTERM


@pytest.mark.skipif(not importlib.util.find_spec("aiohttp"), reason="aiohttp is not installed")
async def test_aiohttp() -> None:
    from aiohttp import web

    runner = web.AppRunner(run("aiohttp")["app"])
    await runner.setup()
    process = await aiopidfd.create_subprocess_exec("sleep", "60")
    await runner.cleanup()
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("word", ["asyncio.run(main())", "asyncio.Runner("])
def test_a_program_of_one_s_own(word: str) -> None:
    with warnings_given():  # nobody has waited for the program
        run(word)
    assert not [one for one in aiopidfd.running() if one.args == ["sleep", "60"]]


def test_a_loop_by_its_name() -> None:
    kept = []

    async def main() -> None:
        kept.append(await aiopidfd.create_subprocess_exec("sleep", "60"))

    with asyncio.Runner(loop_factory=run("class Loop")["Loop"]) as runner:
        runner.run(main())
    assert kept[0].returncode == -signal.SIGTERM


def test_logging(capsys: pytest.CaptureFixture[str]) -> None:
    run("import logging")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["start", "exit"]
    assert lines[1].endswith(" 0")
