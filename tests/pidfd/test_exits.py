"""`wait_pid` and `wait_pidfd`: the exit of any process, on any loop."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

import aiopidfd
from aiopidfd import _native

from .. import fresh
from ..hosts import HOSTS, Seen
from ..support import KERNEL, gate

knows_status = pytest.mark.skipif(
    not aiopidfd.kernel().exit_info,
    reason="before Linux 6.15 no one but the parent is told how a process ended",
)


def start(command: str, stdin: int = 0) -> int:
    """An ordinary child, made by other means."""
    dup = (os.POSIX_SPAWN_DUP2, stdin, 0)
    return os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, file_actions=[dup])


@contextlib.contextmanager
def open_pidfd(pid: int) -> Iterator[int]:
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


COMMANDS = {"exit 0": 0, "exit 3": 3, "exit 255": 255, "sleep 0.05; exit 7": 7, "kill -9 $$": -9}


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_child_is_awaited_and_reaped(command: str) -> None:
    pid = start(command)
    assert await aiopidfd.wait_pid(pid) == COMMANDS[command]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_a_child_that_is_a_zombie_already() -> None:
    pid = start("exit 3")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert asyncio.run(aiopidfd.wait_pid(pid)) == 3


async def test_the_wait_does_not_block_the_loop() -> None:
    with gate() as (held, release, _):
        task = asyncio.ensure_future(aiopidfd.wait_pid(start("read x; exit 3", held)))
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not task.done()
        release()
        assert await task == 3


async def test_a_forked_copy_of_us() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(9)
    assert await aiopidfd.wait_pid(pid) == 9


async def test_a_pidfd_stays_the_caller_s() -> None:
    pid = start("exit 4")
    with open_pidfd(pid) as pidfd:
        assert await aiopidfd.wait_pidfd(pidfd) == 4
        os.fstat(pidfd)


async def test_the_pidfd_may_be_closed_meanwhile() -> None:
    pid = start("sleep 60")
    pidfd = os.pidfd_open(pid)
    task = asyncio.ensure_future(aiopidfd.wait_pidfd(pidfd))
    await asyncio.sleep(0)
    os.close(pidfd)
    with open(os.devnull) as reused:  # the number is another file's now
        assert reused.fileno() == pidfd
        os.kill(pid, signal.SIGTERM)
        assert await task == -15


async def test_a_pidfd_from_another_process() -> None:
    """Of a process that is no child of ours: sent over a Unix socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = """if True:
            import os, socket, subprocess
            child = subprocess.Popen(["sh", "-c", "read x; exit 6"], stdin=subprocess.PIPE)
            with socket.socket(fileno=0) as us:
                socket.send_fds(us, [b"x"], [os.pidfd_open(child.pid)])
                us.recv(1)
                child.stdin.close()
                us.recv(1)
                child.wait()
        """
        with subprocess.Popen([sys.executable, "-c", code], stdin=theirs) as helper:
            _, (pidfd,), _, _ = socket.recv_fds(ours, 1, 1)
            try:
                task = asyncio.ensure_future(aiopidfd.wait_pidfd(pidfd))
                await asyncio.sleep(0)
                assert not task.done()
                ours.send(b"x")  # it exits, and is reaped only when we say so
                await asyncio.sleep(0.05)
            finally:
                ours.send(b"x")
            # Before Linux 6.15 too: /proc tells how a zombie has ended, if we look in time.
            assert await task in ({6} if aiopidfd.kernel().exit_info else {6, None})
            os.close(pidfd)
            assert await aiopidfd.wait_pid(helper.pid, reap=False) == 0
            assert helper.wait() == 0


async def test_without_reaping() -> None:
    """The object that made the child reaps it, and learns the same."""
    process = subprocess.Popen(["/bin/sh", "-c", "exit 5"])
    assert await aiopidfd.wait_pid(process.pid, reap=False) == 5
    assert await aiopidfd.wait_pid(process.pid, reap=False) == 5
    assert process.wait() == 5


async def test_many_waiters() -> None:
    pid = start("sleep 0.05; exit 3")
    with open_pidfd(pid) as pidfd:
        waits = [aiopidfd.wait_pid(pid, reap=False) for _ in range(5)]
        waits += [aiopidfd.wait_pidfd(pidfd, reap=False) for _ in range(5)]
        assert await asyncio.gather(*waits) == [3] * 10
        assert await aiopidfd.wait_pidfd(pidfd) == 3


@knows_status
async def test_waiters_of_whom_one_reaps() -> None:
    pid = start("sleep 0.05; exit 3")
    codes = await asyncio.gather(*(aiopidfd.wait_pid(pid) for _ in range(5)))
    assert codes == [3] * 5


@knows_status
@pytest.mark.parametrize("host", ["blocking reaper", "reaping handler", "ignored", "SA_NOCLDWAIT"])
async def test_a_child_that_others_reap(host: str) -> None:
    with HOSTS[host](Seen()):
        for _ in range(10):
            with gate() as (held, release, _):
                task = asyncio.ensure_future(aiopidfd.wait_pid(start("read x; exit 3", held)))
                await asyncio.sleep(0)  # it has a pidfd now
                release()
                assert await task == 3


async def test_where_the_kernel_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 6.15: the exit is known, the status is not, and nothing is made up."""

    def exit_status(pidfd: int) -> Any:
        raise OSError(95, "not supported")

    pid = start("sleep 0.05; exit 3")
    with open_pidfd(pid) as pidfd:
        task = asyncio.ensure_future(aiopidfd.wait_pidfd(pidfd))
        await asyncio.sleep(0)
        os.waitpid(pid, 0)
        monkeypatch.setattr(_native, "exit_status", exit_status)
        assert await task is None


async def test_a_zombie_that_its_parent_does_not_reap() -> None:
    """It is told of as a zombie; the kernel shows the status to whom it may (/proc/PID/stat)."""
    code = """if True:
        import os
        print(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 8"], {}), flush=True)
        input()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    zombie = int(parent.stdout.readline())
    assert await aiopidfd.wait_pid(zombie) == 8
    parent.communicate(b"\n")


async def test_a_group_whose_first_thread_has_ended() -> None:
    """Its /proc/PID/stat says Z, but the process is not over."""
    code = """if True:
        import ctypes, os, threading, sys
        def rest():
            while open("/proc/self/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
                pass
            print("first thread is gone", flush=True)
            sys.stdin.read(1)
            os._exit(12)
        threading.Thread(target=rest).start()
        ctypes.CDLL(None).pthread_exit(None)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    task = asyncio.ensure_future(aiopidfd.wait_pid(process.pid, reap=False))
    await asyncio.sleep(0.02)
    assert not task.done()
    process.stdin.write(b"x")
    process.stdin.flush()
    # In Linux 5.10 (not in 6.1), waitid(2) with WNOWAIT tells how the first thread ended.
    assert await task == (12 if KERNEL >= (6, 1) else 0)
    process.communicate()
    assert process.returncode == 12


async def test_a_cancelled_wait_leaves_the_child_alone() -> None:
    pid = start("sleep 60")
    task = asyncio.ensure_future(aiopidfd.wait_pid(pid))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.kill(pid, signal.SIGTERM)
    assert await aiopidfd.wait_pid(pid) == -15


async def test_no_such_process() -> None:
    pid = start("exit 0")
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        await aiopidfd.wait_pid(pid)


@pytest.mark.parametrize("pid", [0, -1])
async def test_no_process_id(pid: int) -> None:
    with pytest.raises(ValueError, match=f"not a process id: {pid}"):
        await aiopidfd.wait_pid(pid)


async def test_no_pidfd() -> None:
    with open(os.devnull) as file, pytest.raises(OSError, match="Bad file descriptor"):
        await aiopidfd.wait_pidfd(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        await aiopidfd.wait_pidfd(-1)


def test_without_a_loop() -> None:
    pid = start("sleep 60")
    waiting = aiopidfd.wait_pid(pid)
    with pytest.raises(RuntimeError, match=r"^wait_pid\(\) needs .* PidFd.wait_blocking\(\)"):
        waiting.send(None)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_on_trio() -> None:
    async def main() -> None:
        pids = [start(f"sleep 0.0{number}; exit {number}") for number in range(1, 5)]
        codes = {}

        async def wait(pid: int) -> None:
            codes[pid] = await aiopidfd.wait_pid(pid)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for pid in pids:
                    nursery.start_soon(wait, pid)
            assert [codes[pid] for pid in pids] == [1, 2, 3, 4]

            sleeper = start("sleep 60")
            with trio.move_on_after(0.01) as scope:
                await aiopidfd.wait_pid(sleeper)
            assert scope.cancelled_caught
            os.kill(sleeper, signal.SIGTERM)
            assert await aiopidfd.wait_pid(sleeper) == -15

    trio.run(main)


@knows_status
def test_on_trio_with_a_reaper() -> None:
    async def main() -> None:
        for _ in range(10):
            with gate() as (held, release, _):
                waiting = aiopidfd.wait_pid(start("read x; exit 3", held))

                async def wait(waiting: Any = waiting) -> None:
                    assert await waiting == 3

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked()  # it has a pidfd now
                    release()

    with HOSTS["blocking reaper"](Seen()):
        trio.run(main)


def test_a_process_of_another_user() -> None:
    if os.geteuid():
        pytest.skip("only root can become nobody and look back at root's process")
    assert (
        fresh.run("""
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 0.1; exit 3"], os.environ)
        stranger = os.fork()
        if stranger == 0:
            os.setresuid(65534, 65534, 65534)
            status = asyncio.run(aiopidfd.wait_pid(pid))  # may not signal it
            os._exit(0 if status in (3, None) else 1)
        assert os.waitpid(pid, 0)[1] == 3 << 8
        print(os.waitpid(stranger, 0)[1])
    """)
        == "0\n"
    )
