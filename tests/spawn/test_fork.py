"""`fork` and `run_in_fork`: invisible, sound, and nothing left of them, whatever happens."""

import asyncio
import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

import aiopidfd
from tools.stress_fork import stress

from .. import fresh
from ..anyio_support import BACKENDS, Backend, backends
from ..hosts import HOSTS, Seen
from ..support import hang_guard


def forked(status: int = 0, seconds: float = 0) -> aiopidfd.Child:
    child = aiopidfd.fork()
    if child is None:
        time.sleep(seconds)
        os._exit(status)
    return child


# --- fork


def test_the_two_processes() -> None:
    read, write = os.pipe()
    child = aiopidfd.fork()
    if child is None:
        os.write(write, f"{os.getpid()} {os.getppid()} {threading.get_native_id()}".encode())
        os._exit(7)
    assert (child.args, child.returncode) == (("fork",), None)
    assert child.wait() == 7
    told = os.read(read, 100).decode()
    assert told == f"{child.pid} {child.guardian_pid} {child.pid}"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("host", HOSTS)
def test_statuses_are_right_and_nothing_is_seen(host: str) -> None:
    seen = Seen()
    with HOSTS[host](seen):
        for status in (0, 3, 255):
            child = forked(status, 0.02)
            if host != "__WALL reaper":
                with pytest.raises(ChildProcessError):
                    os.waitpid(-1, os.WNOHANG)
            assert child.wait() == status
        child = forked(0, 1000)
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert seen.sigchld == 0
    if host != "__WALL reaper":
        assert not seen.pids


def test_the_child_has_the_caller_s_actions_mask_and_alternate_stack() -> None:
    fresh.run("""
        import faulthandler
        class Stack(ctypes.Structure):
            _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
        def of_the_thread():
            stack = Stack()
            assert libc.sigaltstack(None, ctypes.byref(stack)) == 0
            with open("/proc/thread-self/status") as file:
                lines = file.read().splitlines()
            signals = [x for x in lines if x.startswith(("SigBlk", "SigIgn", "SigCgt", "Name"))]
            return stack.sp, stack.flags, stack.size, signals
        faulthandler.enable()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(9))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        mine = of_the_thread()
        assert mine[0] and not mine[1]
        child = aiopidfd.fork()
        if child is None:
            if of_the_thread() == mine:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(10)
            os._exit(1)
        assert child.wait() == 9, child.returncode
        assert of_the_thread() == mine
    """)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_the_number_of_the_processor_is_told_in_the_child() -> None:
    fresh.run("""
        cpus = sorted(os.sched_getaffinity(0))
        for _ in range(5):
            child = aiopidfd.fork()
            if child is None:
                for cpu in cpus * 3:
                    os.sched_setaffinity(0, [cpu])
                    if libc.sched_getcpu() != cpu:
                        os._exit(1)
                # ... by the kernel, in the area of the thread: registered, and by the right address
                if not hasattr(libc, "__rseq_offset"):  # musl registers none
                    os._exit(0)
                offset = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
                libc.pthread_self.restype = ctypes.c_void_p
                area = libc.pthread_self() + offset  # the thread pointer, on x86-64
                if os.uname().machine == "x86_64":
                    os._exit(0 if ctypes.c_uint32.from_address(area + 4).value == cpus[-1] else 2)
                os._exit(0)
            assert child.wait() == 0, child.returncode
    """)


def test_threads_work_in_the_child_and_it_forks_and_spawns_itself() -> None:
    child = aiopidfd.fork()
    if child is None:
        status = 1
        with contextlib.suppress(BaseException):
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            statuses = [forked(4).wait(), aiopidfd.spawn("exit 5", shell=True).wait()]
            status = 0 if statuses == [4, 5] else 2
        os._exit(status)
    assert child.wait() == 0


def test_the_other_children_are_foreign_in_it() -> None:
    other = forked(3, 0.3)
    child = aiopidfd.fork()
    if child is None:
        try:
            other.wait()
        except ChildProcessError:
            os._exit(6)
        os._exit(1)
    assert (child.wait(), other.wait()) == (6, 3)


def test_from_a_thread_that_ends() -> None:
    children: list[aiopidfd.Child] = []

    def work() -> None:
        children.extend(forked(number, 0.2) for number in range(3))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for _ in range(20):
        other = threading.Thread(target=bytearray, args=(1 << 20,))
        other.start()
        other.join()
    assert [child.wait() for child in children] == [0, 1, 2]


@pytest.mark.parametrize("block", ["clone3", "fork", "descriptors"])
def test_failures(block: str) -> None:
    print(
        fresh.run(f"""
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        before = len(os.listdir("/proc/self/fd")), _native.records()
        def attempt():
            child = aiopidfd.fork()
            if child is None:
                os._exit(4)
            return child.wait()
        if {block!r} == "clone3":
            seccomp.like_docker()
            assert attempt() == 4
        else:
            if {block!r} == "fork":  # guardians by clone3, the C library's fork by clone
                refused = [(seccomp.clone_number(), errno.EAGAIN)]
                if os.uname().machine == "x86_64":
                    refused.append((57, errno.EAGAIN))  # musl's, by fork(2)
                seccomp.install(*refused)
                expected = BlockingIOError
            else:
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, 1024))
                expected = OSError
            for _ in range(20):
                try:
                    attempt()
                except expected as exc:
                    assert exc.errno in (errno.EAGAIN, errno.EMFILE), exc
                else:
                    raise AssertionError
            if {block!r} == "descriptors":
                hard = 1024
                for limit in range(4, 30):  # each one fails at another descriptor, until none does
                    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                    try:
                        assert attempt() == 4
                    except OSError as exc:
                        assert exc.errno == errno.EMFILE
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        assert childless()  # before that a guardian that is leaving has a descriptor
        assert before == (len(os.listdir("/proc/self/fd")), _native.records())
    """)
    )


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_guardian_that_is_killed_inside_fork(first: str) -> None:
    """In an at-fork handler of another library: what that has locked stays locked, so we abort.

    Handlers run last registered first: one before ours has locked what is its own, one after ours
    the C library's locks too.
    """
    code = f"""
        import ctypes, os, sys
        libc = ctypes.CDLL(None)
        sys.path.insert(0, sys.argv[1])
        pause = ctypes.cast(libc.pause, ctypes.c_void_p)
        if {first!r} == "ours":
            import aiopidfd
        if hasattr(libc, "__register_atfork"):  # pthread_atfork(3) is no symbol of glibc's
            assert libc.__register_atfork(pause, None, None, None) == 0
        else:
            assert libc.pthread_atfork(pause, None, None) == 0
        import aiopidfd
        me = os.getpid()
        killer = aiopidfd.spawn(["sh", "-c", f"sleep 0.5; for p in $(cat /proc/{{me}}/task/{{me}}/"
            "children); do [ $p = $PPID ] || kill -9 $p; done"])
        aiopidfd.fork()
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(fresh.ROOT)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == -signal.SIGABRT
    assert result.stderr.startswith("aiopidfd: a guardian was killed inside fork()")


def test_a_fork_that_is_called_off_does_not_wait_for_the_forked_process() -> None:
    """That may be in another library's at-fork handler, for ever here."""
    fresh.run("""
        pause = ctypes.cast(ctypes.CDLL(None).pause, ctypes.c_void_p)
        if hasattr(libc, "__register_atfork"):
            assert libc.__register_atfork(None, None, pause, None) == 0
        else:
            assert libc.pthread_atfork(None, None, pause) == 0
        aiopidfd.spawn(["true"]).wait()
        hard = 1024
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 2, hard))
        filling = []
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(0))
        os.close(filling.pop())  # room for the guardian's pidfd alone
        try:
            aiopidfd.fork()
        except OSError as exc:
            assert exc.errno == errno.EMFILE
        else:
            raise AssertionError
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        (guardian,) = child_pids()
        (forked,) = map(int, read(f"/proc/{guardian}/task/{guardian}/children").split())
        os.kill(forked, 9)
        while _native.sweep():
            time.sleep(0.001)
        while child_pids():
            time.sleep(0.001)
    """)


# The guardian waits inside the C library's fork(), for a line; `stopper` stops it there.
IN_FORK = """
import subprocess
read, write = os.pipe()
os.dup2(read, 0)
getchar = ctypes.cast(ctypes.CDLL(None).getchar, ctypes.c_void_p)
if hasattr(libc, "__register_atfork"):
    assert libc.__register_atfork(getchar, None, None, None) == 0
else:
    assert libc.pthread_atfork(getchar, None, None) == 0
stopper = f'''
    while [ -z "$guardian" ]; do
        for pid in $(cat /proc/{os.getpid()}/task/{os.getpid()}/children); do
            [ $pid = $$ ] || guardian=$pid
        done
    done
    until grep -q "^State:.S" /proc/$guardian/status; do :; done  # its first calls are behind it
    kill -STOP $guardian
'''
"""


def test_a_guardian_that_is_stopped_inside_fork_goes_on() -> None:
    """Nobody else would continue it, and no signal ends the caller's wait."""
    fresh.run(
        IN_FORK
        + """
stopper += f"sleep 0.3; echo >&{write}"
with subprocess.Popen(["sh", "-c", stopper], pass_fds=[write]):
    child = aiopidfd.fork()
    if child is None:
        os._exit(7)
    assert child.wait() == 7
"""
    )


def test_a_guardian_that_is_stopped_inside_fork_does_not_outlive_us() -> None:
    """It shares our descriptors, and would hold them."""
    code = (
        IN_FORK
        + """
stopper += f'''
    kill -KILL {os.getpid()}
    echo >&{write}
    for i in $(seq 600); do
        if ! grep -q "^State:.[^ZX]" /proc/$guardian/status; then
            echo gone
            exit
        fi
        sleep 0.05
    done
    kill -KILL $guardian
'''
subprocess.Popen(["sh", "-c", stopper], pass_fds=[write])
aiopidfd.fork()
"""
    )
    result = subprocess.run(
        fresh.command(code),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=120,
        text=True,
    )
    assert result.returncode == -signal.SIGKILL
    assert result.stdout == "gone\n"


def test_in_another_pid_namespace() -> None:
    if os.geteuid():
        pytest.skip("unshare(2) is root's")
    fresh.run("""
        assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID
        child = aiopidfd.fork()
        if child is None:
            os._exit(os.getpid())
        assert child.wait() == 2
        assert child.pid > 2
    """)


@pytest.mark.heavy
@pytest.mark.parametrize("call", ["clone3", "clone"])
def test_a_process_with_one_thread(call: str) -> None:
    """The C library leaves its locks out there, so the guardian may not be in it beside us."""
    fresh.run(f"""
        if {call!r} == "clone":
            seccomp.like_docker()
        for number in range(500):
            child = aiopidfd.fork()
            if child is None:
                os._exit(number % 100)
            assert child.wait() == number % 100
    """)


@pytest.mark.heavy
def test_stress() -> None:
    assert stress(300) == (300, 0)


# --- run_in_fork


def add(a: int, b: int = 0) -> int:
    return a + b


class OddError(Exception):
    """Can be pickled, but not be made again of that."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


class UnspeakableError(OddError):
    """Nor be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


class OtherError(Exception):
    """Is made again as something that cannot be raised."""

    def __reduce__(self) -> Any:
        return dict, ()


@dataclasses.dataclass(frozen=True)
class OneWay:
    """Can be pickled, and not be made again of that."""

    def __reduce__(self) -> Any:
        return int, ([],)


class FrozenError(Exception):
    """Takes no note."""


def throw(exc: BaseException) -> NoReturn:
    raise exc


@backends(*BACKENDS)
def test_results_and_exceptions(backend: Backend) -> None:
    async def body() -> None:
        assert await aiopidfd.run_in_fork(add, 1, b=2) == 3
        large = await aiopidfd.run_in_fork(lambda: b"x" * (40 << 20))
        assert large == b"x" * (40 << 20)
        with pytest.raises(ZeroDivisionError) as caught:
            await aiopidfd.run_in_fork(lambda: 1 / 0)
        assert "1 / 0" in caught.value.__notes__[0]
        assert "run_in_fork.py" not in caught.value.__notes__[0]  # our own frames tell nothing
        match = r"^the result, of type function, cannot be pickled: \w+Error\("
        with pytest.raises(pickle.PicklingError, match=match) as failed:
            await aiopidfd.run_in_fork(lambda: lambda: 0)
        assert not hasattr(failed.value, "__notes__")
        with pytest.raises(TypeError) as refused:
            await aiopidfd.run_in_fork(lambda: OneWay())
        assert refused.value.__notes__[0].endswith("returned cannot be unpickled.")
        with pytest.raises(TypeError, match=r"no coroutine function, .*asyncio\.run\(\) works in"):
            await aiopidfd.run_in_fork(asyncio.sleep, 0)
        for odd in (OddError(1, 2), UnspeakableError(1, 2), OtherError()):
            name = type(odd).__name__
            match = rf"exception {name}\b.*cannot be pickled"
            with pytest.raises(pickle.PicklingError, match=match):
                await aiopidfd.run_in_fork(throw, odd)
        with pytest.raises(FrozenError):
            await aiopidfd.run_in_fork(throw, FrozenError())

    backend.run(body)


def test_a_host_without_the_standard_three() -> None:
    """What is written there, by C code perhaps, is not taken for the result."""
    fresh.run("""
        def work():
            for number in range(3):
                with contextlib.suppress(OSError):
                    os.write(number, b"this is no result")
            return 42
        async def main():
            kept = [os.dup(number) for number in range(3)]
            for number in range(3):
                os.close(number)
            try:
                result = await aiopidfd.run_in_fork(work)
            finally:
                for number in range(3):
                    os.dup2(kept[number], number)
            assert result == 42
        asyncio.run(main())
    """)


async def test_a_function_that_closes_all_and_opens_something(tmp_path: Path) -> None:
    """As a daemon does: the number of the pipe is something else's then."""
    path = tmp_path / "file"

    def work() -> str:
        os.closerange(3, 100)
        for _ in range(30):
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return "42" * 21

    with pytest.raises(aiopidfd.NoResultError) as caught:
        await aiopidfd.run_in_fork(work)
    assert caught.value.returncode == 1
    assert b"42" * 21 not in path.read_bytes()  # a traceback perhaps: sys.stderr is pytest's


@pytest.mark.parametrize("raises", [False, True])
async def test_a_process_that_the_function_forks_has_no_result(
    raises: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> str:
        pid = os.fork()
        if pid == 0:
            if raises:
                raise ValueError("not the function's own")
            return "not the result"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == raises
        return "the result"

    assert await aiopidfd.run_in_fork(work) == "the result"
    assert ("not the function's own" in capfd.readouterr().err) is raises


@backends(*BACKENDS)
def test_no_result(backend: Backend) -> None:
    async def body() -> None:
        for call, returncode in {
            (lambda: os._exit(3)): 3,
            (lambda: sys.exit(4)): 4,
            (lambda: sys.exit()): 0,
            (lambda: sys.exit(-1)): 255,
            (lambda: sys.exit(2**70)): 255,  # as Python's own
            (lambda: os.kill(os.getpid(), signal.SIGKILL)): -9,
            (lambda: signal.raise_signal(signal.SIGINT)): -2,
        }.items():
            with pytest.raises(aiopidfd.NoResultError) as caught:
                await aiopidfd.run_in_fork(call)
            assert caught.value.returncode == returncode

    backend.run(body)


async def test_asyncio_runs_in_it() -> None:
    async def main() -> int:
        await asyncio.sleep(0.01)
        return await aiopidfd.run_in_fork(add, 20, 1)

    with hang_guard():
        assert await aiopidfd.run_in_fork(lambda: asyncio.run(main()) * 2) == 42


async def test_a_grandchild_that_holds_the_pipe_is_not_waited_for() -> None:
    read, write = os.pipe()

    def leave_one() -> int:
        grandchild = os.fork()
        if grandchild == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        return grandchild

    with hang_guard():
        assert await aiopidfd.run_in_fork(leave_one) > 0
    os.close(write)
    os.close(read)


@pytest.mark.parametrize("at", [0, 0.002, 0.1])
async def test_cancelled(at: float) -> None:
    with hang_guard():
        task = asyncio.create_task(aiopidfd.run_in_fork(time.sleep, 1000))
        await asyncio.sleep(at)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@backends("trio")
def test_cancelled_on_trio(backend: Backend) -> None:
    import anyio

    async def body() -> None:
        with anyio.move_on_after(0.05) as scope:
            await aiopidfd.run_in_fork(time.sleep, 1000)
        assert scope.cancelled_caught

    backend.run(body)


async def test_thrown_away() -> None:
    coroutine = aiopidfd.run_in_fork(time.sleep, 1000)
    coroutine.send(None)
    coroutine.close()


async def test_a_coroutine_function_is_refused() -> None:
    with pytest.raises(TypeError, match="no coroutine function"):
        await aiopidfd.run_in_fork(asyncio.sleep, 1)


async def test_many_at_once() -> None:
    with hang_guard(60):
        calls = (aiopidfd.run_in_fork(add, number, 1) for number in range(50))
        assert await asyncio.gather(*calls) == list(range(1, 51))
