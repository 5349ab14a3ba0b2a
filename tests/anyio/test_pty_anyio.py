"""PTY on anyio: asyncio, uvloop and trio."""

import hashlib
import os
import signal
from functools import partial
from subprocess import DEVNULL
from typing import Any

import anyio
import pytest

import aiopidfd.anyio
from aiopidfd import PTY
from aiopidfd._streams.terminal import Terminal
from aiopidfd.anyio._streams import OutputPipe
from aiopidfd.anyio._terminal import ReceiveTerminal, SendTerminal

from ..anyio_support import BACKENDS, Backend
from ..support import HOLD_STDOUT, full_terminal, gate, sh

ALL: dict[str, Any] = {"stdin": PTY, "stdout": PTY, "stderr": PTY}
BOTH: dict[str, Any] = {"stdin": PTY, "stdout": PTY}
RAW = "stty raw -echo; echo go; "


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


async def receive_until(stream: Any, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += await stream.receive()
    return seen


def test_process(backend: Backend) -> None:
    async def body() -> None:
        choices = {**ALL, "window_size": (30, 100)}
        async with await aiopidfd.anyio.open_process(["cat"], **choices) as process:
            assert process.stderr is None
            assert process.window_size == (30, 100)
            process.set_window_size(1, 2)
            assert process.window_size == (1, 2)
            await process.stdin.send(b"one\n")
            assert await receive_until(process.stdout, b"one\r\none\r\n")
            await process.stdin.send(b"two")
            await process.stdin.aclose()
            assert await process.wait() == 0
            rest = b"".join([chunk async for chunk in process.stdout])
            assert rest == b"twotwo"
            with pytest.raises(OSError, match="its terminal is closed"):
                _ = process.window_size

    backend.run(body)


def test_hangs_up(backend: Backend) -> None:
    async def body() -> None:
        process = await aiopidfd.anyio.open_process(["cat"], **ALL)
        await process.aclose()
        assert process.returncode == -signal.SIGHUP
        # Reading and sending over, it is hung up while we are still there.
        process = await aiopidfd.anyio.open_process(["cat"], **BOTH)
        await process.stdin.send(b"x\n")
        await receive_until(process.stdout, b"x\r\nx\r\n")
        process.stdin.close()
        await process.stdout.aclose()
        assert await process.wait() == -signal.SIGHUP
        process.stderr.close()

    backend.run(body)


def test_much_output(backend: Backend) -> None:
    async def body() -> None:
        result = await aiopidfd.anyio.run_process("seq 150000; exit 0", stdout=PTY)
        numbers = b"".join(b"%d\r\n" % number for number in range(1, 150_001))
        assert result.stdout == numbers

    backend.run(body)


def test_the_program_goes_on_without_its_terminal(backend: Backend) -> None:
    async def body() -> None:
        command = "echo one; exec >&- 2>&-; sleep 0.1; exit 3"
        choices: dict[str, Any] = {"stdin": DEVNULL, "stdout": PTY, "stderr": PTY}
        result = await aiopidfd.anyio.run_process(command, check=False, **choices)
        assert (result.stdout, result.stderr, result.returncode) == (b"one\r\n", None, 3)

    backend.run(body)


def test_much_input(backend: Backend) -> None:
    async def body() -> None:
        data = b"".join(b"%07d\n" % number for number in range(50_000))
        for choices in ({"stdin": PTY}, {"stdin": PTY, "stderr": DEVNULL}):
            result = await aiopidfd.anyio.run_process(["sha256sum"], input=data, **choices)
            assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()

    backend.run(body)


def test_a_grandchild_that_holds_it(backend: Backend) -> None:
    async def body() -> None:
        with gate() as (read, _, _):
            command = f"trap '' HUP; {HOLD_STDOUT} echo here"
            run = aiopidfd.anyio.run_process
            result = await run(command, stdin=read, stdout=PTY, drain=0.05)
        assert result.stdout == b"here\r\n"

    backend.run(body)


def test_nobody_reads(backend: Backend) -> None:
    async def body() -> None:
        process = await aiopidfd.anyio.open_process(sh(f"{RAW} exec sleep 600"), **ALL)
        async with process:
            await receive_until(process.stdout, b"go\n")
            async with anyio.create_task_group() as tg:
                tg.start_soon(expect_broken, process.stdin, bytes(100_000))
                await anyio.sleep(0.05)
                process.kill()
            await expect_broken(process.stdin, b"x")
            await process.stdin.aclose()
            assert await process.wait() == -signal.SIGKILL
            with pytest.raises(anyio.EndOfStream):
                await process.stdout.receive()

    async def expect_broken(stdin: SendTerminal, data: bytes) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await stdin.send(data)

    backend.run(body)


def test_aclose_while_another_sends(backend: Backend) -> None:
    async def body() -> None:
        process = await aiopidfd.anyio.open_process(sh(f"{RAW} exec sleep 600"), **ALL)
        async with process:
            await receive_until(process.stdout, b"go\n")
            async with anyio.create_task_group() as tg:
                tg.start_soon(expect_closed, process.stdin)
                await anyio.sleep(0.05)
                await process.stdin.aclose()

    async def expect_closed(stdin: SendTerminal) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await stdin.send(bytes(100_000))

    backend.run(body)


def test_supervise(backend: Backend) -> None:
    async def body() -> None:
        supervise = aiopidfd.anyio.supervise
        lines: list[str] = []
        command = ["sh", "-c", "tty; cat"]
        options: Any = {"input": "one\n", "stdin": PTY, "stdout": lines.append, "text": True}
        assert await supervise(command, **options) == 0
        assert lines[0].startswith("/dev/pts/")
        assert lines[1:] == ["one"]
        async with anyio.create_task_group() as tg:
            process = await tg.start(partial(supervise, ["cat"], check=False, **BOTH))
            await process.stdin.send(b"one\n")
            await receive_until(process.stdout, b"one\r\none\r\n")
            tg.cancel_scope.cancel()
        assert process.returncode == -signal.SIGTERM
        with pytest.raises(ValueError, match="only one of stdin and input"):
            await supervise(command, input=b"", stdin=DEVNULL)

    backend.run(body)


def test_errors(backend: Backend) -> None:
    async def body() -> None:
        with pytest.raises(FileNotFoundError):
            await aiopidfd.anyio.open_process(["/no/such/program"], **ALL)
        with pytest.raises(ValueError, match="window_size needs PTY"):
            await aiopidfd.anyio.open_process("cat", window_size=(1, 1))

    backend.run(body)


def test_all_that_it_holds_is_taken_at_once(backend: Backend) -> None:
    """FIONREAD tells a part of it, or nothing."""

    async def body() -> None:
        master, slave, written = full_terminal()
        terminal = Terminal(os.dup(master))
        output = OutputPipe()
        stream = ReceiveTerminal(master, output, terminal)
        assert output.take_held() == bytes(written)
        assert output.take_held() == b""
        os.close(slave)
        assert output.take_held() == b""
        assert stream.fileno() == -1
        terminal.close()

    backend.run(body)
