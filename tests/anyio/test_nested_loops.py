"""A loop that runs inside of a task of another one: the inner one is the one that runs us."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import pytest
import trio

import aiopidfd
import aiopidfd.anyio
from aiopidfd._spawn.hub_of_each_loop import hub_of

from .. import fresh
from ..support import hang_guard

T = TypeVar("T")


async def guarded(call: Awaitable[T]) -> T:
    with hang_guard():
        return await call


async def by_exec() -> int:
    process = await aiopidfd.create_subprocess_exec("sh", "-c", "exit 3")
    return await process.wait()


async def by_fork() -> int:
    return await aiopidfd.run_in_fork(int, "3")


async def by_handle() -> int | None:
    with subprocess.Popen(["sh", "-c", "exit 3"]) as process:
        code = await aiopidfd.wait_pid(process.pid)
        process.returncode = code
    return code


async def cancelled() -> int:
    """In its grace it sleeps on the inner loop."""
    with pytest.raises(subprocess.TimeoutExpired):
        await aiopidfd.run_process("trap '' TERM; sleep 1000", timeout=0.1, grace=0.1)
    return 3


async def generated() -> AsyncIterator[int | None]:
    yield await by_handle()


async def by_generator() -> int | None:
    """A task of a coroutine that has no frame."""
    return await asyncio.ensure_future(anext(generated()))  # type: ignore[call-overload,no-any-return]


async def by_callback() -> int:
    """No task runs there."""
    prepared = asyncio.get_running_loop().create_future()

    def prepare() -> None:
        aiopidfd.prepare()
        prepared.set_result(hub_of(asyncio.get_running_loop()))

    asyncio.get_running_loop().call_soon(prepare)
    assert await prepared is not None
    return 3


@pytest.mark.parametrize(
    "call", [by_exec, by_fork, by_handle, by_generator, by_callback, cancelled]
)
def test_asyncio_in_a_task_of_trio(call: Callable[[], Awaitable[int]]) -> None:
    """As a library does that is not asynchronous outside."""

    async def body() -> None:
        assert asyncio.run(guarded(call())) == 3
        assert (await aiopidfd.anyio.run_process("exit 4", check=False)).returncode == 4

    trio.run(body)


def test_asyncio_in_a_task_of_trio_on_a_loop_of_ours() -> None:
    async def inner() -> int:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        return await process.wait()

    async def body() -> None:
        with asyncio.Runner(loop_factory=aiopidfd.EventLoop) as runner:
            assert runner.run(guarded(inner())) == 3

    trio.run(body)


def run_asyncio() -> int:
    return asyncio.run(guarded(by_exec()))


def test_asyncio_in_a_copy_that_a_task_of_trio_has_forked() -> None:
    assert trio.run(aiopidfd.run_in_fork, run_asyncio) == 3


def test_trio_in_a_task_of_asyncio() -> None:
    async def inner() -> int:
        code = (await aiopidfd.anyio.run_process("exit 3", check=False)).returncode
        assert await aiopidfd.run_in_fork(int, "4") == 4
        return code

    async def body() -> None:
        assert trio.run(inner) == 3
        assert await guarded(by_exec()) == 3

    asyncio.run(body())


def test_trio_as_a_guest_of_asyncio() -> None:
    async def guest() -> list[int]:
        codes: list[int] = []

        async def one(code: int) -> None:
            result = await aiopidfd.anyio.run_process(f"exit {code}", check=False)
            codes.append(result.returncode)

        async with trio.open_nursery() as nursery:
            for code in range(20):
                nursery.start_soon(one, code)
        return sorted(codes)

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        run = partial(aiopidfd.run_process, check=False)
        results = await asyncio.gather(*(run(f"exit {code}") for code in range(20)))
        assert [result.returncode for result in results] == [*range(20)]
        assert (await done).unwrap() == [*range(20)]

    asyncio.run(guarded(host()))


def test_a_worker_of_multiprocessing_that_a_task_of_trio_has_forked() -> None:
    fresh.run(
        """
        import multiprocessing, trio

        async def inner():
            process = await aiopidfd.create_subprocess_exec("sh", "-c", "exit 3")
            sys.exit(await process.wait())

        async def body():
            worker = multiprocessing.get_context("fork").Process(
                target=lambda: asyncio.run(inner()))
            worker.start()
            worker.join(60)
            assert worker.exitcode == 3

        trio.run(body)
        """
    )
