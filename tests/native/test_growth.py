"""What many cost: no more for each than few. Calls are counted, of Python and of C, never time."""

import asyncio
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE
from typing import Any, Self

import pytest

import aiopidfd
from aiopidfd import subprocess
from aiopidfd._spawn.ps import guarded

from ..anyio_support import until
from ..output_support import Host, on_all_hosts
from ..support import gate

pytestmark = pytest.mark.heavy


class Count:
    """How many functions this thread has called in a block."""

    calls = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: object, event: str, arg: object) -> None:
        self.calls += event in ("call", "c_call")


async def calls_for_each(count: int, body: Callable[[int], Awaitable[object]]) -> float:
    with Count() as counted:
        await body(count)
    return counted.calls / count


def check(few: float, many: float) -> None:
    """What is there once is in the first; the turns of the loop differ a little."""
    assert many < 1.25 * few, (few, many)


@contextmanager
def descriptors_for(programs: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 8 * programs + 200:
        pytest.skip("so many descriptors are not allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- Sinks


@on_all_hosts
@pytest.mark.parametrize(
    "options",
    [
        {"stdout": len},
        {"stdout": [PIPE, len], "output_limit": 100, "on_limit": "tail"},
        {"stdout": [PIPE, len], "text": True},
        {"on_output": lambda name, line: None},
    ],
    ids=["function", "tail", "text", "on_output"],
)
def test_lines(host: Host, options: dict[str, Any]) -> None:
    async def run(count: int) -> None:
        await host.run_process(["seq", str(count)], **options)

    async def body() -> None:
        await run(10)
        few, many = [await calls_for_each(count, run) for count in (1000, 10_000)]
        check(few, many)
        assert many < 12

    host.run(body)


@on_all_hosts
def test_small_pieces_of_one_line(host: Host) -> None:
    """A line that comes piece by piece is joined once."""
    script = "import os, sys\nfor _ in range(int(sys.argv[1])): os.write(1, b'x')"

    async def run(count: int) -> None:
        result = await host.run_process(
            [sys.executable, "-I", "-S", "-c", script, str(count)], stdout=[PIPE, len], text=True
        )
        assert result.stdout == "x" * count

    async def body() -> None:
        await run(10)
        with Count() as counted:
            await run(3000)
        assert counted.calls < 5000 + 150 * 3000  # each comes alone if the machine has the time

    host.run(body)


@on_all_hosts
def test_sinks(host: Host) -> None:
    async def run(count: int) -> None:
        await host.run_process(["seq", "20"], stdout=[len] * count)

    async def body() -> None:
        await run(10)
        check(*[await calls_for_each(count, run) for count in (100, 1000)])

    host.run(body)


async def test_lines_of_a_call_that_blocks() -> None:
    async def run(count: int) -> None:
        subprocess.run(["seq", str(count)], stdout=[PIPE, len])

    await run(10)
    check(*[await calls_for_each(count, run) for count in (1000, 10_000)])


# --- Pipelines


@on_all_hosts
def test_members_of_a_pipeline(host: Host) -> None:
    async def run(count: int) -> None:
        result = await host.run_pipeline(*[["cat"]] * count, input=b"x")
        assert result.stdout == b"x"

    async def body() -> None:
        with descriptors_for(200):
            await run(2)
            check(*[await calls_for_each(count, run) for count in (20, 200)])

    host.run(body)


@pytest.mark.heavy
@on_all_hosts
def test_pipelines_that_live(host: Host) -> None:
    """All of them start, live and end together."""

    async def run(count: int) -> None:
        with gate() as (read, release, _):
            begun = 0

            def begin(line: bytes) -> None:
                nonlocal begun
                begun += 1
                if begun == count:
                    release()

            script = "echo; read x; exit 0"
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(host.run_pipeline(script, ["cat"], stdin=read, stdout=begin))

    async def body() -> None:
        with descriptors_for(1000):
            await run(1)
            check(*[await calls_for_each(count, run) for count in (10, 300)])

    if host.is_trio:
        pytest.skip("its tasks are counted on asyncio")
    host.run(body)


# --- Many programs


async def start(count: int) -> list[aiopidfd.Process]:
    return [await aiopidfd.create_subprocess_exec("sleep", "1000") for _ in range(count)]


@pytest.mark.parametrize("what", ["running", "ps", "shutdown"])
async def test_programs(what: str) -> None:
    calls = {
        "running": aiopidfd.running,
        "ps": lambda: guarded(os.getpid()),
    }
    found: list[float] = []
    with descriptors_for(300):
        for count in (30, 300):
            kept = await start(count)
            with Count() as counted:
                if what == "shutdown":
                    assert await aiopidfd.shutdown()
                else:
                    assert len(calls[what]()) == count
            found.append(counted.calls / count)
            assert await aiopidfd.shutdown()
            del kept
    check(*found)


async def test_a_shutdown_does_not_look_at_what_is_not_its_own() -> None:
    found = []
    strangers: list[aiopidfd.Child] = []
    with descriptors_for(300):
        try:
            for _ in range(2):
                kept = await start(1)
                with Count() as counted:
                    assert await aiopidfd.shutdown()
                del kept
                found.append(counted.calls)
                strangers += [aiopidfd.spawn(["sleep", "1000"]) for _ in range(200)]
        finally:
            for child in strangers:
                child.kill()
            for child in strangers:
                child.wait()
    few, many = found
    assert many < few + 200  # which is one call for each stranger


async def test_a_shutdown_finds_what_is_still_being_started() -> None:
    starts = [
        asyncio.create_task(aiopidfd.create_subprocess_exec("sleep", "1000")) for _ in range(40)
    ]
    await until(lambda: any(task.done() for task in starts))
    assert await aiopidfd.shutdown()
    results = await asyncio.gather(*starts, return_exceptions=True)
    assert {type(one) for one in results} <= {aiopidfd.Process, RuntimeError}
    assert not aiopidfd.running()
