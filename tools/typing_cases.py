"""What a type checker is to conclude of a user's code. `.ci/types` checks it; it is never run."""

import asyncio
from subprocess import CompletedProcess
from typing import assert_type

import aiopidfd


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


async def loops() -> None:
    """A loop's own method keeps the protocol's type."""
    _, protocol = await aiopidfd.EventLoop().subprocess_exec(Protocol, "true")
    assert_type(protocol, Protocol)
