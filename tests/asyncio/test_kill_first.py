"""A program that is ended never reads a clean end of its input first: it is killed, then closed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd._asyncio import process_streams as streams_module
from aiopidfd._asyncio import transport as transport_module

from ..anyio_support import Backend, backends
from ..support import hang_guard, sh, until

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": aiopidfd.EventLoop,
    "uvloop": aiopidfd.UvloopEventLoop,
}

# Says so when it has read what takes its input for whole.
COMMIT = 'echo >"$1.ready"; while read line; do :; done; echo commit >>"$1"'

ROUNDS = 30


@pytest.fixture
def both_cores_busy() -> Iterator[None]:
    """So that a program that is woken runs before we go on, as often as not."""
    burner = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    burners = [subprocess.Popen(burner) for _ in range(len(os.sched_getaffinity(0)))]
    try:
        yield
    finally:
        for each in burners:
            each.kill()
            each.wait()


async def ready(path: Path) -> None:
    mark = path.with_suffix(".ready")
    await until(mark.exists)
    mark.unlink()


async def test_a_transport_that_is_closed(both_cores_busy: None, tmp_path: Path) -> None:
    loop, path = asyncio.get_running_loop(), tmp_path / "file"
    with hang_guard():
        for _ in range(ROUNDS):
            transport, _ = await loop.subprocess_exec(
                asyncio.SubprocessProtocol, *sh(COMMIT, str(path)), stdout=None, stderr=None
            )
            await ready(path)
            stdin: Any = transport.get_pipe_transport(0)
            stdin.write(b"half a li")
            transport.close()
            await transport._wait()  # type: ignore[attr-defined]
    assert not path.exists()


async def test_a_process_that_is_closed(both_cores_busy: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with hang_guard():
        for _ in range(ROUNDS):
            process = await aiopidfd.create_subprocess_exec(*sh(COMMIT, str(path)), stdin=PIPE)
            assert process.stdin is not None
            await ready(path)
            process.stdin.write(b"half a li")
            await process.aclose(grace=0)
    assert not path.exists()


@pytest.mark.parametrize("what", ["transport", "process"])
async def test_the_streams_cannot_be_opened(
    what: str, monkeypatch: pytest.MonkeyPatch, both_cores_busy: None, tmp_path: Path
) -> None:
    """Its stdin is opened by then, and its stdout cannot be."""
    loop, path = asyncio.get_running_loop(), tmp_path / "file"

    def fail(_: Any, fd: int, *__: Any) -> Any:
        os.close(fd)
        mark = path.with_suffix(".ready")
        while not mark.exists():  # it is about to read
            pass
        mark.unlink()
        raise OSError("no")

    def start() -> Any:
        if what == "process":
            command = sh(COMMIT, str(path))
            return aiopidfd.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        protocol = asyncio.SubprocessProtocol
        return loop.subprocess_exec(protocol, *sh(COMMIT, str(path)), stderr=None)

    monkeypatch.setattr(streams_module, "OutputReader", fail)
    monkeypatch.setattr(transport_module, "ReadPipe", fail)
    with hang_guard():
        for _ in range(ROUNDS // 3):
            with pytest.raises(OSError, match="no"):
                await start()
    assert not path.exists()


@backends("asyncio", "uvloop", "trio")
@pytest.mark.parametrize("how", ["supervise", "run_process"])
def test_what_is_cancelled_while_it_is_fed(backend: Backend, how: str, tmp_path: Path) -> None:
    """It has its grace: then the rest of its input is not cut off either."""
    path = tmp_path / "file"
    function: Any = getattr(aiopidfd.anyio, how)
    script = (
        'trap "" TERM; read line; echo >"$1.ready"; '
        'while ! test -e "$1.cancelled"; do sleep 0.01; done; wc -c >>"$1"'
    )
    data = b"begin\n" + bytes(5_000_000)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            start = partial(function, sh(script, str(path)), input=data, grace=30, stderr=None)
            group.start_soon(start)
            while not path.with_suffix(".ready").exists():
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)  # what is closed now is closed
                path.with_suffix(".cancelled").touch()

    backend.run(main)
    assert int(path.read_text()) == 5_000_000
