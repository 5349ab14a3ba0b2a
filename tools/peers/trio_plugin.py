"""A pytest plugin that runs trio's own subprocess tests on invisible programs.

    pytest -p trio._tests.pytest_plugin -p tools.peers.trio_plugin \\
        --pyargs trio._tests.test_subprocess

trio is installed with its tests. What they import from trio is replaced by look-alikes over
`aiopidfd.anyio`, before they are imported.
"""

import functools
import types
from collections.abc import Callable, Iterator
from subprocess import PIPE, CompletedProcess
from typing import Any

import anyio
import pytest
import trio

import aiopidfd.anyio

from .plugins import counted, expect_exceptions

_AT_LEAST = 50

_trios_run_process = trio.run_process


class SendStream(trio.abc.SendStream):
    """A pipe to a program of ours, as trio has it."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    async def send_all(self, data: Any) -> None:
        try:
            await self._pipe.send(data)
        except anyio.BrokenResourceError as exc:
            raise trio.BrokenResourceError from exc

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self._pipe.aclose()


class ReceiveStream(trio.abc.ReceiveStream):
    """A pipe from a program of ours, as trio has it."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._pipe.receive(max_bytes or 65536)  # type: ignore[no-any-return]
        except anyio.EndOfStream:
            return b""

    async def aclose(self) -> None:
        await self._pipe.aclose()


class Process:
    """A program of ours that looks like a `trio.Process`."""

    __repr__ = trio.Process.__repr__

    def __init__(self, process: aiopidfd.anyio.Process, args: Any) -> None:
        self.args = args
        self.pid = process.pid
        self.stdin = process.stdin and SendStream(process.stdin)
        self.stdout = process.stdout and ReceiveStream(process.stdout)
        self.stderr = process.stderr and ReceiveStream(process.stderr)
        self.stdio = self.stdin and self.stdout and trio.StapledStream(self.stdin, self.stdout)
        self._process = process
        self._proc = types.SimpleNamespace(wait=process._program.block)

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def poll(self) -> int | None:
        return self._process.returncode

    @property
    def _pidfd(self) -> int | None:
        return None if self.returncode is not None else self._process._program.pidfd

    async def wait(self) -> int:
        return await self._process.wait()

    def send_signal(self, sig: int) -> None:
        self._process.send_signal(sig)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


async def open_process(
    command: Any, *, stdin: Any = None, stdout: Any = None, stderr: Any = None, **options: Any
) -> Process:
    """As trio's: what is not asked for is inherited, and a start is not cancelled."""
    opened = aiopidfd.anyio.open_process
    with trio.CancelScope(shield=True):
        process = await opened(command, stdin=stdin, stdout=stdout, stderr=stderr, **options)
    return Process(process, command)


async def run_process(
    command: Any,
    *,
    stdin: Any = b"",
    capture_stdout: bool = False,
    capture_stderr: bool = False,
    check: bool = True,
    **options: Any,
) -> CompletedProcess[bytes]:
    """Our own function for a plain call; else trio's, on our `open_process`.

    What is not plain: `nursery.start`, a cancellation of the caller's own, and what trio refuses.
    """
    captured = {"capture_stdout": capture_stdout, "capture_stderr": capture_stderr}
    if options or not isinstance(stdin, bytes):
        return await _trios_run_process(command, stdin=stdin, check=check, **captured, **options)
    stdout, stderr = (PIPE if capture else None for capture in captured.values())
    ours = aiopidfd.anyio.run_process
    return await ours(command, input=stdin, stdout=stdout, stderr=stderr, check=check)


trio.Process = Process  # type: ignore[misc, assignment]
trio.run_process = run_process  # type: ignore[assignment]
trio.lowlevel.open_process = open_process  # type: ignore[assignment]
trio._subprocess._open_process = open_process  # type: ignore[attr-defined]


def after_a_first_start(test: Callable[..., Any]) -> Callable[..., Any]:
    """A loop's first start opens what all later ones use, and a test counts descriptors."""

    @functools.wraps(test)
    async def after(**arguments: Any) -> None:
        await run_process(["true"])
        await test(**arguments)

    return after


def pytest_collection_modifyitems(items: list[Any]) -> None:
    expect_exceptions("trio", items)
    for item in items:
        if item.originalname == "test_for_leaking_fds":
            item.obj = after_a_first_start(item.obj)


@pytest.fixture(scope="session", autouse=True)
def invisible_programs() -> Iterator[None]:
    with counted("trio", _AT_LEAST):
        yield
