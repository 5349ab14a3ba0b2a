"""Loops that are run in unusual ways: in debug mode, with eager tasks, one within another."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PIPE

from ..support import sh

Factory = Callable[[], asyncio.AbstractEventLoop]
factories = pytest.mark.parametrize("factory", [aiopidfd.EventLoop, aiopidfd.UvloopEventLoop])


async def everything() -> None:
    """By our functions, and by asyncio's on our loops."""
    async with asyncio.timeout(60):
        assert (await aiopidfd.run_process(["cat"], input=b"x" * 300_000)).stdout == b"x" * 300_000
        with pytest.raises(aiopidfd.TimeoutExpired):
            await aiopidfd.run_process(["sleep", "1000"], timeout=0.05)
        with pytest.raises(FileNotFoundError):
            await aiopidfd.run_process(["/no/such"])
        process: Any
        for start in (aiopidfd.create_subprocess_exec, asyncio.create_subprocess_exec):
            process = await start(*sh("read x; echo $x; exit 3"), stdin=PIPE, stdout=PIPE)
            assert await process.communicate(b"x\n") == (b"x\n", None)
            assert process.returncode == 3
        many = [aiopidfd.run_process(["echo", str(n)]) for n in range(20)]
        results = await asyncio.gather(*many)
        assert [int(result.stdout) for result in results] == [*range(20)]
        task = asyncio.create_task(aiopidfd.run_process(["sleep", "1000"], grace=0))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@factories
def test_debug_mode(factory: Factory, caplog: pytest.LogCaptureFixture) -> None:
    with asyncio.Runner(debug=True, loop_factory=factory) as runner:
        runner.run(everything())
    said = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    # It tells of slow callbacks, on a busy machine, and of nothing else.
    assert not [text for text in said if "took" not in text]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks: Python 3.12")
def test_eager_tasks() -> None:
    """On asyncio's loop: uvloop hands that factory what Python 3.13's does not take."""

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await everything()

    with asyncio.Runner(loop_factory=aiopidfd.EventLoop) as runner:
        runner.run(main())


@factories
def test_a_loop_within_a_loop(factory: Factory) -> None:
    """As nest_asyncio or a notebook does it, and in a thread of its own."""

    def inner() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(everything())

    def within() -> None:
        outer = asyncio.events._get_running_loop()
        asyncio.events._set_running_loop(None)
        try:
            loop = factory()
            try:
                loop.run_until_complete(aiopidfd.run_process(["true"]))
            finally:
                loop.close()
        finally:
            asyncio.events._set_running_loop(outer)

    async def main() -> None:
        process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        await asyncio.to_thread(inner)
        if sys.version_info < (3, 14):  # from then on asyncio allows one current task for a thread
            within()
        assert await process.communicate(b"x") == (b"x", None)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
