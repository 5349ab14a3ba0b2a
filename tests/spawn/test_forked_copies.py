"""In a forked copy of us a program is nobody's child: each call says so, and does nothing to it."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio

from ..anyio_support import BACKENDS, Backend, backends
from ..census import childless, soon
from ..support import hang_guard


def in_a_copy(use: Callable[[], object]) -> str:
    """What it raises in a forked copy: "type: text"."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing"
        try:
            use()
        except BaseException as exc:
            said = f"{type(exc).__name__}: {exc}"
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    with open(read) as file:
        said = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


FOREIGN = "ChildProcessError: [Errno 10] the child belongs to the process that forked this one"


def calls(process: Any) -> list[Callable[[], object]]:
    return [
        process.kill,
        process.terminate,
        lambda: process.send_signal(0),
        process.children,
        process.terminate_tree,
        process.handle().__enter__,
        lambda: aiopidfd.PidFd.from_process(process),
    ]


def test_of_a_child() -> None:
    child = aiopidfd.spawn(["sleep", "1000"])
    for use in [*calls(child), child.kill_tree, child.poll, child.wait, lambda: child.wait(5)]:
        assert in_a_copy(use) == FOREIGN
    assert child.poll() is None
    assert child.kill_tree()
    assert child.wait() == -9


def test_the_guardian_of_what_was_dropped_is_not_the_copy_s() -> None:
    """Somebody has stopped it, and the copy's first starts do not continue it."""
    child = aiopidfd.spawn(["sleep", "1000"])
    guardian, pidfd = child.guardian_pid, os.pidfd_open(child.pid)
    del child
    os.kill(guardian, signal.SIGSTOP)
    status = Path(f"/proc/{guardian}/status")
    assert soon(lambda: "T (stopped)" in status.read_text())
    copy = os.fork()
    if copy == 0:
        os._exit(aiopidfd.spawn(["true"]).wait())
    assert os.waitpid(copy, 0)[1] == 0
    assert "T (stopped)" in status.read_text()
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    os.kill(guardian, signal.SIGCONT)
    assert childless()


def test_of_a_child_that_has_exited_before() -> None:
    child = aiopidfd.spawn(["true"])
    assert child.wait() == 0
    for use in (child.kill, child.children):
        assert in_a_copy(use).startswith("ProcessLookupError: ")
    for use in (child.wait, child.poll):
        assert in_a_copy(use) == "nothing"


async def test_of_a_process() -> None:
    process = await aiopidfd.create_subprocess_exec("sleep", "1000")
    for use in calls(process):
        assert in_a_copy(use) == FOREIGN
    assert in_a_copy(lambda: process.kill_tree().send(None)) == FOREIGN
    assert process.returncode is None
    with hang_guard():
        await process.aclose(grace=0)
    assert process.returncode == -9


async def test_of_a_transport() -> None:
    loop = asyncio.get_running_loop()
    aiopidfd.install(loop)
    transport: Any
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
    for use in (transport.kill, transport.terminate, lambda: transport.send_signal(0)):
        assert in_a_copy(use) == FOREIGN
    assert in_a_copy(transport.close) == "nothing"
    assert transport.get_returncode() is None
    transport.close()
    with hang_guard():
        assert await transport._wait() == -9
    aiopidfd.uninstall(loop)


@backends(*BACKENDS)
def test_on_anyio(backend: Backend) -> None:
    async def body() -> None:
        process = await aiopidfd.anyio.open_process(
            ["sleep", "1000"], stdin=None, stdout=None, stderr=None
        )
        for use in calls(process):
            assert in_a_copy(use) == FOREIGN
        assert await process.kill_tree()
        await process.aclose()

    backend.run(body)


# What is said after the exit


async def test_the_tree_of_what_has_exited() -> None:
    process = await aiopidfd.create_subprocess_exec("true")
    await process.wait()
    for use in (process.children, process.terminate_tree):
        with pytest.raises(ProcessLookupError, match="has exited, and nobody has kept track of"):
            use()
    with pytest.raises(aiopidfd.NoHandleError, match="the program has exited"):
        process.handle().__enter__()
    assert await process.kill_tree()
    assert await process.wait_tree() == 0
