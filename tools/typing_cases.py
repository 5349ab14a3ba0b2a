"""What a type checker is to conclude of a user's code. `.ci/types` checks it; it is never run."""

import asyncio
from subprocess import CompletedProcess
from typing import Any, assert_type

import aiopidfd
import aiopidfd.anyio
import aiopidfd.subprocess
from aiopidfd import CompletedPipeline


class Protocol(asyncio.SubprocessProtocol):
    """One of a user's own."""


async def programs() -> None:
    """The streams are text if any of the three keywords says so."""
    create = aiopidfd.create_subprocess_exec
    assert_type(await create("true"), aiopidfd.Process)
    assert_type(await create("true", text=True), aiopidfd.TextProcess)
    assert_type(await create("true", encoding="utf-8"), aiopidfd.TextProcess)
    assert_type(await create("true", errors="replace"), aiopidfd.TextProcess)
    assert_type(await aiopidfd.run_process("true"), CompletedProcess[bytes])
    assert_type(await aiopidfd.run_process("true", errors="replace"), CompletedProcess[str])


async def bounded() -> None:
    """With a limit the result tells what was dropped, here and in code that blocks."""
    plain, limited = aiopidfd.subprocess.run(["true"]), aiopidfd.subprocess.run("a", output_limit=1)
    assert_type(plain, CompletedProcess[bytes])
    assert_type(limited, aiopidfd.BoundedProcess[Any])
    shown = aiopidfd.subprocess.run(["true"], stdout=[aiopidfd.PIPE, print], text=True)
    assert_type(shown, CompletedProcess[str])
    assert_type(aiopidfd.subprocess.check_output("a", text=True, output_limit=1), str)
    run = aiopidfd.anyio.run_process
    assert_type(await run("true"), CompletedProcess[bytes])
    assert_type(await run("true", text=True, timeout=1), CompletedProcess[str])
    assert_type(await run("true", output_limit=1), aiopidfd.BoundedProcess[bytes])
    assert_type(await aiopidfd.anyio.run_pipeline("true", timeout=1), CompletedPipeline[bytes])


async def loops() -> None:
    """A loop's own method keeps the protocol's type."""
    _, protocol = await aiopidfd.EventLoop().subprocess_exec(Protocol, "true")
    assert_type(protocol, Protocol)
