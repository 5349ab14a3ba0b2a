"""Context variables: whose context a loop keeps, and in whose the callbacks and the log are."""

import asyncio
import contextvars
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio

from ..support import hang_guard
from .test_loops import LOOPS as LOOPS  # those whose subprocess_exec() is ours

request_of: contextvars.ContextVar[Any] = contextvars.ContextVar("request_of")


class Request:
    def __init__(self, name: str) -> None:
        self.name = name


async def plain() -> None:
    process = await aiopidfd.create_subprocess_exec("true")
    assert await process.wait() == 0


async def by_anyio() -> None:
    await aiopidfd.anyio.run_process(["true"])


async def by_fork() -> None:
    assert await aiopidfd.run_in_fork(int) == 0


async def by_several_at_once() -> None:
    """More than there are turns for, so that a timer looks at them."""
    await asyncio.gather(*(aiopidfd.run_process("sleep 0.1") for _ in range(40)))


@pytest.mark.parametrize("name", [*LOOPS])
@pytest.mark.parametrize("call", [plain, by_anyio, by_fork, by_several_at_once])
def test_no_request_is_kept_when_it_is_over(call: Callable[[], Awaitable[None]], name: str) -> None:
    async def handle() -> "weakref.ref[Request]":
        request = Request("first")
        request_of.set(request)
        await call()
        return weakref.ref(request)

    async def body() -> None:
        with hang_guard():
            requests = [await asyncio.create_task(handle()) for _ in range(2)]
            await asyncio.sleep(0.6)  # longer than the timer that looks at starts
            gc.collect()
            assert [request() for request in requests] == [None] * 2

    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:  # one that has started nothing yet
        runner.run(body())


async def test_each_protocol_is_told_in_its_own_context() -> None:
    told: list[tuple[str, str, str]] = []

    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self, name: str) -> None:
            self.name = name
            self.done = asyncio.get_running_loop().create_future()

        def tell(self, what: str) -> None:
            told.append((self.name, what, request_of.get()))

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.tell("made")

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            self.tell("data")

        def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
            self.tell("pipe lost")

        def process_exited(self) -> None:
            self.tell("exited")

        def connection_lost(self, exc: Exception | None) -> None:
            self.tell("lost")
            self.done.set_result(None)

    async def handle(name: str) -> None:
        request_of.set(name)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(lambda: Protocol(name), "echo", "x")
        await protocol.done
        transport.close()

    with hang_guard():
        for name in ("first", "second"):
            await asyncio.create_task(handle(name))
    assert {what for _, what, _ in told} == {"made", "data", "pipe lost", "exited", "lost"}
    assert [entry for entry in told if entry[0] != entry[2]] == []


@pytest.fixture
def said() -> Iterator[list[tuple[str, str]]]:
    records: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append((request_of.get("nobody"), record.event))  # type: ignore[attr-defined]

    handler, logger = Handler(), logging.getLogger("aiopidfd")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield records
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


async def test_the_log_is_written_in_the_context_of_the_start(said: list[tuple[str, str]]) -> None:
    async def handle(name: str) -> None:
        request_of.set(name)
        await aiopidfd.run_process(["true"])

    for name in ("alice", "bob"):
        await asyncio.create_task(handle(name))
    assert said == [(name, what) for name in ("alice", "bob") for what in ("start", "exit")]
