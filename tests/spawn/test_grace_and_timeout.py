"""A call's timeout passes while its program has its grace already: it cuts nothing short."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiopidfd
import aiopidfd.anyio

from ..support import hang_guard

partial = functools.partial

# On SIGTERM it cleans up, which takes longer than the timeout.
SCRIPT = "trap 'sleep 2; touch cleaned; exit' TERM; echo up; while :; do sleep 0.05; done"
ENDS = {"timeout": 1.5, "grace": 60}
Run = Callable[..., Awaitable[object]]


@pytest.fixture(params=["aiopidfd", "aiopidfd.anyio"])
def module(request: pytest.FixtureRequest) -> Any:
    return {"aiopidfd": aiopidfd, "aiopidfd.anyio": aiopidfd.anyio}[request.param]


@pytest.fixture(params=["run_process", "run_pipeline"])
def run(request: pytest.FixtureRequest, module: Any, tmp_path: Path) -> Run:
    function = getattr(module, request.param)
    commands = [["sh", "-c", SCRIPT]] + [["cat"]] * (request.param == "run_pipeline")
    return partial(function, *commands, cwd=tmp_path, **ENDS)


async def test_what_a_sink_raised_is_raised(run: Run, tmp_path: Path) -> None:
    def fail(line: bytes) -> None:
        raise ZeroDivisionError

    with hang_guard(60), pytest.raises(ZeroDivisionError):
        await run(stdout=fail)
    assert (tmp_path / "cleaned").exists()


async def test_a_cancelled_call(run: Run, tmp_path: Path) -> None:
    up = asyncio.Event()
    with hang_guard(60):
        task = asyncio.ensure_future(run(stdout=lambda line: up.set()))
        await up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (tmp_path / "cleaned").exists()


def test_on_trio(tmp_path: Path) -> None:
    async def body() -> None:
        def fail(line: bytes) -> None:
            raise ZeroDivisionError

        with anyio.fail_after(60), pytest.raises(ZeroDivisionError):
            await aiopidfd.anyio.run_process(
                ["sh", "-c", SCRIPT], cwd=tmp_path, stdout=fail, **ENDS
            )

    anyio.run(body, backend="trio")
    assert (tmp_path / "cleaned").exists()
