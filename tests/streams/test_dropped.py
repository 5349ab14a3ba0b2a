"""Streams that nobody has any more: their pipes are closed, although a grandchild holds them."""

import asyncio
import contextlib
import gc
import os
import re
import resource
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE, PTY

from ..anyio_support import Backend, backends
from ..census import open_fds
from ..support import HOLD_STDOUT, gate, hang_guard, sh, turns, until, warnings_given


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


async def start(script: str, **options: Any) -> Any:
    return await aiopidfd.create_subprocess_exec(*sh(script), **options)


def file_of(stream: Any) -> str:
    """What its descriptor refers to: a pipe's own name."""
    stream = getattr(stream, "buffer", stream)
    fd = stream.fileno() if hasattr(stream, "fileno") else stream.transport.fileno()
    return os.readlink(f"/proc/self/fd/{fd}")


def is_closed(file: str) -> bool:
    return file not in open_fds().values()


def unclosed(given: list[tuple[type[Warning], str]]) -> list[str]:
    """The kinds of what was not closed."""
    assert {category for category, _ in given} <= {ResourceWarning}
    found = [re.fullmatch(r"unclosed <(\w+) open fd=\d+>", text) for _, text in given]
    return [match[1] for match in found if match]


@pytest.mark.parametrize("options", [{}, {"text": True}, {"limit": 1}], ids=str)
async def test_a_process_with_a_grandchild(options: dict[str, Any]) -> None:
    with gate() as (read, _, _), warnings_given() as given:
        process = await start(
            HOLD_STDOUT + "echo 123", stdin=read, stdout=PIPE, stderr=PIPE, **options
        )
        await process.wait()
        await turns()
        files = file_of(process.stdout), file_of(process.stderr)
        del process
        gc.collect()
        await until(lambda: all(map(is_closed, files)))
        assert unclosed(given) == ["ReadPipe", "ReadPipe"]


async def test_a_reader_that_nobody_reads_any_more() -> None:
    """It is full, and so the loop does not know of it."""
    with gate() as (read, _, write), warnings_given() as given:
        process = await start(HOLD_STDOUT, stdin=read, stdout=PIPE, limit=10)
        os.write(write, bytes(100))
        while not process.stdout._paused:
            await asyncio.sleep(0.001)
        await process.wait()
        file = file_of(process.stdout)
        del process
        gc.collect()
        await until(lambda: is_closed(file))
        assert unclosed(given) == ["ReadPipe"]


async def test_a_writer_whose_pipe_a_grandchild_reads() -> None:
    """What was written still goes out, and then the end of file."""
    with gate() as (read, _, write), warnings_given() as given:
        process = await start(
            f"exec 3<&0; wc -c <&3 >/dev/fd/{write} & ", stdin=PIPE, pass_fds=[write]
        )
        process.stdin.write(bytes(1_000_000))
        await process.wait()
        file = file_of(process.stdin)
        del process
        gc.collect()
        await until(lambda: is_closed(file))
        assert unclosed(given) == ["WritePipe"]
        assert (await asyncio.to_thread(os.read, read, 100)).strip() == b"1000000"


async def test_a_writer_that_was_closed_may_be_dropped() -> None:
    with gate() as (read, _, write), warnings_given() as given:
        process = await start(
            f"exec 3<&0; wc -c <&3 >/dev/fd/{write} & ", stdin=PIPE, pass_fds=[write]
        )
        process.stdin.write(bytes(1_000_000))
        process.stdin.close()
        await process.wait()
        del process
        gc.collect()
        assert (await asyncio.to_thread(os.read, read, 100)).strip() == b"1000000"
        assert given == []


async def test_a_terminal() -> None:
    with gate() as (read, _, _), warnings_given() as given:
        process = await start(
            f"trap '' HUP; cat </dev/fd/{read} & ", stdin=PTY, stdout=PTY, pass_fds=[read]
        )
        await process.wait()
        ends = process.stdin.transport, process.stdout.transport, process._terminal
        del process
        gc.collect()
        await until(lambda: all(end.fileno() < 0 for end in ends))
        assert sorted(unclosed(given)) == ["TerminalReader", "TerminalWriter"]


async def test_a_communicate_that_was_cancelled() -> None:
    with gate() as (read, _, _), warnings_given() as given:
        process = await start(HOLD_STDOUT, stdin=read, stdout=PIPE)
        task = asyncio.create_task(process.communicate(drain=None))
        await process.wait()
        await turns()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        file = file_of(process.stdout)
        del process, task
        gc.collect()
        await until(lambda: is_closed(file))
        assert unclosed(given) == ["ReadPipe"]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_member_of_a_task_group(waits: bool) -> None:
    """It closes its pipe at the end, as in aiopidfd.anyio; what was written can be read."""
    script = "read x; " + HOLD_STDOUT + "echo here"
    with gate() as (read, _, write), warnings_given() as given:
        async with asyncio.TaskGroup() as group:
            process = await aiopidfd.start_in(group, sh(script), stdin=read, stdout=PIPE)
            assert process.stdout is not None
            file = file_of(process.stdout)
            reading = group.create_task(process.stdout.read()) if waits else None
            await turns()
            os.write(write, b"\n")
        assert is_closed(file)
        assert await (reading or process.stdout.read()) == b"here\n"
        assert given == []


async def test_a_member_of_a_task_group_that_nobody_has() -> None:
    with gate() as (read, _, _), warnings_given() as given:
        await aiopidfd.supervise(sh(HOLD_STDOUT), stdin=read, stdout=PIPE)
        gc.collect()
        assert given == []


async def test_one_stream_alone() -> None:
    """The reader is all that is left of the process."""
    with gate() as (read, release, write), warnings_given() as given:
        process = await start(HOLD_STDOUT, stdin=read, stdout=PIPE, stderr=PIPE)
        await process.wait()
        out, file = process.stdout, file_of(process.stderr)
        del process
        gc.collect()
        await until(lambda: is_closed(file))
        assert unclosed(given) == ["ReadPipe"]
        os.write(write, b"one\ntwo\n")
        assert await out.readline() == b"one\n"
        lines = out.lines()
        del out
        gc.collect()
        await turns()
        assert await anext(lines) == b"two\n"
        release()
        assert [line async for line in lines] == []


READS: dict[str, Callable[[Any], Any]] = {
    "read": lambda reader: reader.read(),
    "read(n)": lambda reader: reader.read(100),
    "readline": lambda reader: reader.readline(),
    "readexactly": lambda reader: reader.readexactly(5),
    "lines": lambda reader: anext(reader.lines()),
}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("name", READS)
async def test_a_reader_that_somebody_awaits(name: str, text: bool) -> None:
    """Even if the loop alone knows of who awaits it."""
    seen: list[Any] = []

    async def wait_for(reader: Any) -> None:
        coroutine = READS[name](reader)
        del reader
        seen.extend([await coroutine, [*given]])  # it may be dropped from now on

    with gate() as (read, release, write), warnings_given() as given:
        process = await start(HOLD_STDOUT, stdin=read, stdout=PIPE, text=text)
        await process.wait()
        asyncio.get_running_loop().call_soon(asyncio.create_task, wait_for(process.stdout))
        await turns()
        del process
        gc.collect()
        await turns()
        os.write(write, b"here\n")
        release()
        await until(lambda: seen)
    assert seen == ["here\n" if text else b"here\n", []]


@pytest.mark.parametrize("script", ["exit", "echo 123"])
async def test_where_no_descriptor_is_to_be_had(script: str) -> None:
    """poll(2) refuses to tell whether another process has the other end."""
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    before = open_fds()
    process = await start(script, stdin=PIPE, stdout=PIPE, limit=1)
    await process.wait()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        del process
        gc.collect()
        await turns()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert open_fds() == before
    assert not failures


async def test_a_pipe_that_has_another_protocol() -> None:
    """Who gives the transport a protocol of his own has the pipe, and the reader has not."""
    received = bytearray()

    class Own(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.extend(data)

    with gate() as (read, release, write), warnings_given() as given:
        process = await start(HOLD_STDOUT, stdin=read, stdout=PIPE)
        await process.wait()
        file = file_of(process.stdout)
        process.stdout.transport.set_protocol(Own())
        del process
        gc.collect()
        await turns()
        os.write(write, b"here\n")
        await until(lambda: received)
        release()
        await until(lambda: is_closed(file))
    assert (received, given) == (b"here\n", [])


async def test_collected_in_another_thread() -> None:
    """A destructor may run anywhere; the loop is called in its own thread."""
    with gate() as (read, _, _), warnings_given():
        process = await start(HOLD_STDOUT, stdin=read, stdout=PIPE)
        await process.wait()
        file = file_of(process.stdout)
        held = [process]
        del process
        await asyncio.to_thread(held.clear)
        gc.collect()
        await until(lambda: is_closed(file))


def test_dropped_with_the_loop() -> None:
    """In its last turn: the loop closes, and takes the pipe with it."""
    with gate() as (read, _, _), warnings_given() as given:

        async def main() -> str:
            process = await start(HOLD_STDOUT, stdin=read, stdout=PIPE)
            await process.wait()
            return file_of(process.stdout)

        file = asyncio.run(main())
        gc.collect()
        assert is_closed(file)
        assert unclosed(given) == ["ReadPipe"]


@backends("asyncio", "uvloop", "trio")
def test_on_anyio(backend: Backend) -> None:
    async def main() -> None:
        with gate() as (read, _, _), warnings_given() as given:
            process = await aiopidfd.anyio.open_process(sh(HOLD_STDOUT), stdin=read)
            await process.wait()
            files = file_of(process.stdout), file_of(process.stderr)
            del process
            gc.collect()
            assert all(map(is_closed, files))
            assert unclosed(given) == ["ReceivePipe", "ReceivePipe"]

    backend.run(main)
