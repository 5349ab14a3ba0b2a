"""The streams beyond asyncio's: lines without limit, no loss, back-pressure, bounded draining."""

import asyncio
import fcntl
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PIPE, PipeReader, Process
from aiopidfd._spawn.run_arguments import DRAIN
from aiopidfd._streams.pipe_reader import OutputReader

from ..support import (
    HOLD_STDOUT,
    LOOPS,
    capacity,
    gate,
    hang_guard,
    held_by_pipe,
    sh,
    turns,
    until,
    warnings_given,
)

CHUNK = 64 * 1024


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


async def start(*command: str, **options: Any) -> Any:
    options = {"stdin": PIPE, "stdout": PIPE} | options
    return await aiopidfd.create_subprocess_exec(*command, **options)


async def cat(**options: Any) -> Any:
    return await start("cat", **options)


async def finish(process: Process) -> None:
    """The end of a test: what is left on stdout is none of its business."""
    if process.stdin is not None:
        process.stdin.close()
    if process.stdout is not None:
        process.stdout.close()
    await process.wait()


def buffered(reader: PipeReader) -> int:
    gathered = 0 if reader._gathered is None else reader._gathered.getbuffer().nbytes
    return len(reader._buffer) + gathered


async def test_what_a_big_pipe_holds_is_taken_although_somebody_waits_for_data() -> None:
    """At the exit our end is closed. The reader is empty then, and its limit smaller than that."""
    read, write = os.pipe()
    size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
    output = OutputReader(asyncio.get_running_loop(), read, 2**16)
    task = asyncio.create_task(output.reader.read(1))
    await turns(2)
    assert os.write(write, b"x" * size) == size
    os.close(write)
    output.close_after_exit()
    assert await task == b"x"
    assert len(await output.reader.read()) == size - 1


# PipeReader.close()


async def test_close_gives_the_child_a_broken_pipe() -> None:
    process = await start("yes")
    assert await process.stdout.readline() == b"y\n"
    assert not process.stdout.is_closing()
    process.stdout.close()
    assert process.stdout.is_closing()
    assert await process.wait() == -signal.SIGPIPE
    process.stdout.close()  # once more does nothing
    process.stdin.close()


async def test_close_ends_a_waiting_read() -> None:
    process = await cat()
    task = asyncio.create_task(process.stdout.readline())
    await turns()
    process.stdout.close()
    assert await task == b""
    assert await process.stdout.read() == b""
    assert process.stdout.at_eof()
    await finish(process)


async def test_close_ends_communicate() -> None:
    """With what had come until then; communicate() still waits for the exit."""
    with gate() as (read, release, _):
        process = await start(*sh("echo first; read x; exit 3"), stdin=read)
        task = asyncio.create_task(process.communicate())
        await until(lambda: buffered(process.stdout) == 6)
        process.stdout.close()
        await turns()
        assert not task.done()
        release()
        assert await task == (b"first\n", None)
        assert process.returncode == 3


async def test_close_keeps_what_was_read() -> None:
    process = await cat()
    process.stdin.write(b"one\ntwo")
    await until(lambda: buffered(process.stdout) == 7)
    process.stdout.close()
    assert await process.stdout.readline() == b"one\n"
    assert await process.stdout.read() == b"two"
    await finish(process)


async def test_close_while_paused() -> None:
    process = await start("yes", limit=10)
    await until(lambda: process.stdout._paused)
    process.stdout.close()
    assert await process.wait() == -signal.SIGPIPE
    process.stdin.close()


# lines()


async def test_lines() -> None:
    process = await start("printf", r"one\n\ntwo\r\nlast", stdin=None)
    assert [line async for line in process.stdout.lines()] == [b"one\n", b"\n", b"two\r\n", b"last"]
    assert [line async for line in process.stdout.lines()] == []
    assert await process.wait() == 0


async def test_a_line_of_ten_mebibytes() -> None:
    size = 10 * 1024 * 1024
    script = f"echo first; head -c {size} /dev/zero; echo; echo last"
    process = await start(*sh(script), stdin=None, limit=100)
    lines = [line async for line in process.stdout.lines()]
    assert [len(line) for line in lines] == [6, size + 1, 5]
    assert lines[1] == bytes(size) + b"\n"
    assert await process.wait() == 0


async def test_many_lines() -> None:
    process = await start("seq", "100000", stdin=None, limit=1000)
    numbers = [int(line) async for line in process.stdout.lines()]
    assert numbers == list(range(1, 100_001))
    assert await process.wait() == 0


async def test_a_line_cancelled_in_its_middle_is_not_lost() -> None:
    process = await cat()

    async def all_lines() -> None:
        async for line in process.stdout.lines():
            seen.append(line)  # noqa: PERF401 - it shall survive the cancellation

    seen: list[bytes] = []
    process.stdin.write(b"whole\nhalf")
    task = asyncio.create_task(all_lines())
    await until(lambda: seen and buffered(process.stdout) == 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    process.stdin.write(b" and half\nlast")
    process.stdin.close()
    await all_lines()
    assert seen == [b"whole\n", b"half and half\n", b"last"]
    assert await process.wait() == 0


async def test_lines_left_early_and_mixed_with_other_reads() -> None:
    process = await start("printf", r"one\ntwo\n3456seven;eight\nnine\nrest", stdin=None)
    stdout = process.stdout
    async for line in stdout.lines():
        assert line == b"one\n"
        break
    assert await stdout.readline() == b"two\n"
    assert await stdout.readexactly(2) == b"34"
    assert await stdout.read(2) == b"56"
    assert await stdout.readuntil(b";") == b"seven;"
    assert await stdout.next_line() == b"eight\n"
    async for line in stdout:
        assert line == b"nine\n"
        break
    assert await stdout.read() == b"rest"
    assert await stdout.next_line() == b""
    assert await process.wait() == 0


async def test_lines_beyond_the_limit_do_not_spoil_readline() -> None:
    """Where readline() fails for its limit, lines() takes the same line."""
    process = await cat(limit=50)
    process.stdin.write(b"x" * 200 + b"\nshort\n")
    assert await process.stdout.next_line() == b"x" * 200 + b"\n"
    assert await process.stdout.readline() == b"short\n"
    await finish(process)


async def test_two_readers_of_lines_are_refused() -> None:
    process = await cat()
    task = asyncio.create_task(process.stdout.next_line())
    await turns()
    with pytest.raises(RuntimeError, match="another coroutine"):
        await process.stdout.next_line()
    with pytest.raises(RuntimeError, match="another coroutine"):
        await process.stdout.read()
    process.stdin.write(b"line\n")
    assert await task == b"line\n"
    await finish(process)


async def test_a_line_while_another_task_reads_to_the_end_is_refused() -> None:
    process = await cat()
    task = asyncio.create_task(process.stdout.read())
    await turns()
    with pytest.raises(RuntimeError, match="already waiting for incoming data"):
        await process.stdout.next_line()
    with pytest.raises(RuntimeError, match="already waiting for incoming data"):
        await process.stdout.readexactly(1)
    process.stdin.write(b"all")
    process.stdin.close()
    assert await task == b"all"
    assert await process.wait() == 0


# Cancelled reads lose nothing


async def test_a_cancelled_read_to_the_end_loses_nothing() -> None:
    process = await cat()
    process.stdin.write(b"first ")
    task = asyncio.create_task(process.stdout.read())
    await until(lambda: buffered(process.stdout) == 6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await process.stdout.read(2) == b"fi"
    process.stdin.write(b"second")
    process.stdin.close()
    assert await process.stdout.read() == b"rst second"
    assert await process.wait() == 0


async def test_a_read_to_the_end_that_is_cancelled_again_and_again() -> None:
    """At every turn of the loop: the data come whole and in order."""
    data = os.urandom(2_000_000)
    process = await cat(limit=1000)
    process.stdin.write(data)
    process.stdin.close()
    cancelled = 0
    while True:
        task = asyncio.create_task(process.stdout.read())
        await turns(5)
        if task.done():
            break
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
            assert buffered(process.stdout) <= len(data)
        else:
            break
    assert task.result() == data
    assert cancelled > 0
    assert await process.wait() == 0


async def test_after_a_cancelled_read_the_limit_counts_again() -> None:
    process = await start("yes", stdin=None, limit=1000)
    task = asyncio.create_task(process.stdout.read())
    await until(lambda: buffered(process.stdout) > 500_000)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: held_by_pipe(process.stdout._pipe.fileno()) > 0 and process.stdout._paused)
    size = buffered(process.stdout)
    await turns()
    assert buffered(process.stdout) == size
    await finish(process)


@pytest.mark.parametrize("what", ["readexactly", "readuntil", "read"])
async def test_other_cancelled_reads_lose_nothing(what: str) -> None:
    process = await cat()
    reads = {
        "readexactly": lambda: process.stdout.readexactly(10),
        "readuntil": lambda: process.stdout.readuntil(b"!"),
        "read": lambda: process.stdout.read(100),
    }
    if what != "read":  # which takes what there is
        process.stdin.write(b"12345")
        await until(lambda: buffered(process.stdout) == 5)
    task = asyncio.create_task(reads[what]())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if what == "read":
        process.stdin.write(b"12345")
    process.stdin.write(b"6789!")
    process.stdin.close()
    assert await process.stdout.read() == b"123456789!"
    assert await process.wait() == 0


# Back-pressure


async def test_a_reader_that_does_not_read_lets_the_child_wait() -> None:
    limit = 10_000
    process = await start("yes", stdin=None, limit=limit)
    fd = process.stdout._pipe.fileno()
    # Once the pipe is full and not being read, `yes` sleeps in its write.
    await until(lambda: process.stdout._paused and held_by_pipe(fd) > capacity(fd) - 4096)
    size = buffered(process.stdout)
    assert size <= 2 * limit + 4 * CHUNK
    await turns()
    assert buffered(process.stdout) == size

    # And on it goes, with the buffer bounded all the while.
    total, most = 0, 0
    while total < 20_000_000:
        data = await process.stdout.read(5000)
        assert data.strip(b"y\n") == b""
        total += len(data)
        most = max(most, buffered(process.stdout))
    assert most <= 2 * limit + 4 * CHUNK
    assert await process.stdout.readexactly(2 - total % 2) in (b"y\n", b"\n")
    await finish(process)
    assert process.returncode == -signal.SIGPIPE


async def test_slow_lines_keep_the_back_pressure() -> None:
    process = await start("yes", stdin=None, limit=1000)
    most = count = 0
    async for line in process.stdout.lines():
        assert line == b"y\n"
        count += 1
        most = max(most, buffered(process.stdout))
        if count == 200_000:
            break
    assert most <= 2000 + 4 * CHUNK
    await finish(process)


async def test_one_loud_child_does_not_starve_the_loop() -> None:
    """While `yes` is read as fast as can be, timers and other children have their turn."""
    loud = await start("yes", stdin=None)
    task = asyncio.create_task(loud.stdout.read())
    quiet = await start(*sh("echo here"), stdin=None)
    assert await quiet.communicate() == (b"here\n", None)
    await asyncio.sleep(0.001)
    assert not task.done()
    loud.kill()
    await task
    assert await loud.wait() == -signal.SIGKILL


async def test_drain_blocks_until_the_child_reads() -> None:
    data = os.urandom(1_000_000)
    script = 'trap "exec cat" USR1; echo ready; while :; do sleep 0.01; done'
    process = await start(*sh(script))
    assert await process.stdout.readline() == b"ready\n"
    process.stdin.write(b"x")
    await process.stdin.drain()  # far from full: no wait
    process.stdin.write(data)
    task = asyncio.create_task(process.stdin.drain())
    await turns()
    assert not task.done()
    transport = process.stdin.transport
    waiting = held_by_pipe(transport.fileno()) + transport.get_write_buffer_size()
    assert waiting == len(data) + 1
    process.send_signal(signal.SIGUSR1)
    reading = asyncio.create_task(process.stdout.read())
    await task
    assert transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[0]
    process.stdin.close()
    assert await reading == b"x" + data
    assert await process.wait() == 0


async def test_many_drains_wake_together() -> None:
    process = await cat()
    process.stdin.write(bytes(2_000_000))
    drains = [asyncio.create_task(process.stdin.drain()) for _ in range(5)]
    await turns()
    drains[2].cancel()
    reading = asyncio.create_task(process.stdout.read())
    results = await asyncio.gather(*drains, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        asyncio.CancelledError,
        type(None),
        type(None),
    ]
    process.stdin.close()
    assert await reading == bytes(2_000_000)
    assert await process.wait() == 0


async def test_write_buffer_limits_count() -> None:
    process = await start("sleep", "60", stdout=None)
    transport = process.stdin.transport
    transport.set_write_buffer_limits(high=100, low=10)
    process.stdin.write(bytes(capacity(transport.fileno())))  # the pipe is full, the buffer empty
    assert transport.get_write_buffer_size() == 0
    process.stdin.write(bytes(100))
    await process.stdin.drain()  # at the mark, not above
    process.stdin.write(b"x")
    task = asyncio.create_task(process.stdin.drain())
    await turns()
    assert not task.done()
    transport.set_write_buffer_limits(high=1000, low=200)  # now it is little
    await task
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    process.stdin.transport.abort()


async def test_abort_drops_what_was_not_written() -> None:
    process = await start(*sh('trap "wc -c; exit" USR1; echo ready; while :; do sleep 0.01; done'))
    assert await process.stdout.readline() == b"ready\n"
    size = capacity(process.stdin.transport.fileno())
    process.stdin.write(bytes(1_000_000))
    process.stdin.transport.abort()
    assert process.stdin.is_closing()
    assert process.stdin.transport.get_write_buffer_size() == 0
    process.send_signal(signal.SIGUSR1)
    out, _ = await process.communicate()
    assert int(out) == size


# Writing


async def test_megabytes_through_cat() -> None:
    data = os.urandom(8 * 1024 * 1024)
    process = await cat()
    assert await process.communicate(data) == (data, None)


async def test_many_small_writes_keep_their_order() -> None:
    """More buffers than one writev() takes."""
    parts = [f"{number}\n".encode() for number in range(50_000)]
    process = await cat()
    for part in parts:
        process.stdin.write(part)
    process.stdin.close()
    assert await process.stdout.read() == b"".join(parts)
    assert await process.wait() == 0


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_what_is_written_may_be_changed_afterwards(kind: Any) -> None:
    source = bytearray(os.urandom(1_000_000))
    before = bytes(source)
    process = await cat()
    process.stdin.write(source if kind is bytearray else memoryview(source))
    assert process.stdin.transport.get_write_buffer_size() > 0  # so something could be changed
    source[:] = bytes(len(source))
    source.clear()  # no export of it is held
    process.stdin.close()
    assert await process.stdout.read() == before
    assert await process.wait() == 0


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_input_may_be_any_bytes(kind: Any) -> None:
    data = os.urandom(300_000)
    process = await cat()
    assert await process.communicate(kind(data)) == (data, None)
    result = await aiopidfd.run_process(["cat"], input=kind(data))
    assert result.stdout == data


async def test_a_memoryview_of_larger_items() -> None:
    data = bytes(range(200)) * 2000
    process = await cat()
    process.stdin.write(memoryview(data).cast("I"))
    process.stdin.close()
    assert await process.stdout.read() == data
    assert await process.wait() == 0


# communicate()


async def test_a_cancelled_communicate_loses_nothing() -> None:
    process = await start(*sh("cat; echo done >&2"), stderr=PIPE)
    data = os.urandom(2_000_000)
    task = asyncio.create_task(process.communicate(data))
    await until(lambda: buffered(process.stdout) > 0, turn=0)  # 2 MB take several turns
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await process.communicate() == (data, b"done\n")


async def test_a_communicate_that_is_cancelled_again_and_again() -> None:
    data = os.urandom(2_000_000)
    process = await cat()
    task = asyncio.create_task(process.communicate(data))
    cancelled = 0
    while True:
        await turns(5)
        task.cancel()
        try:
            out, _ = await task
        except asyncio.CancelledError:
            cancelled += 1
            task = asyncio.create_task(process.communicate())
        else:
            break
    assert out == data
    assert cancelled > 0


async def test_after_a_cancelled_communicate_the_streams_go_on() -> None:
    with gate() as (read, release, _):
        process = await start(*sh("echo one; echo two; read x; echo three"), stdin=read)
        task = asyncio.create_task(process.communicate())
        await until(lambda: buffered(process.stdout) == 8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await process.stdout.readline() == b"one\n"
        release()
        assert await process.communicate() == (b"two\nthree\n", None)


async def test_input_for_the_second_time_is_refused() -> None:
    process = await cat()
    task = asyncio.create_task(process.communicate(b"first"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ValueError, match="Cannot send input after starting communication"):
        await process.communicate(b"second")
    assert await process.communicate() == (b"first", None)


async def test_communicate_twice() -> None:
    process = await start("echo", "x", stdin=None)
    assert await process.communicate() == (b"x\n", None)
    assert await process.communicate() == (b"", None)


# A grandchild that holds the pipe


async def test_wait_returns_although_a_grandchild_holds_the_pipe() -> None:
    with gate() as (read, release, _):
        process = await start(*sh(HOLD_STDOUT + "echo here; exit 3"), stdin=read)
        assert await process.wait() == 3
        assert await process.stdout.readline() == b"here\n"
        assert not process.stdout.at_eof()
        release()
        assert await process.stdout.read() == b""


async def test_communicate_gives_up_on_a_grandchild() -> None:
    with gate() as (read, _, _):
        process = await start(*sh(HOLD_STDOUT + "echo here"), stdin=read)
        assert await process.communicate(drain=0.05) == (b"here\n", None)
        assert await process.communicate(drain=0) == (b"", None)
        process.stdout.close()


async def test_all_that_the_program_wrote_is_there_without_any_drain() -> None:
    """A megabyte, a pipe enlarged to hold it, and no time to read on after the exit."""
    with gate() as (read, _, _):
        process = await start(
            *sh(HOLD_STDOUT + "head -c 1000000 /dev/zero; echo end"), stdin=read, pipesize=1 << 20
        )
        out, _ = await process.communicate(drain=0)
        assert out == bytes(1_000_000) + b"end\n"
        process.stdout.close()


@pytest.mark.heavy
async def test_communicate_waits_for_a_grandchild_when_asked_to() -> None:
    with gate() as (read, release, write):
        process = await start(*sh(HOLD_STDOUT + "echo here"), stdin=read)
        task = asyncio.create_task(process.communicate(drain=None))
        await process.wait()
        await asyncio.sleep(DRAIN + 0.2)  # longer than it would wait otherwise
        assert not task.done()
        os.write(write, b"late\n")
        release()
        assert await task == (b"here\nlate\n", None)


async def test_a_grandchild_that_ends_soon_is_waited_for() -> None:
    with gate() as (read, release, write):
        process = await start(*sh(HOLD_STDOUT + "echo here"), stdin=read)
        task = asyncio.create_task(process.communicate(drain=30))
        await process.wait()
        await turns()
        os.write(write, b"soon\n")
        release()
        assert await task == (b"here\nsoon\n", None)


async def test_stderr_is_read_although_stdout_is_held() -> None:
    with gate() as (read, _, _):
        process = await start(
            *sh("exec 3<&0; cat <&3 2>/dev/null & echo out; echo err >&2"), stdin=read, stderr=PIPE
        )
        assert await process.communicate(drain=0.05) == (b"out\n", b"err\n")
        process.stdout.close()


# Errors go to who awaits, and nowhere else


async def test_a_broken_pipe_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    caplog.set_level(logging.DEBUG)
    caplog.clear()

    # No one ever waits for what was written.
    process = await start(*sh("exec 0<&-; echo closed; exec sleep 60"))
    await process.stdout.readline()
    for _ in range(10):
        process.stdin.write(bytes(100_000))
    process.kill()
    await process.wait()
    await process.stdout.read()

    # Someone waited, and was cancelled.
    process = await start("sleep", "60", stdout=None)
    process.stdin.write(bytes(1_000_000))
    tasks = [
        asyncio.create_task(process.stdin.drain()),
        asyncio.create_task(process.stdin.wait_closed()),
    ]
    await turns()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    process.kill()
    await process.wait()

    # communicate(), cancelled in its middle.
    process = await start("sleep", "60", stdout=None)
    task = asyncio.create_task(process.communicate(bytes(1_000_000)))
    await turns()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    process.kill()
    await process.wait()

    await turns()
    del process, task, tasks
    gc.collect()
    await turns()
    assert reported == []
    # Starts and exits are told at DEBUG; nothing else is.
    others = [record for record in caplog.records if not hasattr(record, "event")]
    assert [record.getMessage() for record in others] == []


@pytest.mark.parametrize("factory", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("ended", [False, True])
def test_destructors_call_no_closed_loop(factory: Any, ended: bool) -> None:
    """The handle, its streams and its pipes outlive their loop; only ResourceWarnings come."""

    async def main() -> Any:
        process = await start("cat")
        process.stdin.write(b"data" * 100_000)
        if ended:
            process.kill()
            await process.wait()
        return process

    loop = factory()
    try:
        process = loop.run_until_complete(main())
    finally:
        loop.close()
    pid = process.pid
    fds = [process.stdin.transport.fileno(), process.stdout._pipe.fileno()]
    with warnings_given() as given:
        del process
        del loop
        gc.collect()
    messages = {message for _, message in given}
    assert {category for category, _ in given} <= {ResourceWarning}
    if ended:
        assert messages == set()
    else:
        # `cat` may have gone by the time that the second pipe is closed.
        assert messages - {f"unclosed <ReadPipe open fd={fds[1]}>"} == {
            f"subprocess {pid} is still running",
            f"unclosed <WritePipe open fd={fds[0]}>",
        }
    # Both pipes are closed by now, so `cat` ends; the fixture waits for that.


async def test_a_dropped_handle_keeps_its_pipes_until_the_program_ends() -> None:
    """So that it is not killed by SIGPIPE because someone let go of its handle."""
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    process = await start(*sh("cat; echo still >&2 && exit 4"), stderr=PIPE)
    watch, stdin, pid = process._watch, process.stdin, process.pid
    with warnings_given() as given:
        del process
        gc.collect()
        assert given == [(ResourceWarning, f"subprocess {pid} is still running")]
        stdin.write(b"into stdout")
        stdin.close()
        await watch.exited()
        await turns()
        gc.collect()
    assert {category for category, _ in given} == {ResourceWarning}
    assert watch.program.returncode == 4
    assert reported == []
