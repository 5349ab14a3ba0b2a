"""Two tasks that read one stream: the second is refused, in asyncio's words."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE, PTY

from ..anyio_support import Backend, backends
from ..support import gate, hang_guard, sh, turns, until

Read = Callable[[Any], Awaitable[Any]]

READS: dict[str, Read] = {
    "read": lambda process: process.stdout.read(),
    "read(n)": lambda process: process.stdout.read(100),
    "readline": lambda process: process.stdout.readline(),
    "readuntil": lambda process: process.stdout.readuntil(),
    "readexactly": lambda process: process.stdout.readexactly(3),
    "async for": lambda process: anext(process.stdout),
    "communicate": lambda process: process.communicate(),
}
OURS: dict[str, Read] = {
    "lines": lambda process: anext(process.stdout.lines()),
    "next_line": lambda process: process.stdout.next_line(),
    "communicate with a limit": lambda process: process.communicate(output_limit=100),
}
TEXT = {name: read for name, read in READS.items() if name != "async for"} | {
    "lines": OURS["lines"],
    "async for": lambda process: anext(aiter(process.stdout)),
}
ALREADY = "called while another coroutine is already waiting for incoming data"


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


async def told(read: Awaitable[Any]) -> Any:
    """What it returns, or the text of its error."""
    try:
        return await read
    except RuntimeError as exc:
        return str(exc)


async def both(start: Any, first: Read, second: Read, **options: Any) -> tuple[Any, Any]:
    """What a task that waits and one that comes later get of "one\\n"."""
    with gate() as (read, release, write):
        process = await start(*sh("exec cat"), stdin=read, stdout=PIPE, **options)
        task = asyncio.create_task(told(first(process)))
        await turns()
        later = asyncio.create_task(told(second(process)))
        await turns()
        os.write(write, b"one\n")
        release()
        seen = await task, await later
        await process.wait()
    return seen


@pytest.mark.parametrize("second", READS)
@pytest.mark.parametrize("first", READS)
async def test_as_in_asyncio(first: str, second: str) -> None:
    pair = READS[first], READS[second]
    theirs = await both(asyncio.create_subprocess_exec, *pair)
    assert await both(aiopidfd.create_subprocess_exec, *pair) == theirs
    assert ALREADY in theirs[1]


@pytest.mark.parametrize("second", OURS | READS)
@pytest.mark.parametrize("first", OURS | READS)
async def test_what_asyncio_lacks(first: str, second: str) -> None:
    pair = (OURS | READS)[first], (OURS | READS)[second]
    seen = await both(aiopidfd.create_subprocess_exec, *pair)
    assert "one" in repr(seen[0]) or seen[0] == (b"one\n", None)
    assert ALREADY in seen[1]


@pytest.mark.parametrize("second", TEXT)
@pytest.mark.parametrize("first", TEXT)
async def test_text(first: str, second: str) -> None:
    seen = await both(aiopidfd.create_subprocess_exec, TEXT[first], TEXT[second], text=True)
    assert seen[0] in ("one\n", "one", ("one\n", None))
    assert ALREADY in seen[1]


async def test_a_terminal() -> None:
    process: Any = await aiopidfd.create_subprocess_exec("cat", stdin=PTY, stdout=PTY)
    task = asyncio.create_task(process.stdout.readline())
    await turns()
    with pytest.raises(RuntimeError, match=ALREADY):
        await process.stdout.read()
    process.stdin.write(b"one\n")
    assert await task == b"one\r\n"
    await process.aclose(grace=0)


async def test_one_that_was_woken_and_one_that_was_faster() -> None:
    """The first waits on: nothing is not the end."""
    with gate() as (read, release, write):
        process: Any = await aiopidfd.create_subprocess_exec("cat", stdin=read, stdout=PIPE)
        first = asyncio.create_task(process.stdout.read(100))
        await turns()
        process.stdout.feed_data(b"faster")  # as the pipe does it; the first task runs later
        assert await process.stdout.read(100) == b"faster"
        await turns()
        os.write(write, b"slower")
        assert await first == b"slower"
        release()
        await process.wait()


async def test_a_refused_communicate_has_done_nothing() -> None:
    """It has sent no input, closed nothing and set no limit."""
    process: Any = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    for options in ({}, {"output_limit": 1}):
        task = asyncio.create_task(process.stdout.read())
        await turns()
        with pytest.raises(RuntimeError, match=ALREADY):
            await process.communicate(b"refused", **options)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert not process.stdin.is_closing()
    assert await process.communicate(b"input") == (b"input", None)


async def test_output_that_ended_before_the_program_did() -> None:
    """It belongs to who waits for it."""
    with gate() as (read, release, _):
        process: Any = await aiopidfd.create_subprocess_exec(
            *sh("echo here; exec >&-; read x"), stdin=read, stdout=PIPE
        )
        task = asyncio.create_task(process.communicate())
        await until(process.stdout.is_closing)
        with pytest.raises(RuntimeError, match=ALREADY):
            await process.stdout.read()
        release()
        assert await task == (b"here\n", None)


@backends("asyncio", "uvloop", "trio")
def test_anyio(backend: Backend) -> None:
    async def main() -> None:
        async with (
            await aiopidfd.anyio.open_process("cat", stderr=None) as process,
            anyio.create_task_group() as tg,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            tg.start_soon(process.stdout.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError, match="reading from this resource"):
                await process.stdout.receive()
            tg.start_soon(process.stdin.send, bytes(1_000_000))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError, match="writing to this resource"):
                await process.stdin.send(b"more")
            process.kill()
            tg.cancel_scope.cancel()

    backend.run(main)
