"""Where a `PidFd` comes from, which process it is of, and what is no process."""

import asyncio
import errno
import fcntl
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import uvloop

import aiopidfd
from aiopidfd import NoHandleError, PidFd
from aiopidfd._pidfd import info as pidinfo
from aiopidfd._pidfd import pidfd as pidfd_module

from .. import fresh
from ..census import open_fds
from ..support import KERNEL, hang_guard, sh
from .test_pidfd import has_scopes, linux, sleeper, start

# By a pid


@pytest.mark.parametrize(
    ("pid", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2**40, OverflowError),
        (True, TypeError),
        ("1", TypeError),
        (1.0, TypeError),
        (None, TypeError),
    ],
    ids=str,
)
def test_what_is_no_pid(pid: Any, error: type[Exception]) -> None:
    """Alike, wherever one is taken."""
    said = []
    for use in (
        lambda: PidFd.open(pid),
        lambda: PidFd.open(pid, thread=True),
        lambda: aiopidfd.wait_pid(pid).send(None),
    ):
        with pytest.raises(error) as caught:
            use()
        said.append(str(caught.value))
    assert len({*said}) == 1


# By a directory of /proc


def test_a_directory_of_something_else() -> None:
    before = open_fds()
    places = ["/proc", "/proc/net", "/proc/self/fd", "/proc/self/task", "/proc/sys"]
    places += ["/proc/thread-self", "/proc/self/net", "/proc/self/ns", "/proc/self/stat", "/"]
    for place in places:
        directory = os.open(place, os.O_RDONLY)
        with pytest.raises(OSError, match="not a process's directory in /proc") as caught:
            PidFd.from_proc(directory)
        assert caught.value.errno == errno.EBADF  # ESRCH would say that the process has gone
        os.close(directory)
    assert open_fds() == before


def test_a_directory_of_a_process_that_we_may_not_signal() -> None:
    fresh.run(
        f"""
        import pytest

        # In Linux 5.10 (not in 6.1), who has changed its ids may not read its own fdinfo.
        error = contextlib.nullcontext() if {KERNEL} >= (6, 1) else pytest.raises(PermissionError)
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
            directory = os.open("/proc/1", os.O_RDONLY)
            with error, aiopidfd.PidFd.from_proc(directory) as handle:
                assert handle.getpid() == 1
        """
    )


# By what somebody else has started


def test_a_popen() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        with PidFd.from_process(process) as handle:
            assert handle.getpid() == process.pid
            handle.kill()
            assert handle.wait_blocking(30, reap=False) == -9
            with PidFd.from_process(process) as again:  # a zombie that is still to be reaped
                assert again.getpid() == process.pid
        assert process.wait() == -9
        with pytest.raises(NoHandleError, match="the program has exited"):
            PidFd.from_process(process)


def test_a_popen_whose_child_was_reaped_by_somebody_else() -> None:
    before = open_fds()
    process = subprocess.Popen(["true"])
    os.waitpid(process.pid, 0)
    with pytest.raises(NoHandleError, match="reaped"):
        PidFd.from_process(process)
    # As if its pid were a stranger's by now.
    pid, process.pid = process.pid, 1
    with pytest.raises(NoHandleError, match="pid 1 is no child of this process, or was reaped"):
        PidFd.from_process(process)
    process.pid = pid
    assert process.wait() == 0
    assert open_fds() == before


def test_asyncios_process() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        with PidFd.from_process(process) as handle:
            assert handle.getpid() == process.pid
            handle.kill()
        assert await process.wait() == -9
        with pytest.raises(NoHandleError):
            PidFd.from_process(process)

    for factory in (asyncio.SelectorEventLoop, aiopidfd.EventLoop, aiopidfd.UvloopEventLoop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())


def test_trios_process() -> None:
    async def main() -> None:
        process = await trio.lowlevel.open_process(["sleep", "1000"])
        with PidFd.from_process(process) as handle:
            assert handle.getpid() == process.pid
            handle.kill()
        assert await process.wait() == -9

    trio.run(main)


async def test_a_transport_of_ours() -> None:
    loop = asyncio.get_running_loop()
    aiopidfd.install(loop)
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
    with hang_guard(), PidFd.from_process(transport) as handle:
        assert handle.getpid() == transport.get_pid()
        transport.close()
        assert await handle.wait() in (-9, None)
        await transport._wait()
    aiopidfd.uninstall(loop)


def test_multiprocessings_own() -> None:
    process = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
    with pytest.raises(ValueError, match="the process was not started"):
        PidFd.from_process(process)
    process.start()
    with PidFd.from_process(process) as handle:
        assert handle.getpid() == process.pid
    process.kill()
    process.join()
    with pytest.raises(NoHandleError, match="the program has exited"):
        PidFd.from_process(process)
    process.close()
    with pytest.raises(ValueError, match="closed"):
        PidFd.from_process(process)


@pytest.mark.parametrize(
    "thing",
    [1, None, "1", object(), Path("/"), type("HasPid", (), {"pid": 1})(), subprocess],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_process(thing: Any) -> None:
    text = rf"from_process\(\) takes a process of .*, not {type(thing).__name__}"
    with pytest.raises(TypeError, match=text) as caught:
        PidFd.from_process(thing)
    has_pid = isinstance(thing, int) or hasattr(thing, "pid")
    assert ("PidFd.open() takes a pid" in str(caught.value)) == has_pid


def test_psutils_process() -> None:
    """It holds no pid: it compares start times."""
    psutil = pytest.importorskip("psutil")
    with pytest.raises(TypeError, match=r"not Process; PidFd\.open\(\) takes a pid"):
        PidFd.from_process(psutil.Process())


# By a socket


has_peers = pytest.mark.skipif(linux() < (6, 5), reason="SO_PEERPIDFD: Linux 6.5")


@has_peers
def test_a_peer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, PidFd.from_peer(ours) as handle:
        assert handle.getpid() == os.getpid()
        assert fcntl.fcntl(handle.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


@has_peers
def test_the_peer_of_a_connection(tmp_path: Path) -> None:
    code = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); s.recv(1)"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        child = aiopidfd.spawn([sys.executable, "-ISc", code, str(tmp_path / "socket")])
        connection, _ = listener.accept()
        with connection, PidFd.from_peer(connection) as handle:
            assert handle.getpid() == child.pid
            connection.send(b"x")
            assert handle.wait_blocking(30) in (0, None)
        assert child.wait() == 0


@has_peers
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_peer_of_a_stream(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def body() -> None:
        peers: asyncio.Queue[int] = asyncio.Queue()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with PidFd.from_peer(writer.get_extra_info("socket")) as handle:
                await peers.put(handle.getpid())
            await reader.read()
            writer.close()

        where = str(tmp_path / "socket")
        async with await asyncio.start_unix_server(connected, where):
            _, writer = await asyncio.open_unix_connection(where)
            assert await peers.get() == os.getpid()
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(body())


@has_peers
def test_no_peer() -> None:
    before = open_fds()
    for kind in (socket.AF_UNIX, socket.AF_INET):
        with socket.socket(kind) as alone, pytest.raises(OSError) as caught:  # noqa: PT011
            PidFd.from_peer(alone)
        assert caught.value.errno in (errno.ENODATA, errno.ENOPROTOOPT)
    for thing in (3, None, "x"):
        with pytest.raises(TypeError, match="a socket is needed, not "):
            PidFd.from_peer(thing)
    assert open_fds() == before


# Which process it is


@has_scopes
def test_identity() -> None:
    with sleeper() as first, sleeper() as second:
        one, again, other = PidFd.open(first), PidFd.open(first), PidFd.open(second)
        with one, again, other:
            assert (one == again, one != again) == (True, False)
            assert (one.id, hash(one)) == (again.id, hash(again))
            assert one != other
            assert one.id != other.id
            assert {one, again, other} == {one, other}
            assert one != first
            with PidFd.from_fd(one.fileno()) as copied:
                assert copied == one
            number = one.id
    # It stays what it is: after the end, and closed.
    assert one.id == again.id == number
    assert one == again
    assert one != other
    assert {one: 1}[again] == 1


@has_scopes
def test_a_thread_is_not_its_process() -> None:
    pid = os.getpid()
    with PidFd.open(pid) as process, PidFd.open(pid, thread=True) as thread:
        assert process.id == thread.id  # the first thread's
        assert process != thread
        with PidFd.open(pid, thread=True) as again:
            assert thread == again


@has_scopes
def test_a_pid_that_came_back_is_another() -> None:
    """In a pid namespace of its own, where the next pid can be chosen."""
    if os.geteuid():
        pytest.skip("a pid namespace needs root")
    code = """
        child = aiopidfd.spawn(["sleep", "0.3"])
        pid = child.pid
        one = aiopidfd.PidFd.from_process(child)
        child.wait()
        pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        process = os.posix_spawn("/bin/true", ["true"], os.environ)
        with aiopidfd.PidFd.open(process) as other:
            print(process == pid, one == other)
        one.close()
        os.waitpid(process, 0)
    """
    said = fresh.run(code, "unshare", "-pf", "--mount-proc")
    assert said == "True False\n"


def test_before_linux_6_9(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidfd_module, "_PIDFS", 0)
    with PidFd.open(os.getpid()) as one, PidFd.open(os.getpid()) as other:
        for use in (lambda: one.id, lambda: hash(one), lambda: one == other, lambda: one != other):
            with pytest.raises(
                OSError, match=r"no number of their own before Linux 6\.9"
            ) as caught:
                use()
            assert caught.value.errno == errno.ENOTSUP
        assert one == one
        assert one != 3


# Core dumps


def answer(monkeypatch: pytest.MonkeyPatch, mask: int, status: int, *dump: int) -> Any:
    """What info() makes of an answer of the kernel's."""

    def ioctl(fd: int, request: int, buffer: bytearray) -> int:
        assert request >> 16 & 0x3FFF == len(buffer) == 72
        assert struct.unpack_from("=Q", buffer)[0] & 0b1011100 == 0b1011100
        struct.pack_into("=QQ3I8IiII", buffer, 0, mask, 0, *[0] * 11, status, *dump)
        return 0

    monkeypatch.setattr(pidinfo.fcntl, "ioctl", ioctl)
    info = pidinfo.process_info(-1, lambda fd: fd)
    monkeypatch.undo()
    return info


def test_core_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    dumped = answer(monkeypatch, 0x58, 0x8B, 0b101, 11)
    assert (dumped.returncode, dumped.core_dumped) == (-11, True)
    assert dumped.coredump == aiopidfd.CoreDump.DUMPED | aiopidfd.CoreDump.AS_USER
    assert dumped.coredump_signal == 11
    without_signal = answer(monkeypatch, 0x18, 0x8B, 0b1001, 0)  # Linux 6.16 to 6.18
    assert without_signal.coredump == aiopidfd.CoreDump.DUMPED | aiopidfd.CoreDump.AS_ROOT
    assert without_signal.coredump_signal is None
    skipped = answer(monkeypatch, 0x58, 0x0B, 0b10, 11)
    assert (skipped.core_dumped, skipped.coredump) == (False, aiopidfd.CoreDump.SKIPPED)
    for mask in (0x08, 0x18):  # older; one that knows nothing of this process's
        unknown = answer(monkeypatch, mask, 0x8B, 0, 0)
        assert (unknown.coredump, unknown.coredump_signal) == (None, None)
    assert answer(monkeypatch, 0x58, 0, 1 << 30, 0).coredump == 1 << 30  # one of the future


def test_core_dumps_of_this_kernel() -> None:
    with sleeper() as pid, PidFd.open(pid) as handle:
        expected = None if linux() < (6, 16) else aiopidfd.CoreDump.AS_USER
        assert handle.info().coredump == expected
        assert handle.info().coredump_signal is None
    pid = start("exit 3")
    with PidFd.open(pid) as handle:
        os.waitpid(pid, 0)
        if linux() >= (6, 15):
            assert handle.info().coredump is None


async def test_a_child_and_its_processes() -> None:
    with hang_guard():
        process = await aiopidfd.create_subprocess_exec(*sh("sleep 1000 & wait"))
        while len(children := process.children()) < 1:
            await asyncio.sleep(0.01)
        if linux() >= (6, 9):  # before that a process has no identity
            assert {*children} == {*process.children()}
        assert await process.kill_tree()
