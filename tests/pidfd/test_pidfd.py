"""`PidFd`: any process, by its descriptor."""

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import aiopidfd
from aiopidfd import PidFd
from aiopidfd._pidfd import info as pidinfo

from .. import fresh
from ..raising import RaisedError, raising_at
from ..support import KERNEL, exists, gate, hang_guard, sh, warnings_given

knows_status = pytest.mark.skipif(
    not aiopidfd.kernel().exit_info,
    reason="before Linux 6.15 no one but the parent is told how a process ended",
)


def linux() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int(minor)


has_scopes = pytest.mark.skipif(linux() < (6, 9), reason="PIDFD_SIGNAL_*, PIDFD_THREAD: Linux 6.9")


def start(command: str, stdin: int = 0) -> int:
    dup = (os.POSIX_SPAWN_DUP2, stdin, 0)
    return os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, file_actions=[dup])


@contextlib.contextmanager
def sleeper(*, session: bool = False) -> Iterator[int]:
    """A child that sleeps until it is killed; reaped if nobody has done so."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=session)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


# How to come by one


def test_open() -> None:
    with sleeper() as pid, PidFd.open(pid) as handle:
        assert handle.getpid() == pid
        assert handle.fileno() > 2
        assert fcntl.fcntl(handle.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert repr(handle) == f"<PidFd pid={pid} running fd={handle.fileno()}>"
        assert not handle.closed
    assert handle.closed
    assert handle.fileno() == -1
    assert repr(handle) == "<PidFd closed>"


def test_no_such_process() -> None:
    pid = start("exit 0")
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        PidFd.open(pid)


def test_a_descriptor_of_one_s_own_is_taken_over() -> None:
    with sleeper() as pid:
        fd = os.pidfd_open(pid)
        os.set_inheritable(fd, True)
        with PidFd(fd) as handle:
            assert handle.fileno() == fd
            assert not os.get_inheritable(fd)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_from_fd_leaves_the_descriptor() -> None:
    with sleeper() as pid:
        fd = os.pidfd_open(pid)
        with PidFd.from_fd(fd) as handle:
            assert handle.fileno() != fd
            assert handle.getpid() == pid
        os.close(fd)


@pytest.mark.parametrize("make", [PidFd, PidFd.from_fd])
def test_what_is_no_pidfd(make: Any) -> None:
    with open(os.devnull) as file:
        with pytest.raises(OSError, match="not a pidfd") as caught:
            make(file.fileno())
        assert caught.value.errno == errno.EBADF
        os.fstat(file.fileno())  # it is still the caller's
    for closed in (-1, 1_000_000):
        with pytest.raises(OSError, match="not a pidfd"):
            make(closed)
    with pytest.raises(TypeError, match="fd must be an integer, not str"):
        make("3")


def test_from_a_proc_directory() -> None:
    with sleeper() as pid:
        directory = os.open(f"/proc/{pid}", os.O_RDONLY)
        with PidFd.from_proc(directory) as handle:
            assert handle.getpid() == pid
            handle.kill()
            assert handle.wait_blocking(30) == -9
        with pytest.raises(ProcessLookupError):
            PidFd.from_proc(directory)
        os.close(directory)


def test_from_a_directory_of_something_else(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="not a process's directory in /proc"):
        PidFd.from_proc(directory)
    os.close(directory)
    with pytest.raises(TypeError, match=r"must be an integer, not str: os.open\(\) gives one"):
        PidFd.from_proc("/proc/self")  # type: ignore[arg-type]


async def test_from_a_process_which_it_outlives() -> None:
    process = await aiopidfd.create_subprocess_exec("sleep", "60")
    handle = PidFd.from_process(process)
    handle.terminate()
    assert await process.wait() == -15
    with pytest.raises(aiopidfd.NoHandleError, match="the program has exited"):
        PidFd.from_process(process)
    with pytest.raises(ProcessLookupError):
        handle.terminate()
    if aiopidfd.kernel().exit_info:
        assert await handle.wait() == -15
    handle.close()


def test_sent_to_another_process_and_back() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, sleeper() as pid, PidFd.open(pid) as handle:
        code = """if True:
            import socket, sys, aiopidfd
            with socket.socket(fileno=0) as us, aiopidfd.PidFd.receive(us) as handle:
                handle.kill()
                handle.send(us)
        """
        environment = {**os.environ, "PYTHONPATH": str(Path(aiopidfd.__file__).parents[1])}
        helper = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, env=environment)
        handle.send(ours)
        with PidFd.receive(ours) as back:
            assert back.getpid() == pid
            assert back.wait_blocking(30, reap=False) == -9
        assert helper.wait() == 0


def test_receive_what_is_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        with pytest.raises(OSError, match="no descriptor came"):
            PidFd.receive(ours)
        socket.send_fds(theirs, [b"x"], [0])
        with pytest.raises(OSError, match="not a pidfd"):
            PidFd.receive(ours)
        theirs.close()
        with pytest.raises(EOFError):
            PidFd.receive(ours)


# Closing


def test_close_again_and_use_after_it() -> None:
    with sleeper() as pid:
        handle = PidFd.open(pid)
        handle.close()
        handle.close()
        for use in (
            handle.getpid,
            handle.info,
            handle.kill,
            handle.open_proc,
            handle.wait_blocking,
            lambda: handle.getfd(0),
        ):
            with pytest.raises(ValueError, match="the PidFd is closed"):
                use()


async def test_a_waiter_is_woken_by_the_close() -> None:
    with sleeper() as pid:
        handle = PidFd.open(pid)
        tasks = [asyncio.ensure_future(handle.wait()) for _ in range(3)]
        await asyncio.sleep(0.01)
        handle.close()
        with hang_guard():
            for task in tasks:
                with pytest.raises(ValueError, match="the PidFd was closed"):
                    await task


def test_a_blocked_thread_is_woken_by_the_close() -> None:
    with sleeper() as pid:
        handle = PidFd.open(pid)
        errors: list[Exception] = []

        def wait() -> None:
            try:
                handle.wait_blocking()
            except ValueError as exc:
                errors.append(exc)

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        while handle._users < 4:
            time.sleep(0.001)
        handle.close()
        for thread in threads:
            thread.join()
        assert len(errors) == 4


def test_the_number_is_not_reused_under_a_caller() -> None:
    with sleeper() as pid:
        handle = PidFd.open(pid)
        with handle.hold() as fd:
            handle.close()
            with open(os.devnull) as other:
                assert other.fileno() != fd
            signal.pidfd_send_signal(fd, 0)  # it is still the process's
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_a_signal_handler_may_use_what_it_has_interrupted() -> None:
    """Its thread may hold the lock at that moment."""
    fresh.run(
        """
        handle = aiopidfd.PidFd.open(os.getpid())
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(handle.send_signal(0)))
        with handle._lock:
            signal.raise_signal(signal.SIGUSR1)
        assert seen == [None]

        class Interrupted:  # as it is left for the first time
            def __init__(self, lock):
                self.lock, self.left = lock, 1

            def __enter__(self):
                self.lock.__enter__()

            def __exit__(self, *exc_info):
                self.lock.__exit__(*exc_info)
                self.left -= 1
                if not self.left:
                    handle.close()

        fd = handle.fileno()
        handle._lock = Interrupted(handle._lock)
        try:
            with handle.hold() as held:
                assert held == fd
        except ValueError:
            pass
        assert handle.closed
        assert not os.path.exists(f"/proc/self/fd/{fd}")
        """
    )


def test_many_threads_use_and_close() -> None:
    with sleeper() as pid:
        for _ in range(100):
            handle = PidFd.open(pid)
            errors: list[BaseException] = []

            def use(handle: PidFd = handle, errors: list[BaseException] = errors) -> None:
                try:
                    while True:
                        assert handle.getpid() == pid
                        handle.send_signal(0)
                except ValueError:
                    pass
                except BaseException as exc:
                    errors.append(exc)

            threads = [threading.Thread(target=use) for _ in range(4)]
            for thread in threads:
                thread.start()
            handle.close()
            for thread in threads:
                thread.join()
            assert errors == []


def test_dropped() -> None:
    with sleeper() as pid:
        handle = PidFd.open(pid)
        said = f"unclosed {handle!r}"
        with warnings_given() as given:
            del handle  # the fixture counts descriptors
        assert given == [(ResourceWarning, said)]


def test_dropped_when_the_interpreter_ends() -> None:
    """Much is gone by then, open() for one. Those of children() say nothing."""
    code = """if True:
        import builtins, os, aiopidfd
        builtins.last = [aiopidfd.PidFd.open(os.getpid())]
        with aiopidfd.spawn("sleep 1000 & wait", shell=True) as child:
            while not (children := child.children()):
                pass
            builtins.last += children
            child.kill_tree()
    """
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        cwd=fresh.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    said = r"<?sys>?:\d+: ResourceWarning: unclosed <PidFd pid=\d+ running fd=\d+>\n"
    assert re.fullmatch(said, result.stderr), result.stderr


def test_those_of_children_may_be_dropped() -> None:
    with aiopidfd.spawn(["sh", "-c", "sleep 1000 & wait"]) as child, warnings_given() as given:
        while not child.children():
            pass
        assert child.kill_tree()
    assert given == []


def test_a_closed_one_is_not_entered() -> None:
    with PidFd.open(os.getpid()) as handle:
        pass
    with pytest.raises(ValueError, match="the PidFd is closed"), handle:
        pass


@pytest.mark.parametrize("method", ["hold", "handle"])
def test_what_is_lent_says_so(method: str) -> None:
    with aiopidfd.spawn(["sleep", "1000"]) as child, PidFd.from_process(child) as handle:
        owner = handle if method == "hold" else child
        lent = getattr(owner, method)()
        assert repr(lent) == f"<{method}() of {owner!r}: a descriptor in a `with` block>"
        with lent as fd:
            os.fstat(fd)
        child.kill()


def test_kill_on_close() -> None:
    for make in (PidFd.open, lambda pid, **options: PidFd(os.pidfd_open(pid), **options)):
        pid = start("sleep 60")
        handle = make(pid, kill_on_close=True)
        handle.close()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9


def test_a_forked_copy_does_not_kill_on_close() -> None:
    with sleeper() as pid:
        handle = PidFd.open(pid, kill_on_close=True)
        copy = os.fork()
        if copy == 0:
            handle.close()
            os._exit(0)
        assert os.waitpid(copy, 0)[1] == 0
        with pytest.raises(TimeoutError):
            handle.wait_blocking(0.02, reap=False)
        handle.close()


# Signals


def test_signals() -> None:
    for send, status in (
        (lambda handle: handle.terminate(), -15),
        (lambda handle: handle.kill(), -9),
        (lambda handle: handle.send_signal(signal.SIGUSR1), -signal.SIGUSR1),
    ):
        pid = start("exec sleep 60")
        with PidFd.open(pid) as handle:
            send(handle)
            assert handle.wait_blocking(30) == status
            with pytest.raises(ProcessLookupError):
                send(handle)


def test_a_signal_that_does_not_exist() -> None:
    with sleeper() as pid, PidFd.open(pid) as handle:
        with pytest.raises(OSError, match="Invalid argument"):
            handle.send_signal(1000)
        nowhere: Any = "nowhere"
        with pytest.raises(ValueError, match="to must be one of handle, thread, process, group"):
            handle.send_signal(0, to=nowhere)


@has_scopes
def test_a_signal_to_a_group() -> None:
    leader = subprocess.Popen(sh("sleep 60 & echo $!; exec sleep 60"), stdout=-1, process_group=0)
    assert leader.stdout is not None
    member = int(leader.stdout.readline())
    with PidFd.open(leader.pid) as handle, PidFd.open(member) as other:
        handle.send_signal(signal.SIGTERM, to="group")
        assert handle.wait_blocking(30, reap=False) == -15
        assert other.wait_blocking(30) in (-15, None)
    assert leader.wait() == -15
    leader.stdout.close()


@has_scopes
def test_a_signal_to_a_thread_and_the_wait_for_one() -> None:
    ended = threading.Event()
    tids: list[int] = []
    got: list[tuple[int, int]] = []

    def work() -> None:
        tids.append(threading.get_native_id())
        ended.wait()

    before = signal.signal(signal.SIGUSR1, lambda *_: got.append((os.getpid(), 1)))
    thread = threading.Thread(target=work)
    thread.start()
    while not tids:
        time.sleep(0.001)
    with PidFd.open(tids[0], thread=True) as handle:
        assert handle.getpid() == tids[0]
        assert handle.info().tgid == os.getpid()
        handle.send_signal(signal.SIGUSR1)
        while not got:
            time.sleep(0.001)
        with pytest.raises(TimeoutError):
            handle.wait_blocking(0.01)
        ended.set()
        thread.join()
        handle.wait_blocking(30)
    signal.signal(signal.SIGUSR1, before)


def test_a_process_that_we_may_not_signal() -> None:
    if os.geteuid():
        pytest.skip("only root can become nobody and look at root's process")
    fresh.run(f"""
        import pytest

        handle = aiopidfd.PidFd.open(os.getppid())
        os.setresuid(65534, 65534, 65534)
        try:
            handle.terminate()
        except PermissionError:
            pass
        else:
            raise AssertionError("we may")
        # In Linux 5.10 (not in 6.1), who has changed its ids may not read its own fdinfo.
        error = contextlib.nullcontext() if {KERNEL} >= (6, 1) else pytest.raises(PermissionError)
        with error:
            assert handle.getpid() == os.getppid()
        handle.close()
    """)


# Its end


async def test_the_exit_of_a_child() -> None:
    with gate() as (held, release, _), PidFd.open(start("read x; exit 3", held)) as handle:
        waits = [asyncio.ensure_future(handle.wait(reap=False)) for _ in range(5)]
        await asyncio.sleep(0.005)
        assert not any(task.done() for task in waits)
        release()
        assert await asyncio.gather(*waits) == [3] * 5
        assert await handle.wait() == 3


def test_the_exit_on_trio() -> None:
    async def main() -> None:
        with PidFd.open(start("exit 3")) as handle:
            assert await handle.wait() == 3

    trio.run(main)


@knows_status
async def test_the_exit_of_a_stranger() -> None:
    """Polled and asked by who is not its parent."""
    process = await aiopidfd.create_subprocess_exec("sleep", "60")
    with PidFd.open(process.pid) as handle:
        process.kill()
        await process.wait()
        assert await handle.wait() == -9
        assert handle.wait_blocking() == -9


async def test_unknown_is_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_status(fd: int) -> Any:
        raise OSError(errno.EOPNOTSUPP, "as before Linux 6.15")

    pid = start("exit 3")
    with PidFd.open(pid) as handle:
        os.waitpid(pid, 0)
        monkeypatch.setattr(aiopidfd._native, "exit_status", exit_status)
        assert await handle.wait() is None
        assert handle.wait_blocking() is None


def test_timeout() -> None:
    with sleeper() as pid, PidFd.open(pid) as handle:
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match="the process still runs"):
                handle.wait_blocking(timeout)


# What it is


@pytest.mark.parametrize("kernel", ["this one", "as before Linux 6.13"])
def test_info(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel != "this one":
        monkeypatch.setattr(pidinfo, "_GET_INFO", 0)  # ENOTTY
    with sleeper() as pid, PidFd.open(pid) as handle:
        info = handle.info()
        assert (info.pid, info.tgid, info.ppid) == (pid, pid, os.getpid())
        assert info.uid == aiopidfd.Ids(*os.getresuid(), os.geteuid())
        assert info.gid == aiopidfd.Ids(*os.getresgid(), os.getegid())
        assert info.returncode is None
        assert info.core_dumped is None
        if info.cgroup_id is not None:
            paths = Path("/proc/self/cgroup").read_text().splitlines()
            (unified,) = (line[3:] for line in paths if line.startswith("0::"))
            roots = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
            here = [Path(f"{root}{unified}") for root in roots]
            inodes = [path.stat().st_ino for path in here if path.exists()]
            assert info.cgroup_id in inodes


@knows_status
def test_info_of_what_is_gone() -> None:
    for command, returncode in (("exit 3", 3), ("kill -9 $$", -9)):
        pid = start(command)
        with PidFd.open(pid) as handle:
            os.waitpid(pid, 0)
            info = handle.info()
            assert (info.pid, info.uid) == (None, None)
            assert (info.returncode, info.core_dumped) == (returncode, False)


def test_info_of_what_is_gone_on_an_older_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidinfo, "_GET_INFO", 0)
    pid = start("exit 3")
    with PidFd.open(pid) as handle:
        os.waitpid(pid, 0)
        with pytest.raises(ProcessLookupError):
            handle.info()


def test_getpid_of_what_is_gone_and_of_what_has_none() -> None:
    pid = start("exit 3")
    with PidFd.open(pid) as handle:
        os.waitpid(pid, 0)
        for use in (handle.getpid, handle.open_proc):
            with pytest.raises(ProcessLookupError):
                use()


def test_a_process_outside_of_our_pid_namespace() -> None:
    """EREMOTE, as glibc's pidfd_getpid(3)."""
    if os.geteuid():
        pytest.skip("a pid namespace needs root")
    fresh.run("""
        ours, theirs = __import__("socket").socketpair()
        outside = aiopidfd.PidFd.open(os.getpid())
        outside.send(ours)
        import subprocess
        code = '''if True:
            import errno, socket, aiopidfd
            with socket.socket(fileno=0) as us, aiopidfd.PidFd.receive(us) as handle:
                for use in handle.getpid, handle.open_proc:
                    try:
                        use()
                    except OSError as exc:
                        assert exc.errno == errno.EREMOTE, exc
                    else:
                        raise AssertionError
        '''
        package = os.path.dirname(aiopidfd.__file__)
        environment = dict(os.environ, PYTHONPATH=os.path.dirname(package))
        subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code],
            stdin=theirs, check=True, env=environment,
        )
        ours.close(), theirs.close(), outside.close()
    """)


def test_a_descriptor_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("what it has open")
    with path.open() as file:
        process = subprocess.Popen(["sleep", "60"], stdin=file)
    with PidFd.open(process.pid) as handle:
        fd = handle.getfd(0)
        assert not os.get_inheritable(fd)
        assert os.pread(fd, 100, 0) == b"what it has open"
        os.close(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            handle.getfd(1000)
        process.kill()
        process.wait()
        with pytest.raises(ProcessLookupError):
            handle.getfd(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot(2) is root's")
def test_without_proc() -> None:
    """Since Linux 6.13 nothing of it is needed. Before, the error says what is missing."""
    fresh.run("""
        import tempfile
        release = tuple(map(int, aiopidfd.kernel().release.split(".")[:2]))
        child = aiopidfd.spawn(["sleep", "1000"])
        before = aiopidfd.PidFd.open(child.pid)
        os.chroot(tempfile.mkdtemp())
        os.chdir("/")
        try:
            for make in (
                lambda: before,
                lambda: aiopidfd.PidFd.open(child.pid),
                lambda: aiopidfd.PidFd.from_process(child),
                lambda: aiopidfd.PidFd.from_fd(os.pidfd_open(child.pid)),
            ):
                with make() as handle:
                    assert "running" in repr(handle)
                    assert handle.getpid() == child.pid
        except OSError as exc:
            assert exc.errno == errno.ENOTSUP, exc
            assert release < (6, 13)
        finally:
            child.kill()
        assert child.wait() == -9
        if release >= (6, 9):
            try:
                aiopidfd.PidFd.from_fd(os.open("/", os.O_RDONLY))
            except OSError as exc:
                assert exc.errno in (errno.EBADF, errno.ENOTSUP)
            else:
                raise AssertionError
    """)


def test_a_thread_with_a_descriptor_table_of_its_own() -> None:
    """/proc/self tells of the main thread's."""
    fresh.run("""
        import subprocess
        first, second = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
        apart, filled = threading.Event(), threading.Event()
        told = []

        def work():
            assert libc.unshare(0x400) == 0  # CLONE_FILES
            apart.set()
            filled.wait()
            with aiopidfd.PidFd.open(second.pid) as handle:
                told.append(handle.getpid())

        thread = threading.Thread(target=work)
        thread.start()
        apart.wait()
        others = [os.pidfd_open(first.pid) for _ in range(20)]
        filled.set()
        thread.join()
        assert told == [second.pid]
        for process in (first, second):
            process.kill()
            process.wait()
    """)


def test_its_proc_directory() -> None:
    with sleeper() as pid, PidFd.open(pid) as handle:
        directory = handle.open_proc()
        with open(os.open("stat", os.O_RDONLY, dir_fd=directory)) as file:
            assert int(file.read().split()[0]) == pid
        os.close(directory)


# The handle of a Process


async def test_a_handle_for_a_block() -> None:
    process = await aiopidfd.create_subprocess_exec("sleep", "60")
    with process.handle() as fd:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        assert await process.wait() == -15
        assert process.pidfd == -1
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGTERM)  # not a reused number: still its own
    with pytest.raises(aiopidfd.NoHandleError), process.handle():
        pass
    assert issubclass(aiopidfd.NoHandleError, ProcessLookupError)
    assert not exists(process.pid)


def test_a_fork_while_another_thread_uses_it() -> None:
    """The copy's own locks are free: that thread is not there to let go of them."""
    fresh.run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside another thread
        handle = aiopidfd.PidFd.open(os.getpid())
        held, over = threading.Event(), threading.Event()

        def hold():
            with handle._lock:
                held.set()
                over.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            handle.close()
            os._exit(0)
        over.set()
        thread.join()
        handle.close()
        assert os.waitpid(pid, 0)[1] == 0
        """
    )


def test_a_fork_while_its_own_thread_uses_it() -> None:
    """As in a signal handler that forks: the copy goes on where it was, and lets go of the lock."""
    fresh.run(
        """
        handle = aiopidfd.PidFd.open(os.getpid())
        with handle._lock:
            pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            thread = threading.Thread(target=handle.close)  # the lock is free again
            thread.start()
            thread.join()
            os._exit(0)
        handle.close()
        assert os.waitpid(pid, 0)[1] == 0
        """
    )


def test_an_interrupt_anywhere_leaves_it_free_for_other_threads() -> None:
    with PidFd.open(os.getpid()) as handle:
        for number in range(1, 1000):
            with raising_at(number, ["call"]) as left, contextlib.suppress(RaisedError):
                handle.send_signal(0)
            thread = threading.Thread(target=handle.send_signal, args=(0,), daemon=True)
            thread.start()
            thread.join(30)
            assert not thread.is_alive(), number
            if left[0] > 0:
                break
        assert number > 3
