"""multiprocessing with invisible workers: its API, its ways to fail, every hostile host."""

import asyncio
import collections
import contextlib
import copy
import errno
import gc
import multiprocessing
import multiprocessing.pool
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, resource_sharer, resource_tracker, shared_memory, spawn
from pathlib import Path
from typing import Any

import pytest

import aiopidfd
from aiopidfd import _native
from aiopidfd.multiprocessing import Context, Process, get_context
from aiopidfd.multiprocessing import _tracker as tracker

from .. import fresh, mp_functions
from ..census import open_fds
from ..hosts import HOSTS, Seen
from ..support import exists, room_for

LONG = 60  # seconds, against hangs


@pytest.fixture(scope="module", autouse=True)
def _tracker() -> Iterator[None]:
    """What stays as long as the process does is made before anything is counted.

    The resource tracker, and the heap that shared values lie in. The tracker is a child: the files
    that come after this one count those.
    """
    get_context().Value("i")
    yield
    gc.collect()  # semaphores that somebody still has are reported by the tracker as leaks
    host: Any = resource_tracker._resource_tracker
    os.close(host._fd)
    host._fd = None
    assert tracker._child is not None
    assert tracker._child.wait(LONG) == 0
    tracker._child = None


@pytest.fixture(autouse=True)
def _ended_workers_are_forgotten() -> Iterator[None]:
    """multiprocessing keeps a worker until join() or is_alive() says that it has ended."""
    yield
    assert not multiprocessing.active_children()


def test_the_context_is_that_of_spawn() -> None:
    assert get_context("spawn") is get_context(None) is get_context()
    with pytest.raises(ValueError, match="started by the method 'spawn', not 'fork'"):
        get_context("fork")


@pytest.fixture
def ctx() -> Context:
    return get_context()


class Script:
    """Workers that run /bin/sh instead of Python: a fraction of the time, and they never read."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "worker.sh"
        self._count = 0

    def __call__(self, text: str) -> None:
        self._count += 1  # a script that is being executed cannot be written to
        path = self._path.with_name(f"worker{self._count}.sh")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        spawn.set_executable(str(path))


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    before = spawn.get_executable()
    yield Script(tmp_path)
    spawn.set_executable(before)


@contextlib.contextmanager
def held_worker(ctx: Any, code: int = 0) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A worker that runs until the function is called or the block left; ends with `code`."""
    ours, theirs = ctx.Pipe()
    worker = ctx.Process(target=mp_functions.hold, args=(theirs, code))
    worker.start()
    theirs.close()
    try:
        assert ours.recv() == worker.pid
        yield worker, ours.close
    finally:
        ours.close()
        if worker._popen:  # it has not been closed
            worker.join(LONG)


def run(ctx: Any, function: Callable[..., object], *args: object) -> Any:
    worker = ctx.Process(target=function, args=args)
    worker.start()
    worker.join(LONG)
    return worker.exitcode


def expect_no_child() -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def is_readable(fd: int, timeout: float = 0) -> bool:
    return bool(connection.wait([fd], timeout))


# --- Hostile hosts

ENDINGS: list[tuple[Callable[..., object], object, int]] = [
    (mp_functions.nothing, None, 0),
    (mp_functions.leave, 3, 3),
    (mp_functions.leave, 255, 255),
    (mp_functions.raise_error, "an error", 1),
    (mp_functions.kill_self, signal.SIGTERM, -signal.SIGTERM),
    (mp_functions.kill_self, signal.SIGKILL, -signal.SIGKILL),
]


@pytest.mark.heavy
@pytest.mark.parametrize("host", HOSTS)
def test_exitcodes_are_right_and_nothing_is_seen(host: str, ctx: Context) -> None:
    seen = Seen()
    with HOSTS[host](seen):
        workers = [ctx.Process(target=function, args=(arg,)) for function, arg, _ in ENDINGS]
        for worker in workers:
            worker.start()
        if host != "__WALL reaper":
            expect_no_child()  # while they run, and the tracker
        for worker in workers[::2]:
            worker.join(LONG)
        for worker in workers[1::2]:
            assert is_readable(worker.sentinel, LONG)
            assert not worker.is_alive()
        assert [worker.exitcode for worker in workers] == [code for *_, code in ENDINGS]
        assert not multiprocessing.active_children()
        if host != "__WALL reaper":
            expect_no_child()
    assert seen.sigchld == 0
    if host != "__WALL reaper":  # that one may take guardians; what they had to say is not lost
        assert not seen.pids


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_really_robs_multiprocessing(host: str) -> None:
    """The control: its own worker has ended, and says for ever that it runs."""
    with HOSTS[host](Seen()):
        worker = multiprocessing.get_context("spawn").Process(target=mp_functions.leave, args=(3,))
        worker.start()
        assert is_readable(worker.sentinel, LONG)
        while exists(worker.pid):  # until the host has reaped it
            threading.Event().wait(0.001)
        worker.join(LONG)
        assert worker.exitcode is None
        assert worker.is_alive()
    multiprocessing.process._children.discard(worker)  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", HOSTS)
def test_executor_under(host: str, ctx: Context) -> None:
    with HOSTS[host](Seen()):
        with ProcessPoolExecutor(2, mp_context=ctx) as pool:
            assert list(pool.map(mp_functions.square, range(10))) == [n * n for n in range(10)]
            with pytest.raises(LookupError, match="no such thing"):
                pool.submit(mp_functions.raise_error_aloud, "no such thing").result(LONG)
            assert pool._processes is not None
            workers = list(pool._processes.values())
        assert {worker.exitcode for worker in workers} == {0}


@pytest.mark.parametrize("host", ["blocking reaper", "ignored", "__WALL reaper"])
def test_executor_whose_worker_dies_under(host: str, ctx: Context) -> None:
    with HOSTS[host](Seen()), ProcessPoolExecutor(1, mp_context=ctx) as pool:
        future = pool.submit(mp_functions.kill_self, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            future.result(LONG)
        with pytest.raises(BrokenProcessPool):
            pool.submit(mp_functions.square, 2)


@pytest.mark.parametrize("host", ["blocking reaper", "reaping handler", "SA_NOCLDWAIT"])
def test_pool_under(host: str, ctx: Context) -> None:
    seen = Seen()
    with HOSTS[host](seen), ctx.Pool(1, maxtasksperchild=1) as pool:
        pids = pool.map(mp_functions.pid_of, range(3), chunksize=1)
        assert len(set(pids)) == 3  # each ended worker was noticed and replaced
        pool.close()
        pool.join()
    assert (seen.sigchld, seen.pids) == (0, [])


# --- How a worker ends


def test_every_exit_status(ctx: Context, script: Script) -> None:
    for code in range(256):
        script(f"exit {code}")
        worker = ctx.Process(target=mp_functions.nothing)
        worker.start()
        worker.join(LONG)
        assert worker.exitcode == code
        worker.close()


def test_every_deadly_signal(ctx: Context, script: Script) -> None:
    for sig in signal.valid_signals() - {
        *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
        *(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them, and its workers as well
    }:
        script(f"ulimit -c 0; kill -{sig:d} $$; exec sleep 60")
        worker = ctx.Process(target=mp_functions.nothing)
        worker.start()
        worker.join(LONG)
        assert worker.exitcode == -sig, sig
        worker.close()


@pytest.mark.parametrize(("status", "code"), [(None, 0), (True, 1), (256, 0), (-1, 255)])
def test_sys_exit_with(status: object, code: int, ctx: Context) -> None:
    assert run(ctx, mp_functions.leave, status) == code


def test_terminate_kill_and_interrupt(ctx: Context, script: Script) -> None:
    script("exec sleep 60")
    for method, sig in [
        (Process.terminate, signal.SIGTERM),
        (Process.kill, signal.SIGKILL),
        (lambda worker: worker._popen.interrupt(), signal.SIGINT),  # Process.interrupt from 3.14 on
    ]:
        worker = ctx.Process(target=mp_functions.nothing)
        worker.start()
        assert worker.is_alive()
        method(worker)
        worker.join(LONG)
        assert worker.exitcode == -sig
        method(worker)  # nothing happens
        assert f"exitcode=-{sig.name}" in repr(worker)
        worker.close()


def test_a_signal_to_one_that_nobody_knows_is_dead(ctx: Context, script: Script) -> None:
    script("exit 3")
    worker = ctx.Process(target=mp_functions.nothing)
    worker.start()
    assert is_readable(worker.sentinel, LONG)
    worker.terminate()
    worker.kill()
    assert worker.exitcode == 3


def test_ctrl_c_in_a_block_is_not_held_up_by_the_worker(ctx: Context) -> None:
    worker = ctx.Process(target=time.sleep, args=(1000,))
    with pytest.raises(KeyboardInterrupt), worker:
        raise KeyboardInterrupt
    assert worker.is_alive()
    worker.kill()
    worker.join()
    assert worker.exitcode == -9


def test_join_with_a_timeout(ctx: Context) -> None:
    with held_worker(ctx, 6) as (worker, let_go):
        for timeout in (0, 0.0, -1, 0.01):
            worker.join(timeout)
            assert (worker.exitcode, worker.is_alive()) == (None, True)
        assert multiprocessing.active_children() == [worker]
        let_go()
        assert is_readable(worker.sentinel, LONG)
        worker.join(0)
        assert (worker._popen.returncode, worker.is_alive()) == (6, False)


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
def test_join_knows_the_end_once_the_sentinel_is_ready(
    timeout: float, ctx: Context, script: Script
) -> None:
    script("exit 5")
    for _ in range(30):
        worker = ctx.Process(target=mp_functions.nothing)
        worker.start()
        assert is_readable(worker.sentinel, LONG)
        worker.join(timeout)
        if timeout <= 0:
            assert worker._popen.returncode == 5
        assert worker.exitcode == 5


def test_many_threads_join_one_worker(ctx: Context) -> None:
    codes: list[int | None] = []
    with held_worker(ctx, 8) as (worker, let_go):

        def join() -> None:
            worker._popen.wait(LONG)
            codes.append(worker.exitcode)

        threads = [threading.Thread(target=join) for _ in range(8)]
        for thread in threads:
            thread.start()
        let_go()
        for thread in threads:
            thread.join()
    assert codes == [8] * 8


def test_close(ctx: Context) -> None:
    with held_worker(ctx) as (worker, let_go):
        with pytest.raises(ValueError, match="still running"):
            worker.close()
        let_go()
        worker.join(LONG)
        sentinel = worker.sentinel
        assert sentinel in open_fds()
        worker.close()
        assert sentinel not in open_fds()
        for use in (lambda: worker.sentinel, worker.is_alive, lambda: worker.exitcode):
            with pytest.raises(ValueError, match="closed"):
                use()
        worker.close()


def test_a_worker_and_all_that_it_has_started(ctx: Context) -> None:
    ours, theirs = ctx.Pipe()
    worker = ctx.Process(target=mp_functions.leave_a_daemon, args=(theirs,))
    for use in (lambda: worker.pidfd, worker.children, worker.kill_tree):
        with pytest.raises(ValueError, match="not started"):
            use()
    worker.start()
    theirs.close()
    daemon = ours.recv()
    ours.close()
    with worker.handle() as pidfd, aiopidfd.PidFd.from_process(worker) as handle:
        assert handle.getpid() == worker.pid
        assert is_readable(pidfd, 0) is False
    assert [child.getpid() for child in worker.children()] == [daemon]
    assert worker.guardian_pid != worker.pid
    assert worker.kill_tree()
    assert not exists(daemon)
    worker.join(LONG)
    assert worker.exitcode == -signal.SIGKILL
    assert worker.rusage is not None
    assert worker.pidfd == -1
    with pytest.raises(aiopidfd.NoHandleError), worker.handle():
        pass
    worker.close()
    with pytest.raises(ValueError, match="closed"):
        worker.kill_tree()


def test_with_a_worker(ctx: Context, script: Script) -> None:
    script("exit 7")
    with ctx.Process(target=mp_functions.nothing) as worker:
        assert worker.pid is not None
    assert worker.exitcode == 7
    started = ctx.Process(target=mp_functions.nothing)
    started.start()
    with pytest.raises(LookupError), started:
        raise LookupError
    assert started.exitcode == 7


def test_a_worker_s_tree_can_be_asked_to_end(ctx: Context) -> None:
    ours, theirs = ctx.Pipe()
    worker = ctx.Process(target=mp_functions.leave_a_daemon, args=(theirs,))
    worker.start()
    daemon = ours.recv()
    worker.terminate_tree()
    worker.join(LONG)
    assert worker.exitcode == -signal.SIGTERM
    while exists(daemon):
        time.sleep(0.001)
    for connection_ in (ours, theirs):
        connection_.close()


def test_a_dropped_process_gives_all_back(ctx: Context, script: Script) -> None:
    script("exit 0")
    before = open_fds()
    worker = ctx.Process(target=mp_functions.nothing)
    worker.start()
    sentinel = worker.sentinel
    assert sentinel not in before
    worker.join(LONG)
    del worker
    gc.collect()
    assert open_fds() == before


def test_an_ended_worker_keeps_the_sentinel_and_the_pipe_alone(
    ctx: Context, script: Script
) -> None:
    script("exit 0")
    before = open_fds()
    worker = ctx.Process(target=mp_functions.nothing)
    worker.start()
    assert is_readable(worker.sentinel, LONG)
    assert not worker.is_alive()
    assert len(open_fds().keys() - before.keys()) == 2
    worker.close()
    assert open_fds() == before


# --- The sentinel


def test_the_sentinel_is_a_pidfd(ctx: Context) -> None:
    with held_worker(ctx) as (worker, _):
        assert f"Pid:\t{worker.pid}\n" in Path(f"/proc/self/fdinfo/{worker.sentinel}").read_text()
        assert not os.get_inheritable(worker.sentinel)
        assert not is_readable(worker.sentinel)
        signal.pidfd_send_signal(worker.sentinel, signal.SIGKILL)
        assert connection.wait([worker.sentinel], LONG) == [worker.sentinel]
        assert worker.exitcode == -signal.SIGKILL


def test_the_exitcode_is_known_once_the_sentinel_is_ready(ctx: Context, script: Script) -> None:
    script("exit 7")
    for number in range(100):
        worker = ctx.Process(target=mp_functions.nothing)
        worker.start()
        assert is_readable(worker.sentinel, LONG)
        if number % 2:
            assert worker.exitcode == 7
        assert not worker.is_alive()


@pytest.mark.parametrize("whose", ["ours", "multiprocessing's"])
def test_a_grandchild_does_not_hold_the_sentinel(whose: str, ctx: Context) -> None:
    context: Any = ctx if whose == "ours" else multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=mp_functions.leave_a_grandchild, args=(theirs,))
    worker.start()
    theirs.close()
    grandchild = ours.recv()
    try:
        if whose == "ours":
            assert is_readable(worker.sentinel, LONG)
            assert worker.exitcode == 4
        else:  # the control: a pipe, which the grandchild has inherited
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            assert not is_readable(worker.sentinel)
    finally:
        os.kill(grandchild, signal.SIGKILL)
        ours.close()
        worker.join(LONG)


async def test_the_sentinel_on_a_loop(ctx: Context) -> None:
    with held_worker(ctx, 9) as (worker, let_go):
        waiter = asyncio.ensure_future(aiopidfd.wait_pidfd(worker.sentinel))
        await asyncio.sleep(0)
        let_go()
        # Before Linux 6.15 /proc tells it, as long as the guardian has not reaped the worker.
        may_be = [9] if aiopidfd.kernel().exit_info else [9, None]
        assert await asyncio.wait_for(waiter, LONG) in may_be
        assert worker.exitcode == 9


# --- Starts that fail, workers that die early


@pytest.mark.parametrize("method", ["kill", "terminate", "join"])
def test_a_worker_before_its_start(method: str, ctx: Context) -> None:
    """As with multiprocessing's own."""
    errors = []
    for context in (multiprocessing.get_context("spawn"), ctx):
        worker = context.Process(target=int)
        with pytest.raises((AttributeError, AssertionError)) as caught:
            getattr(worker, method)()
        errors.append((type(caught.value), str(caught.value)))
        worker.close()
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(worker, method)()
    assert errors[0] == errors[1]


@pytest.mark.parametrize("thing", [lambda: None, threading.Lock()])
def test_an_unpicklable_target_starts_nothing(thing: Any, ctx: Context) -> None:
    before = open_fds(), _native.records()
    worker = ctx.Process(target=mp_functions.nothing, args=(thing,))
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        worker.start()
    assert (open_fds(), _native.records()) == before
    assert (worker.is_alive(), worker.exitcode) == (False, None)
    with pytest.raises(ValueError, match="not started"):
        _ = worker.sentinel
    with pytest.raises(RuntimeError, match="through inheritance"):  # nobody is being started
        pickle.dumps(ctx.Lock())


@pytest.mark.parametrize(
    ("path", "error"), [("/nonexistent/python", FileNotFoundError), ("/etc", PermissionError)]
)
def test_an_executable_that_cannot_be(
    path: str, error: type[OSError], ctx: Context, script: Script
) -> None:
    spawn.set_executable(path)
    worker = ctx.Process(target=mp_functions.nothing)
    before = open_fds()
    with pytest.raises(error) as caught:
        worker.start()
    assert os.fsdecode(caught.value.filename) == path
    assert open_fds() == before
    assert not worker.is_alive()
    assert not multiprocessing.active_children()
    # The error, its frames and what they hold are one cycle now. Nothing in it may mind its end.
    del caught, worker
    with unraisables() as found:
        gc.collect()
    assert not found


@contextlib.contextmanager
def unraisables() -> Iterator[list[str]]:
    """Collect what destructors raise."""
    found: list[str] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda raised: found.append(repr(raised))
    try:
        yield found
    finally:
        sys.unraisablehook = before


def test_no_descriptors_left(ctx: Context, script: Script) -> None:
    """Whatever the number of descriptors that are left: it starts, or nothing has started."""
    script("exec sleep 60")
    before = open_fds()
    started = failed = 0
    for spare in range(16):
        worker = ctx.Process(target=mp_functions.nothing)
        try:
            with room_for(spare):
                worker.start()
        except OSError as exc:
            assert exc.errno == errno.EMFILE, exc  # noqa: PT017
            failed += 1
        else:
            started += 1
        if worker.pid:
            worker.kill()
            worker.join(LONG)
            assert worker.exitcode == -signal.SIGKILL
            worker.close()
        deadline = time.monotonic() + LONG
        while open_fds() != before and time.monotonic() < deadline:
            _native.sweep()  # the guardian of a start that failed is on its way out
        assert open_fds() == before
    assert started
    assert failed


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_worker_that_is_killed_before_it_reads(size: int, ctx: Context, script: Script) -> None:
    """start() does not fail, nor hang: how it ended is told as ever."""
    script("kill -KILL $$")
    for _ in range(20):
        worker = ctx.Process(target=mp_functions.nothing, args=(b"x" * size,))
        worker.start()
        worker.join(LONG)
        assert worker.exitcode == -signal.SIGKILL
        worker.close()


def test_a_worker_that_is_killed_amid_its_reading(ctx: Context, script: Script) -> None:
    # Its command line has "... pipe_handle=7)" in it.
    script("fd=${*##*pipe_handle=}; head -c 9 /proc/self/fd/${fd%%)*} > /dev/null; kill -KILL $$")
    worker = ctx.Process(target=mp_functions.nothing, args=(b"x" * (1 << 20),))
    with contextlib.closing(worker):
        worker.start()
        worker.join(LONG)
        assert worker.exitcode == -signal.SIGKILL


def test_a_worker_that_has_exited_before_its_start_was_noticed(
    ctx: Context, script: Script
) -> None:
    spawn.set_executable("/bin/true")
    endings: collections.Counter[object] = collections.Counter()
    for _ in range(150):
        worker = ctx.Process(target=mp_functions.nothing)
        worker.start()
        assert is_readable(worker.sentinel, LONG)
        endings[worker.exitcode] += 1
        worker.terminate()
        worker.close()
    assert endings == {0: 150}


def test_a_pool_goes_on_when_a_worker_is_killed(ctx: Context) -> None:
    with ctx.Pool(1) as pool:
        first = pool.apply(mp_functions.pid_of, (None,))
        pool.apply_async(mp_functions.kill_self, (signal.SIGKILL,))
        while not (workers := pool._pool[:]) or workers[0].pid == first:  # type: ignore[attr-defined]
            threading.Event().wait(0.01)
        (worker,) = workers
        assert pool.apply_async(mp_functions.pid_of, (None,)).get(LONG) == worker.pid
        pool.terminate()
        pool.join()
        assert worker.exitcode == -signal.SIGTERM


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_its_guardian_is(how: str, ctx: Context) -> None:
    if how == "killed" and not aiopidfd.kernel().exit_info:
        pytest.skip("the kernel (before 6.15) cannot tell: see the next test")
    with held_worker(ctx, 7) as (worker, let_go):
        guardian = worker.guardian_pid
        os.kill(guardian, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        assert worker.is_alive()
        if how == "killed":
            let_go()
            worker.join(LONG)
            assert worker.exitcode == 7
        else:
            worker.kill()  # this wakes it
            worker.join(LONG)
            assert worker.exitcode == -signal.SIGKILL


def test_its_guardian_is_killed_and_the_kernel_cannot_tell() -> None:
    output = fresh.run("""
        import logging
        from tests import mp_functions
        from aiopidfd.multiprocessing import get_context
        warned = []
        logging.getLogger("aiopidfd").addHandler(type("H", (logging.Handler,), dict(
            emit=lambda self, record: warned.append(record.getMessage())))())
        ctx = get_context()
        ours, theirs = ctx.Pipe()
        worker = ctx.Process(target=mp_functions.hold, args=(theirs, 7))
        worker.start()
        theirs.close()
        ours.recv()
        seccomp.no_exit_info()
        os.kill(worker.guardian_pid, signal.SIGKILL)
        ours.close()
        worker.join(60)
        print(worker.exitcode, len(warned))
    """)
    assert output in {"255 1\n", "7 0\n"}


# --- multiprocessing's own objects


def test_every_kind_of_object_is_passed(ctx: Context) -> None:
    ours, theirs = ctx.Pipe()
    things: dict[str, Any] = {
        "queue": ctx.Queue(),
        "joinable": ctx.JoinableQueue(),
        "simple": ctx.SimpleQueue(),
        "lock": ctx.Lock(),
        "semaphore": ctx.Semaphore(0),
        "condition": ctx.Condition(),
        "barrier": ctx.Barrier(2),
        "event": ctx.Event(),
        "value": ctx.Value("i", 41),
        "array": ctx.Array("d", 3),
        "pipe": theirs,
    }
    things["joinable"].put("through both")
    ours.send("through a pipe")
    worker = ctx.Process(target=mp_functions.use_primitives, args=(things,))
    with things["condition"]:
        worker.start()
        assert things["condition"].wait(LONG)
    things["barrier"].wait(LONG)
    assert things["event"].wait(LONG)
    things["joinable"].join()
    assert things["queue"].get(timeout=LONG) == "through both"
    assert things["simple"].get() == "through a pipe"
    assert things["semaphore"].acquire(timeout=LONG)
    assert (things["value"].value, things["array"][:]) == (42, [0, 2.5, 0])
    worker.join(LONG)
    assert worker.exitcode == 0
    for name in ("queue", "joinable"):
        things[name].close()
        things[name].join_thread()
    things["simple"].close()
    ours.close()
    theirs.close()


def test_shared_memory(ctx: Context) -> None:
    memory = shared_memory.SharedMemory(create=True, size=16)
    try:
        assert run(ctx, mp_functions.use_shared_memory, memory.name) == 0
        assert bytes(memory.buf[:5]) == b"hello"
    finally:
        memory.close()
        memory.unlink()


def test_a_manager_and_its_proxies(ctx: Context) -> None:
    with ctx.Manager() as manager:
        expect_no_child()
        shared = manager.dict()
        worker = ctx.Process(target=mp_functions.use_proxy, args=(shared,))
        worker.start()
        worker.join(LONG)
        assert shared.copy() == {"worker": worker.pid}
        # What the worker held it has given back: no more and no less.
        assert "refcount=1" in manager._debug_info()  # type: ignore[attr-defined]
        process = manager._process  # type: ignore[attr-defined]
        assert isinstance(process, Process)
    assert process.exitcode == 0
    forget_connections()


def forget_connections() -> None:
    """Close the connections to managers that have ended, which multiprocessing keeps by thread."""
    from multiprocessing.managers import BaseProxy

    BaseProxy._address_to_local.clear()  # type: ignore[attr-defined]
    gc.collect()


def test_sockets_are_passed(ctx: Context) -> None:
    ours, theirs = ctx.Pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = ctx.Process(target=mp_functions.use_fds, args=(listener, theirs))
        worker.start()
        with socket.create_connection(listener.getsockname()) as client:
            assert client.recv(100) == b"from the worker"
            with ours.recv() as same:
                same.sendall(b"from us")
                assert client.recv(100) == b"from us"
            ours.send("done")
        worker.join(LONG)
        assert worker.exitcode == 0
    ours.close()
    theirs.close()
    resource_sharer.stop(LONG)


def test_what_a_worker_knows_of_its_parent(ctx: Context) -> None:
    ours, theirs = ctx.Pipe()
    worker = ctx.Process(target=mp_functions.tell_parent, args=(theirs,))
    worker.start()
    guardian = worker.guardian_pid
    assert ours.recv() == (os.getpid(), True, guardian)
    worker.join(LONG)
    assert worker.exitcode == 0
    ours.close()
    theirs.close()


@pytest.mark.parametrize("whose", ["ours", "multiprocessing's"])
def test_a_finalizer_made_by_unpickling_runs_at_the_worker_s_end(whose: str, ctx: Context) -> None:
    """A worker is no fork: it keeps what it has made so far."""
    context: Any = ctx if whose == "ours" else multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    assert run(context, mp_functions.nothing, mp_functions.Finalized(theirs)) == 0
    theirs.close()
    assert ours.recv() == "finalized"
    with pytest.raises(EOFError):
        ours.recv()
    ours.close()


def test_a_worker_with_a_worker_of_its_own(ctx: Context) -> None:
    ours, theirs = ctx.Pipe()
    assert run(ctx, mp_functions.nest, theirs) == 0
    assert ours.recv() == (5, None)
    ours.close()
    theirs.close()


def test_the_context(ctx: Context) -> None:
    assert get_context() is ctx
    assert ctx.get_context() is ctx
    assert pickle.loads(pickle.dumps(ctx)) is ctx
    assert ctx.get_start_method() == "spawn"
    assert type(ctx.get_context("fork")).__name__ == "ForkContext"
    with pytest.raises(ValueError, match="cannot find context"):
        ctx.get_context("nonsense")
    with pytest.raises(ValueError, match="concrete context"):
        ctx.set_start_method("spawn")


def test_a_subclass_of_process(ctx: Context) -> None:
    worker = Worker(4)
    worker.start()
    worker.join(LONG)
    assert worker.exitcode == 4


class Worker(Process):
    def __init__(self, code: int) -> None:
        super().__init__(daemon=True)
        self.code = code

    def run(self) -> None:
        sys.exit(self.code)


def test_misuse_is_multiprocessing_s(ctx: Context, script: Script) -> None:
    script("exit 0")
    worker = ctx.Process(target=mp_functions.nothing)
    with pytest.raises(AssertionError, match="started process"):
        worker.join()
    worker.start()
    with pytest.raises(AssertionError, match="twice"):
        worker.start()
    worker.join(LONG)


# --- Executors and pools


def test_an_executor_replaces_its_workers(ctx: Context) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx, max_tasks_per_child=1) as pool:
        pids = list(pool.map(mp_functions.pid_of, range(3)))
    assert len(set(pids)) == 3


def test_an_executor_that_is_shut_down_with_work_left(ctx: Context) -> None:
    pool = ProcessPoolExecutor(1, mp_context=ctx)
    first = pool.submit(mp_functions.square, 3)
    others = [pool.submit(mp_functions.square, n) for n in range(50)]
    assert first.result(LONG) == 9
    pool.shutdown(cancel_futures=True)
    assert others[-1].cancelled()


async def test_run_in_executor(ctx: Context) -> None:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, mp_context=ctx) as pool:
        calls = [loop.run_in_executor(pool, mp_functions.square, n) for n in range(5)]
        assert await asyncio.wait_for(asyncio.gather(*calls), LONG) == [0, 1, 4, 9, 16]


def test_a_pool(ctx: Context) -> None:
    with ctx.Pool(2, initializer=mp_functions.nothing, initargs=(1,)) as pool:
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert sorted(pool.imap_unordered(mp_functions.square, range(5))) == [0, 1, 4, 9, 16]
        with pytest.raises(LookupError, match="oh"):
            pool.apply(mp_functions.raise_error_aloud, ("oh",))
        expect_no_child()
        pool.close()
        pool.join()


# --- Many at once


def test_many_at_once(ctx: Context, script: Script) -> None:
    script("exec sleep 60")
    workers = [ctx.Process(target=mp_functions.nothing) for _ in range(60)]
    for worker in workers:
        worker.start()
    assert set(multiprocessing.active_children()) == set(workers)
    for worker in workers:
        worker.terminate()
    left = {worker.sentinel for worker in workers}
    while left:
        ready = connection.wait(left, LONG)
        assert ready
        left -= set(ready)  # type: ignore[arg-type]
    assert {worker.exitcode for worker in workers} == {-signal.SIGTERM}
    assert not multiprocessing.active_children()


def test_threads_that_start_workers(ctx: Context) -> None:
    codes: list[int] = []

    def work(number: int) -> None:
        codes.extend(run(ctx, mp_functions.leave, 10 * number + n) for n in range(2))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 1, 10, 11, 20, 21, 30, 31]


# --- In an interpreter of its own

SETUP = """
    import multiprocessing
    from multiprocessing import resource_tracker, shared_memory, spawn
    from tests import mp_functions
    from aiopidfd.multiprocessing import get_context

    def expect_no_child():
        try:
            raise SystemExit(f"a child: {os.waitpid(-1, os.WNOHANG)}")
        except ChildProcessError:
            print("no child")
"""


def test_the_tracker_is_invisible_whoever_needs_it_first() -> None:
    output = fresh.run(
        SETUP
        + """
    seen = hosts.Seen()
    with hosts.reaper_thread(seen, 0):
        ctx = get_context()
        memory = shared_memory.SharedMemory(create=True, size=10)
        expect_no_child()
        lock = ctx.Lock()
        worker = ctx.Process(target=mp_functions.leave, args=(3,))
        worker.start()
        expect_no_child()
        worker.join()
        print(worker.exitcode)
        memory.close()
        memory.unlink()
    print(seen.sigchld, seen.pids)
    """
    )
    assert output == "no child\nno child\n3\n0 []\n"


@pytest.mark.parametrize("stderr", ["None", "io.StringIO()", "NoFile()", "closed"])
def test_the_tracker_starts_whatever_stderr_is(stderr: str) -> None:
    change = "sys.stderr.close()" if stderr == "closed" else f"sys.stderr = {stderr}"
    output = fresh.run(
        SETUP
        + f"""
    import io
    class NoFile:
        def flush(self): pass
    {change}
    lock = get_context().Lock()
    expect_no_child()
    """
    )
    assert output == "no child\n"


def test_a_killed_tracker_is_replaced_by_one_that_is_invisible_too() -> None:
    output = fresh.run(
        SETUP
        + """
    import warnings
    from aiopidfd.multiprocessing import _tracker as tracker
    get_context()
    for _ in range(2):
        tracker._child.kill()
        tracker._child.wait()
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            worker = get_context().Process(target=mp_functions.leave, args=(3,))
            worker.start()
        print([str(warning.message)[:43] for warning in given])
        expect_no_child()
        worker.join()
        print(worker.exitcode)
    """
    )
    warned = "['resource_tracker: process died unexpectedly']"
    assert output == f"{warned}\nno child\n3\n" * 2


def test_a_host_that_has_closed_the_tracker_s_pipe() -> None:
    output = fresh.run(
        SETUP
        + """
    import warnings
    get_context()
    os.close(resource_tracker._resource_tracker._fd)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        worker = get_context().Process(target=mp_functions.leave, args=(3,))
    worker.start()
    worker.join()
    print(worker.exitcode, len(given))
    """
    )
    assert output == "3 1\n"


def test_a_host_without_standard_descriptors() -> None:
    output = fresh.run(
        SETUP
        + """
    out = os.dup(1)
    os.closerange(0, 3)
    worker = get_context().Process(target=mp_functions.leave, args=(3,))
    worker.start()
    worker.join()
    os.write(out, str(worker.exitcode).encode())
    """
    )
    assert output == "3"


def test_the_tracker_of_multiprocessing_is_used_if_it_runs() -> None:
    output = fresh.run(
        SETUP
        + """
    resource_tracker.ensure_running()
    pid = resource_tracker._resource_tracker._pid
    lock = get_context().Lock()
    print(os.waitpid(-1, os.WNOHANG), resource_tracker._resource_tracker._pid == pid)
    """
    )
    assert output == "(0, 0) True\n"


def test_the_tracker_withstands_ctrl_c_from_its_first_moment() -> None:
    output = fresh.run(
        SETUP
        + """
    from aiopidfd.multiprocessing import _tracker as tracker
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    get_context()
    tracker._child.send_signal(signal.SIGINT)
    tracker._child.terminate()
    lock = get_context().Lock()
    print(tracker._child.poll(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    worker = get_context().Process(target=mp_functions.leave, args=(3,))
    worker.start()
    worker.join()
    print(worker.exitcode, tracker._child.poll())
    """
    )
    assert output == f"None {{{signal.SIGTERM!r}}}\n3 None\n"


def test_a_tracker_that_cannot_be_started() -> None:
    output = fresh.run(
        SETUP
        + """
    right = spawn.get_executable()
    spawn.set_executable("/nonexistent/python")
    assert aiopidfd.spawn(["/bin/true"]).wait() == 0  # the lifelines
    before = open_fds()
    try:
        get_context()
    except FileNotFoundError as exc:
        print(exc.filename)
    assert open_fds() == before
    spawn.set_executable(right)
    lock = get_context().Lock()
    expect_no_child()
    """
    )
    assert output == "b'/nonexistent/python'\nno child\n"


def test_the_tracker_cleans_up_after_us_and_ends() -> None:
    process = subprocess.Popen(
        fresh.command(
            SETUP
            + """
    from aiopidfd.multiprocessing import _tracker as tracker
    get_context()
    memory = shared_memory.SharedMemory(create=True, size=10)
    print(memory.name, tracker._child.pid, flush=True)
    signal.pause()
    """
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        name, pid = process.stdout.readline().split()
        assert Path("/dev/shm", name).exists()
        pidfd = os.pidfd_open(int(pid))
        process.kill()
        assert is_readable(pidfd, LONG)
        os.close(pidfd)
        assert not Path("/dev/shm", name).exists()


@pytest.mark.parametrize("context", ["get_context()", "multiprocessing.get_context('spawn')"])
def test_a_worker_notices_that_its_parent_was_killed(context: str) -> None:
    process = subprocess.Popen(
        fresh.command(
            SETUP
            + f"""
    ctx = {context}
    ours, theirs = ctx.Pipe()
    worker = ctx.Process(target=mp_functions.outlive_parent, args=(theirs,))
    worker.start()
    print(ours.recv(), flush=True)
    signal.pause()
    """
        ),
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        pidfd = os.pidfd_open(int(process.stdout.readline()))
        assert not is_readable(pidfd)
        process.kill()
        assert is_readable(pidfd, LONG)
        os.close(pidfd)


@pytest.mark.heavy
def test_at_exit_daemons_are_ended_and_others_awaited() -> None:
    output = fresh.run(
        SETUP
        + """
    ctx = get_context()
    daemon = ctx.Process(target=mp_functions.stay, daemon=True)
    other = ctx.Process(target=mp_functions.stay, args=(0.5,))
    daemon.start()
    other.start()
    for worker in (daemon, other):
        print(worker.pid)
    """
    )
    daemon, other = map(int, output.split())
    assert not exists(daemon)
    assert not exists(other)


def test_a_fork_while_workers_run() -> None:
    output = fresh.run(
        SETUP
        + """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork and threads
    ctx = get_context()
    ours, theirs = ctx.Pipe()
    worker = ctx.Process(target=mp_functions.hold, args=(theirs, 6))
    worker.start()
    theirs.close()
    ours.recv()
    other = ctx.Process(target=mp_functions.stay)
    other.start()
    copy = os.fork()
    if not copy:
        assert set(multiprocessing.active_children()) == {worker, other}
        assert worker.exitcode is None
        other.kill()
        multiprocessing.process._children.clear()
        own = ctx.Process(target=mp_functions.leave, args=(4,))
        own.start()
        expect_no_child()
        own.join()
        print(own.exitcode, flush=True)
        ours.close()
        os._exit(0)
    assert os.waitpid(copy, 0) == (copy, 0)
    assert worker.is_alive()
    ours.close()
    worker.join()
    other.join()
    print(worker.exitcode, other.exitcode)
    """
    )
    assert output == "no child\n4\n6 -9\n"


def test_as_pid_1_of_a_pid_namespace() -> None:
    output = fresh.run(
        SETUP
        + """
    worker = get_context().Process(target=mp_functions.leave, args=(3,))
    worker.start()
    worker.join()
    print(os.getpid(), worker.exitcode)
    """,
        *("unshare", "--pid", "--fork", "--mount-proc"),
    )
    assert output == "1 3\n"


# --- What a worker's object takes, and says


def test_seconds_of_a_join(ctx: Context) -> None:
    worker = ctx.Process(target=os.getpid)
    worker.start()
    with pytest.raises(ValueError, match="timeout must be a number of seconds, not NaN"):
        worker.join(float("nan"))
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not str"):
        worker.join("1")
    worker.join(float("inf"))
    assert worker.exitcode == 0
    worker.join(1e10)


def test_a_handle_to_a_worker(ctx: Context) -> None:
    worker = ctx.Process(target=time.sleep, args=(1000,))
    with pytest.raises(ValueError, match="process not started"):
        aiopidfd.PidFd.from_process(worker)
    worker.start()
    with aiopidfd.PidFd.from_process(worker) as handle:
        assert handle.getpid() == worker.pid
        handle.kill()
        worker.join()
        with pytest.raises(aiopidfd.NoHandleError, match="the program has exited"):
            aiopidfd.PidFd.from_process(worker)
    worker.close()
    with pytest.raises(ValueError, match="closed"):
        worker.handle()


def test_a_worker_that_runs_cannot_be_copied(ctx: Context) -> None:
    worker: Any = ctx.Process(target=time.sleep, args=(1000,))
    worker.start()
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle 'Popen' object"):
            make(worker._popen)
    for make in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):  # multiprocessing has its own reason before
            make(worker)
    worker.kill()
    worker.join()


def test_a_context_says_how_it_starts(ctx: Context) -> None:
    assert repr(ctx) == "<Context 'spawn'>"
    assert copy.copy(ctx) is pickle.loads(pickle.dumps(ctx)) is ctx


def test_an_exception_after_the_start_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal handler may raise one: nobody would know of the worker."""

    class RaisedError(Exception):
        pass

    def raising(*_: object) -> None:
        raise RaisedError

    process = get_context().Process(target=time.sleep, args=(1000,))
    monkeypatch.setattr("multiprocessing.util.Finalize", raising)
    with pytest.raises(RaisedError):
        process.start()
