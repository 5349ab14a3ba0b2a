"""A signal handler raises its exception at each line of a start: then nothing runs on, unknown.

Nor does a loop still watch a descriptor that was closed.
"""

import asyncio
import contextlib
import errno
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PIPE, PTY, _native, subprocess
from aiopidfd._streams.pipe_fd import PipeEnd

from ..census import child_pids, open_fds
from ..raising import RaisedError, raising_at

SLEEP = ("sleep", "1000")
DEADLINE = 30

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _files() -> Iterator[None]:
    """What may be left, and is closed here, is a file that was being opened, as in any Python."""
    before = open_fds()
    yield
    gc.collect()
    PipeEnd._close_in_forked_copy()  # what a half-made stream holds
    for fd, what in open_fds().items():
        if before.get(fd) != what and what.startswith(("/dev/null", "/dev/pt", "pipe:")):
            os.close(fd)


def all_gone() -> bool:
    _native.sweep()
    return not child_pids()


def spawn() -> aiopidfd.Child:
    return aiopidfd.spawn(SLEEP, stdin=aiopidfd.DEVNULL)


def popen() -> subprocess.Popen[bytes]:
    return subprocess.Popen(SLEEP, stdin=PIPE, stdout=PIPE)


@pytest.mark.parametrize("start", [spawn, popen])
def test_without_a_loop(start: Callable[[], aiopidfd.Child | subprocess.Popen[bytes]]) -> None:
    raised = 0
    for number in range(1, 10_000):
        child = None
        with raising_at(number) as left, contextlib.suppress(RaisedError):
            child = start()
        if child is None:
            raised += 1
        else:
            with child:
                child.kill()
        end = time.monotonic() + DEADLINE
        while not all_gone():
            gc.collect()  # a traceback
            assert time.monotonic() < end, number
            time.sleep(0.001)
        if left[0] > 0:  # the start was over before
            break
    assert raised > 50


async def create(stdio: int) -> aiopidfd.Process:
    return await aiopidfd.create_subprocess_exec(
        *SLEEP, stdin=stdio, stdout=stdio, stderr=stdio, grace=0
    )


class Protocol(asyncio.SubprocessProtocol):
    pass


async def connect(stdio: int) -> Any:
    loop = asyncio.get_running_loop()
    aiopidfd.install(loop)
    transport, _ = await loop.subprocess_exec(
        Protocol, *SLEEP, stdin=stdio, stdout=stdio, stderr=stdio
    )
    return transport


async def still_reads() -> None:
    """The loop is told of pipes whose numbers were those of pipes before."""
    for _ in range(3):
        process = await aiopidfd.create_subprocess_exec("echo", "x", stdout=PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            assert await process.stdout.read() == b"x\n"
        await process.wait()


@pytest.mark.heavy
@pytest.mark.parametrize("stdio", [PIPE, PTY], ids=["pipes", "terminal"])
@pytest.mark.parametrize("start", [create, connect])
async def test_on_a_loop(start: Callable[[int], Awaitable[Any]], stdio: int) -> None:
    raised = 0
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # raised in a callback
    for number in range(1, 10_000):
        process = None
        with raising_at(number) as left, contextlib.suppress(RaisedError):
            async with asyncio.timeout(DEADLINE):
                process = await start(stdio)
        raised += process is None
        if isinstance(process, aiopidfd.Process):
            await process.aclose(grace=0)
        elif process is not None:
            process.close()
        process = None
        async with asyncio.timeout(DEADLINE):
            while not all_gone():
                await asyncio.sleep(0.001)
        await still_reads()
        if left[0] > 0:
            break
    assert raised > 100


@pytest.mark.parametrize("error", [None, "cannot be found"])
def test_where_a_tree_is_killed(error: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed all the same, but for an exception before the first line has run."""
    if error is not None:

        def members(*_: object) -> None:
            raise OSError(errno.EMFILE, error)

        monkeypatch.setattr("aiopidfd._spawn.tree.Tree.signal", members)
    raised = 0
    before = open_fds()
    for number in range(3, 10_000):
        with spawn() as child:
            try:
                with raising_at(number) as left, contextlib.suppress(RaisedError, OSError):
                    child.kill_tree()
                raised += left[0] == 0
                assert child.wait(5) == -9
            finally:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
        if left[0] > 0:
            break
    assert raised > 10
    for fd in {*open_fds()} - {*before}:  # one of the tree may be lost, see limits.md
        os.close(fd)
