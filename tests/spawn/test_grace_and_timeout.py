"""A call's timeout passes while its program has its grace already: it cuts nothing short."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

import aiopidfd
import aiopidfd.anyio

from ..anyio_support import BACKENDS, Backend
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


# One line to a sink that never returns, and one to a sink that fails.
STUCK = "echo >&2; sleep 0.3; echo; sleep 1000"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["aiopidfd", "aiopidfd.anyio"])
def test_a_stuck_sink_beside_one_that_fails(name: str, backend: str) -> None:
    """The timeout still ends the wait for it; and the failure is told, which was first."""
    if name == "aiopidfd" and backend == "trio":
        pytest.skip("run_process() needs an asyncio loop")
    run = {"aiopidfd": aiopidfd, "aiopidfd.anyio": aiopidfd.anyio}[name].run_process

    async def stuck(line: bytes) -> None:
        await anyio.sleep(1000)

    def fail(line: bytes) -> None:
        raise ZeroDivisionError

    async def body() -> None:
        with anyio.fail_after(60), pytest.raises(ZeroDivisionError):
            await run(STUCK, stdout=fail, stderr=stuck, timeout=1, grace=0.1)

    Backend(backend).run(body)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sink_that_blocks_beyond_the_timeout_and_fails(backend: str) -> None:
    def fail(line: bytes) -> None:
        time.sleep(0.7)
        raise ZeroDivisionError

    async def body() -> None:
        with pytest.raises(ZeroDivisionError):
            await aiopidfd.anyio.run_process("echo; sleep 9", stdout=fail, timeout=0.5, grace=0.1)

    Backend(backend).run(body)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ["aiopidfd", "aiopidfd.anyio"])
@pytest.mark.parametrize("function", ["supervise", "run_process"])
def test_all_tasks_are_cancelled(name: str, function: str, loop: str) -> None:
    """As asyncio.run() does at its end. What the program says in its grace is still carried."""
    script = "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.05; done"
    said: list[bytes] = []
    module = {"aiopidfd": aiopidfd, "aiopidfd.anyio": aiopidfd.anyio}[name]

    async def main() -> None:
        call = getattr(module, function)(["sh", "-c", script], stdout=said.append, grace=60)
        task = asyncio.ensure_future(call)
        with hang_guard():
            while not said:
                await asyncio.sleep(0.01)
        assert not task.done()

    factory = asyncio.SelectorEventLoop if loop == "asyncio" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert said == [b"up", b"bye"]
