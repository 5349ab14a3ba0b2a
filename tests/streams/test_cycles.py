"""A start that fails leaves nothing to the garbage collector, on any way to start one."""

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE, subprocess

from ..anyio_support import Backend, backends

NOWHERE = "/no/such/program"


@contextlib.contextmanager
def garbage() -> Iterator[list[Any]]:
    """What only the collector frees of all that the block makes."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    before = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += map(repr, gc.garbage)
    finally:
        gc.set_debug(before)
        gc.garbage.clear()
        gc.enable()


async def check(start: Callable[[], Awaitable[Any]]) -> None:
    async def fail() -> None:
        try:
            await start()
        except FileNotFoundError:
            await anyio.sleep(0.02)  # what the loop still has to do is done

    await fail()  # what is made once, is made
    with garbage() as found:
        await fail()
    assert found == []


@pytest.mark.parametrize("options", [{}, {"stdin": PIPE, "stdout": PIPE, "text": True}], ids=str)
async def test_exec(options: dict[str, Any]) -> None:
    await check(lambda: aiopidfd.create_subprocess_exec(NOWHERE, **options))


@pytest.mark.parametrize("timeout", [None, 30])
async def test_run_process(timeout: float | None) -> None:
    await check(lambda: aiopidfd.run_process([NOWHERE], timeout=timeout))


async def test_the_loop_s_own_method() -> None:
    loop = asyncio.get_running_loop()
    aiopidfd.install(loop)
    try:
        await check(lambda: loop.subprocess_exec(asyncio.SubprocessProtocol, NOWHERE))
    finally:
        aiopidfd.uninstall(loop)


@backends("asyncio", "trio")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("open_process", {}),
        ("run_process", {}),
        ("run_process", {"timeout": 30}),
        ("run_pipeline", {"timeout": 30}),
        ("supervise", {}),
    ],
)
def test_anyio(backend: Backend, name: str, options: dict[str, Any]) -> None:
    function: Any = getattr(aiopidfd.anyio, name)

    async def main() -> None:
        await check(lambda: function([NOWHERE], **options))

    backend.run(main)


def raise_it(line: bytes) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ([NOWHERE], {"stdout": [PIPE, print]}),
        (["yes"], {"stdout": PIPE, "output_limit": 5}),
        (["yes"], {"stdout": raise_it}),
        (["sleep", "600"], {"stdout": raise_it, "timeout": 0.05}),
    ],
)
def test_a_call_that_blocks(command: list[str], options: dict[str, Any]) -> None:
    def fail() -> None:
        with contextlib.suppress(OSError, ZeroDivisionError, subprocess.SubprocessError):
            subprocess.run(command, **options)

    fail()
    with garbage() as found:
        fail()
    assert found == []
