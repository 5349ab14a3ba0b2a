"""Lines that are cut many at a time: the same as one by one, whatever comes between."""

import asyncio
import codecs
import io
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import anyio
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE
from aiopidfd._spawn.encoding import BYTES, read_text
from aiopidfd._streams.cut_lines import Ahead
from aiopidfd._streams.text import TextDecoder

from ..anyio_support import Backend, backends, until
from ..support import SOURCES, gate, hang_guard, python, sh, turns, warnings_given


@pytest.fixture
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


pytestmark = pytest.mark.usefixtures("_guard")


async def reader_of(data: bytes, **options: Any) -> Any:
    """A program's stdout: all of `data`, in pieces as they come."""
    options = {"stdin": PIPE, "stdout": PIPE} | options
    process = await aiopidfd.create_subprocess_exec("cat", **options)
    stdin: Any = process.stdin
    stdin = getattr(stdin, "buffer", stdin)
    stdin.write(data)
    stdin.close()
    return process


def some_data(seed: int, *, returns: bool = False) -> bytes:
    """Lines of all lengths, of 300 KB in all."""
    choose = random.Random(seed)
    ends = [b"\n", b"\n", b"\n\n", b"\r\n", b"\r"] if returns else [b"\n"]
    parts: list[bytes] = []
    while sum(map(len, parts[-50:])) + 40 * len(parts) < 300_000:
        size = choose.choice([0, 1, 5, 80, 80, 80, 600, choose.choice([0, 9_000, 70_000])])
        parts += [choose.choice([b"x", "é".encode(), "日".encode()]) * size, choose.choice(ends)]
    return b"".join(parts) + b"rest"


# Every way to read, mixed


@pytest.mark.parametrize("seed", range(4))
async def test_bytes_read_in_all_ways(seed: int) -> None:
    data = some_data(seed)
    choose = random.Random(seed)
    process = await reader_of(data, limit=200_000)
    stdout = process.stdout
    read = b""

    async def iterated(lines: Any) -> bytes:
        count, taken = choose.choice([1, 3, 500]), b""
        async for line in lines:
            assert line.count(b"\n") == line.endswith(b"\n")
            taken += line
            count -= 1
            if not count:
                break
        return taken

    async def exactly() -> bytes:
        try:
            return await stdout.readexactly(choose.choice([0, 1, 2000]))  # type: ignore[no-any-return]
        except asyncio.IncompleteReadError as exc:
            return exc.partial

    async def until_x() -> bytes:
        try:
            return await stdout.readuntil(b"\n")  # type: ignore[no-any-return]
        except asyncio.IncompleteReadError as exc:
            return exc.partial

    ways = [
        lambda: iterated(stdout),
        lambda: iterated(stdout.lines()),
        lambda: iterated(stdout.lines()),
        stdout.readline,
        stdout.next_line,
        lambda: stdout.read(choose.choice([1, 100, 30_000])),
        exactly,
        until_x,
    ]
    while not stdout.at_eof():
        read += await choose.choice(ways)()
    assert read == data
    assert await process.wait() == 0


@pytest.mark.parametrize("seed", range(4))
async def test_text_read_in_all_ways(seed: int) -> None:
    data = some_data(seed, returns=True)
    choose = random.Random(seed)
    process = await reader_of(data, encoding="utf-8")
    stdout = process.stdout
    pieces = []

    async def iterated() -> str:
        count, taken = choose.choice([1, 3, 500]), ""
        async for line in stdout:
            assert line.count("\n") == line.endswith("\n")
            taken += line
            count -= 1
            if not count:
                break
        return taken

    async def or_partial(reading: Any) -> str:
        try:
            return await reading  # type: ignore[no-any-return]
        except asyncio.IncompleteReadError as exc:
            return exc.partial  # type: ignore[return-value]

    ways = [
        iterated,
        iterated,
        stdout.readline,
        lambda: stdout.read(choose.choice([1, 100, 30_000])),
        lambda: or_partial(stdout.readexactly(choose.choice([0, 1, 2000, 80_000]))),
        lambda: or_partial(stdout.readuntil(choose.choice(["\n", "日日\n", "é\n\n"]))),
    ]
    while not stdout.at_eof():
        pieces.append(await choose.choice(ways)())
    assert "".join(pieces) == data.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert await process.wait() == 0


async def test_communicate_after_some_lines() -> None:
    for options, rest in (({}, b"3\n4\n"), ({"encoding": "utf-8"}, "3\n4\n")):
        process = await reader_of(b"1\n2\n3\n4\n", **options)
        assert [await process.stdout.readline() for _ in range(2)]
        assert await process.communicate() == (rest, None)


@pytest.mark.parametrize("limit", [50, 50.5])
async def test_the_limit_of_iteration_is_asyncio_s(limit: Any) -> None:
    """A line beyond it is an error also where it follows short ones; the next is read then."""
    lines = [b"x" * size + b"\n" for size in (1, 49, 50, 51, 2)]
    readers: list[Any] = []
    process = await reader_of(b"".join(lines), limit=limit)
    readers.append(process.stdout)
    theirs = asyncio.StreamReader(limit=limit)
    theirs.feed_data(b"".join(lines))
    theirs.feed_eof()
    readers.append(theirs)
    seen: list[list[Any]] = []
    for reader in readers:
        outcome: list[Any] = []
        for _ in range(6):
            try:
                outcome.append(await reader.readline())
            except ValueError as exc:
                outcome.append(type(exc))
        seen.append(outcome)
    assert seen[0] == seen[1] == [*lines[:3], ValueError, lines[4], b""]
    assert await process.wait() == 0


async def test_at_eof_is_true_when_the_last_line_was_read() -> None:
    process = await reader_of(b"1\n2\n3\n")
    await process.wait()
    await turns()
    lines = []
    while not process.stdout.at_eof():
        lines.append(await process.stdout.readline())
    assert lines == [b"1\n", b"2\n", b"3\n"]


async def test_lines_that_are_there_do_not_starve_the_loop() -> None:
    """A megabyte is buffered; others have their turn while it is iterated over."""
    data = b"line\n" * 200_000
    count, counts = 0, [0]

    async def look() -> None:
        while True:
            counts.append(count)
            await asyncio.sleep(0)

    for options in ({}, {"encoding": "utf-8"}):
        process = await reader_of(data, limit=len(data), **options)

        await process.wait()
        await turns(200)
        looking = asyncio.create_task(look())
        async for _ in process.stdout:
            count += 1
        looking.cancel()
    assert count == 400_000
    assert max(after - before for before, after in pairwise(counts)) < 50_000


def test_what_is_cut_in_vain_is_little() -> None:
    """Other reads between the lines: then few lines are cut ahead."""
    ahead, buffer = Ahead(b"\n"), bytearray(b"line\n" * 20_000)
    for _ in range(50):
        ahead.cut(buffer)
        assert len([*ahead.lines]) <= 16 * 1024 // 5
        ahead.settle()
    for _ in range(50):
        ahead.cut(buffer)
        assert next(ahead.lines) == b"line\n"
        assert ahead.settle() == 5
    ahead.cut(buffer)
    assert len([*ahead.lines]) <= 1024 // 5


async def test_nothing_but_a_newline_ends_a_line_of_text() -> None:
    """Not what str.splitlines() takes for one."""
    text = "first\na\vb\fc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\nnext\nlast\n"
    process = await reader_of(text.encode(), encoding="utf-8")
    assert [line async for line in process.stdout] == io.StringIO(text).readlines()
    assert await process.wait() == 0


@pytest.mark.parametrize("encoding", [None, "utf-8"])
async def test_several_tasks_that_read(encoding: str | None) -> None:
    """They are refused while another waits; else each line comes once, to one of them."""
    lines = [b"%d\n" % number for number in range(60_000)]
    process: Any = await aiopidfd.create_subprocess_exec(
        "cat", stdin=PIPE, stdout=PIPE, encoding=encoding
    )
    stdin = process.stdin if encoding is None else process.stdin.buffer
    seen: list[Any] = []

    async def read() -> None:
        pause = random.Random(len(seen))
        while not process.stdout.at_eof():
            try:
                async for line in pause.choice([process.stdout, process.stdout.lines()]):
                    seen.append(line)
                    if not pause.randrange(50):
                        await asyncio.sleep(0)
            except RuntimeError:  # another one waits
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(read()) for _ in range(3)]
    for at in range(0, len(lines), 500):
        stdin.write(b"".join(lines[at : at + 500]))
        await asyncio.sleep(0)
    stdin.close()
    await asyncio.gather(*tasks)
    said = b"".join(line if isinstance(line, bytes) else line.encode() for line in seen)
    assert sorted(said.splitlines(keepends=True)) == sorted(lines)
    assert await process.wait() == 0


@pytest.mark.parametrize("encoding", [None, "utf-8"])
async def test_single_steps_of_the_iteration(encoding: str | None) -> None:
    """Each under a timeout, as people do; one that runs out loses nothing."""
    process: Any = await aiopidfd.create_subprocess_exec(
        "cat", stdin=PIPE, stdout=PIPE, encoding=encoding
    )
    stdin = process.stdin if encoding is None else process.stdin.buffer
    lines = process.stdout.lines()
    assert aiter(lines) is lines
    stdin.write(b"one\ntwo\nthr")

    async def step(seconds: float = 30) -> bytes:
        line = await asyncio.wait_for(anext(lines), seconds)
        return line if encoding is None else line.encode()

    assert [await step(), await step()] == [b"one\n", b"two\n"]
    with pytest.raises(TimeoutError):
        await step(0.02)
    stdin.write(b"ee\nfour\nfive\n")
    stdin.close()
    assert [await step(), await step()] == [b"three\n", b"four\n"]
    with pytest.raises((TypeError, RuntimeError)):
        assert not [*lines]
    assert await anext(lines, None) in (b"five\n", "five\n")
    assert await anext(lines, None) is None
    with pytest.raises(StopAsyncIteration):
        await anext(lines)
    assert await process.wait() == 0


# A carriage return is told at once


@pytest.mark.parametrize("encoding", [None, "utf-8"])
async def test_anext_with_a_default(encoding: str | None) -> None:
    """In Python 3.11 it calls __await__ again each time that it is resumed."""
    with gate() as (read, release, _):
        script = "echo 1; echo 2; read line; echo 3; sleep 0.05; printf 4"
        async with await aiopidfd.create_subprocess_exec(
            *sh(script), stdin=read, stdout=PIPE, encoding=encoding
        ) as process:
            lines = process.stdout.lines()
            found = [await anext(lines, None), await anext(lines, None)]
            third = asyncio.ensure_future(anext(lines, None))
            await turns()
            release()
            found += [await third, *[await anext(lines, None) for _ in range(3)]]
    wanted = ["1\n", "2\n", "3\n", "4", None, None]
    if encoding is None:
        wanted = [line and line.encode() for line in wanted]
    assert found == wanted


async def test_a_progress_bar_is_told_at_once() -> None:
    with gate() as (read, release, _):
        process = await aiopidfd.create_subprocess_exec(
            *sh(r"printf '10%%\r20%%\r'; read x; printf '\n30%%\r\nend\r'"),
            stdin=read,
            stdout=PIPE,
            text=True,
        )
        stdout: Any = process.stdout
        assert await stdout.readline() == "10%\n"
        assert await stdout.readline() == "20%\n"
        release()  # and its "\n" belonged to the "\r" before
        assert [line async for line in stdout] == ["30%\n", "end\n"]
        assert await process.wait() == 0


@backends("asyncio", "trio")
def test_supervise_tells_it_at_once(backend: Backend) -> None:
    async def main() -> None:
        lines: list[str] = []
        with gate() as (read, release, _):
            async with anyio.create_task_group() as group:
                script = r"printf '10%%\r20%%\r'; read x; printf '\n30%%\r\nend\r'"

                async def run() -> None:
                    await aiopidfd.anyio.supervise(
                        sh(script), stdin=read, stdout=lines.append, text=True
                    )

                group.start_soon(run)
                await until(lambda: lines == ["10%", "20%"])
                release()
        assert lines == ["10%", "20%", "30%", "end"]

    backend.run(main)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "shift_jis"])
def test_the_decoder_whatever_the_chunks(encoding: str) -> None:
    text = "a\r\nb\rc\n\r\r\n\n日\r\n"
    data = text.encode(encoding)
    for size in range(1, len(data) + 1):
        decoder = TextDecoder(encoding)
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        decoded = "".join(map(decoder.decode, chunks)) + decoder.decode(b"", True)
        assert decoded == "a\nb\nc\n\n\n\n日\n"


# The rest of TextReader


async def test_readexactly_and_readuntil_of_text() -> None:
    process = await reader_of("日本語;zwei;\n\0\0end".encode(), encoding="utf-8")
    stdout = process.stdout
    assert await stdout.readexactly(0) == ""
    assert await stdout.readexactly(2) == "日本"
    assert await stdout.readuntil(";") == "語;"
    assert await stdout.readuntil() == "zwei;\n"
    assert await stdout.readuntil("\0\0") == "\0\0"
    for reading, expected in ((stdout.readexactly(9), 9), (stdout.readuntil(";"), None)):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reading
        assert caught.value.expected == expected
        assert caught.value.partial == ("end" if expected else "")
    with pytest.raises(ValueError, match="Separator"):
        await stdout.readuntil("")
    with pytest.raises(ValueError, match="less than zero"):
        await stdout.readexactly(-1)
    assert await process.wait() == 0


async def test_a_separator_that_chunks_cut_in_two() -> None:
    with gate() as (read, release, _):
        process = await aiopidfd.create_subprocess_exec(
            *sh("printf ab; read x; printf cdabc"), stdin=read, stdout=PIPE, text=True
        )
        stdout: Any = process.stdout
        task = asyncio.create_task(stdout.readuntil("bcd"))
        while stdout._later != ["ab"]:
            await asyncio.sleep(0.001)
        release()
        assert await task == "abcd"
        assert await stdout.read() == "abc"
        assert await process.wait() == 0


async def test_lines_before_an_error_are_told_and_those_behind_it() -> None:
    data = b"one\ntwo\nb\xffd\nfour\n"
    process = await reader_of(data, encoding="utf-8")
    read: list[Any] = []
    while not process.stdout.at_eof():
        try:
            read.append(await process.stdout.readline())
        except UnicodeDecodeError as exc:
            read.append(type(exc))
    assert read in (
        ["one\n", "two\n", UnicodeDecodeError, "four\n"],
        ["one\n", "two\n", UnicodeDecodeError, "four\n", ""],
    )
    assert await process.wait() == 0


# Which options make it text, and which encoding it is


def test_text_and_its_older_name_that_contradict_each_other() -> None:
    for text, older in ((True, False), (False, True)):
        options: Any = {"text": text, "universal_newlines": older}
        with pytest.raises(subprocess.SubprocessError, match="Cannot disambiguate") as ours:
            read_text(text, None, None, older)
        with pytest.raises(subprocess.SubprocessError) as theirs:
            subprocess.run(["true"], **options)
        assert str(ours.value) == str(theirs.value)
    assert read_text(False, None, None, False) == BYTES
    assert read_text(None, None, None, True).encoding is not None


async def test_the_calls_refuse_it() -> None:
    options: Any = {"text": False, "universal_newlines": True}
    for call in (
        aiopidfd.create_subprocess_exec("true", **options),
        aiopidfd.create_subprocess_shell("true", **options),
        aiopidfd.run_process("true", **options),
    ):
        with pytest.raises(subprocess.SubprocessError, match="Cannot disambiguate"):
            await call


@pytest.mark.parametrize("mode", ["utf8=0", "utf8=1"])
def test_the_encoding_is_subprocess_s(mode: str) -> None:
    """In Python's UTF-8 mode (which LC_ALL=C means, too) and without."""
    script = (
        "import asyncio, subprocess, sys; sys.path.insert(0, sys.argv[1]); import aiopidfd\n"
        "ours = asyncio.run(aiopidfd.create_subprocess_exec('true', stdout=-1, text=True)).stdout\n"
        "theirs = subprocess.Popen('true', stdout=-1, text=True)\n"
        "print(ours.encoding, theirs.stdout.encoding)"
    )
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-W", "ignore", "-X", mode, "-c", script, SOURCES]
    ours, theirs = subprocess.check_output(command, env=environment, text=True).split()
    assert codecs.lookup(ours) == codecs.lookup(theirs)
    assert (codecs.lookup(ours).name == "utf-8") == (mode == "utf8=1")


def test_the_encoding_that_nobody_has_given_is_warned_of_where_it_was_missed() -> None:
    script = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1]); import aiopidfd\n"
        "async def main():\n"
        "    await aiopidfd.run_process('true', text=True)\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-X", "warn_default_encoding", "-c", script, SOURCES]
    said = subprocess.run(command, stderr=PIPE, check=True, encoding="utf-8").stderr
    assert "<string>:3: EncodingWarning: 'encoding' argument not specified." in said


# What nobody closes


async def test_communicate_closes_what_a_grandchild_holds() -> None:
    with gate() as (read, _, _):
        script = "exec 3<&0; cat <&3 & echo here; cat <&3 >&2 & echo there >&2"
        process = await aiopidfd.create_subprocess_exec(
            *sh(script), stdin=read, stdout=PIPE, stderr=PIPE
        )
        assert await process.communicate(drain=0) == (b"here\n", b"there\n")
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.is_closing()
        assert process.stderr.is_closing()
        assert await process.communicate() == (b"", b"")


async def test_what_an_ended_program_left_unread_may_be_dropped() -> None:
    with warnings_given() as given:
        process: Any = await aiopidfd.create_subprocess_exec(
            *python("import os; os.write(1, bytes(60000)); os.read(0, 1)"),
            stdin=PIPE,
            stdout=PIPE,
            limit=10,
        )
        while not process.stdout._paused:
            await asyncio.sleep(0.001)
        process.kill()
        await process.wait()
        process.stdin.close()
        await turns()
        del process
    assert given == []


@backends("asyncio", "trio")
def test_supervise_closes_a_pipe_and_keeps_what_is_in_it(backend: Backend) -> None:
    async def main() -> None:
        with gate() as (read, _, _):
            async with anyio.create_task_group() as group:

                async def run(*, task_status: Any) -> None:
                    code = await aiopidfd.anyio.supervise(
                        sh("exec 3<&0; cat <&3 & printf 'first second'"),
                        stdin=read,
                        stdout=PIPE,
                        task_status=task_status,
                    )
                    assert code == 0

                process: Any = await group.start(run)
            assert process.stdout.fileno() == -1
            assert await process.stdout.receive(6) == b"first "
            assert await process.stdout.receive() == b"second"
            with pytest.raises(anyio.EndOfStream):
                await process.stdout.receive()

    backend.run(main)


@backends("asyncio", "trio")
def test_supervise_closes_a_pipe_that_somebody_waits_for(backend: Backend) -> None:
    async def main() -> None:
        with gate() as (read, _, _):
            received: list[bytes] = []

            async def receive(process: Any) -> None:
                received.extend([chunk async for chunk in process.stdout])

            async with anyio.create_task_group() as group:

                async def run(*, task_status: Any) -> None:
                    await aiopidfd.anyio.supervise(
                        sh("exec 3<&0; cat <&3 & echo here; sleep 0.1"),
                        stdin=read,
                        stdout=PIPE,
                        task_status=task_status,
                    )

                group.start_soon(receive, await group.start(run))
            assert b"".join(received) == b"here\n"

    backend.run(main)


# Small writes


async def test_what_is_written_when_the_buffer_has_just_been_emptied() -> None:
    """In resume_writing(), which is called in the middle of it."""
    loop = asyncio.get_running_loop()
    written = bytearray()

    class Protocol(asyncio.SubprocessProtocol):
        stdin: Any = None
        paused = False
        read = bytearray()

        def __init__(self) -> None:
            self.lost = loop.create_future()

        def connection_made(self, transport: Any) -> None:
            self.stdin = transport.get_pipe_transport(0)
            self.stdin.set_write_buffer_limits(high=30_000, low=0)

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            self.read += data

        def pause_writing(self) -> None:
            self.paused = True

        def resume_writing(self) -> None:
            self.paused = False
            while not self.paused and len(written) < 3_000_000:
                line = b"%09d\n" % len(written)
                self.stdin.write(line)
                written.extend(line)
            if not self.paused:
                self.stdin.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(None)

    aiopidfd.install(loop)
    try:
        transport, protocol = await loop.subprocess_exec(Protocol, "cat", stderr=None)
    finally:
        aiopidfd.uninstall(loop)
    protocol.resume_writing()
    await protocol.lost
    assert protocol.read == written
    transport.close()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_small_and_large_writes_in_turn(kind: Any) -> None:
    choose = random.Random(1)
    parts = [bytes([n % 256]) * choose.choice([0, 1, 30, 5000, 70_000]) for n in range(400)]
    process: Any = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    for part in parts:
        source = bytearray(part)
        process.stdin.write(kind(source))
        if kind is not memoryview:
            source[:] = bytes(len(source))
    process.stdin.close()
    assert await process.stdout.read() == b"".join(parts)
    assert await process.wait() == 0
