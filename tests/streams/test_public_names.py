"""What a user sees of a stream is what is documented, and nothing that only we may call."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio.abc
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE, PTY

from ..anyio_support import Backend, backends
from ..support import hang_guard

READER = {*dir(asyncio.StreamReader), "close", "is_closing", "lines", "next_line", "transport"}
WRITER = {*dir(asyncio.StreamWriter)}
TEXT_READER = {
    *("at_eof", "buffer", "close", "encoding", "errors", "lines", "read", "readexactly"),
    *("readline", "readuntil"),
}
TEXT_WRITER = {
    *("buffer", "close", "drain", "encoding", "errors", "is_closing", "wait_closed", "write"),
    *("write_eof", "writelines"),
}


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


def public(names: Any) -> set[str]:
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("kind", [PIPE, PTY])
async def test_of_bytes(kind: int) -> None:
    stdio: dict[str, Any] = {"stdin": kind, "stdout": kind, "stderr": PIPE}
    process: Any = await aiopidfd.create_subprocess_exec("cat", **stdio)
    async with process:
        assert public(dir(process.stdin)) == public(WRITER)
        for stream in (process.stdout, process.stderr):
            assert public(dir(stream)) == public(READER)
        assert type(process.stdin) is aiopidfd.PipeWriter
        assert type(process.stdout) is type(process.stderr) is aiopidfd.PipeReader
        process.kill()


@pytest.mark.parametrize("kind", [PIPE, PTY])
async def test_of_text(kind: int) -> None:
    stdio: dict[str, Any] = {"stdin": kind, "stdout": kind, "stderr": PIPE}
    process: Any = await aiopidfd.create_subprocess_exec("cat", text=True, **stdio)
    async with process:
        assert public(dir(process.stdin)) == TEXT_WRITER
        for stream in (process.stdout, process.stderr):
            assert public(dir(stream)) == TEXT_READER
            assert type(stream) is aiopidfd.TextReader
        assert type(process.stdin) is aiopidfd.TextWriter
        process.kill()


@backends("asyncio", "trio")
@pytest.mark.parametrize("kind", [PIPE, PTY])
def test_on_anyio(backend: Backend, kind: int) -> None:
    async def main() -> None:
        async with await aiopidfd.anyio.open_process("cat", stdin=kind, stdout=kind) as process:
            ours = {"close", "fileno"}
            assert public(dir(process.stdin)) == public(dir(anyio.abc.ByteSendStream)) | ours
            for stream in (process.stdout, process.stderr):
                assert public(dir(stream)) == public(dir(anyio.abc.ByteReceiveStream)) | ours
            process.kill()

    backend.run(main)
