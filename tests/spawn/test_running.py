"""`running`: what this process has started and what still runs, at no cost worth naming."""

import contextlib
import functools
import importlib
import os
import signal
import threading
import time
import warnings
from typing import Any

import anyio
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd._spawn.hub_of_each_loop import current_hub
from aiopidfd._spawn.options import Request
from aiopidfd._spawn.program import FINAL
from aiopidfd._spawn.start import start as begin
from aiopidfd._spawn.stdio_and_pass_fds import Descriptors
from aiopidfd._spawn.weak_programs import RUNNING

from .. import fresh, starting
from ..anyio_support import BACKENDS, Backend, until
from ..census import child_pids
from ..support import gate, sh

SLEEP = ("sleep", "1000")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


async def start(*command: str, **options: Any) -> aiopidfd.anyio.Process:
    choice = {"stdin": None, "stdout": None, "stderr": None, **options}
    return await aiopidfd.anyio.open_process(command, **choice)


def ours(before: set[int]) -> list[aiopidfd.RunningProgram]:
    """Not the resource tracker, which another test may have started."""
    return [one for one in aiopidfd.running() if one.pid not in before]


@pytest.fixture
def before() -> set[int]:
    return {one.pid for one in aiopidfd.running()}


async def test_another_thread_takes_in_the_exit_of_a_fork_before_it_is_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(*args: Any) -> Any:
        program = fork_to_call(*args)
        while program.advance() not in FINAL:  # as running() does, in another thread
            time.sleep(0.001)
        return program

    module = importlib.import_module("aiopidfd._asyncio.run_in_fork")
    fork_to_call = module._fork_to_call
    monkeypatch.setattr(module, "_fork_to_call", late)
    assert await aiopidfd.run_in_fork(int, "7") == 7


async def test_another_thread_sees_the_start_when_the_exit_is_known() -> None:
    """It has seen the program run, and is late: the hub must not keep what is over."""
    process = await aiopidfd.create_subprocess_exec("true")
    await process.wait()
    process._program.tell_started()
    assert process._program not in current_hub().programs.values()
    assert process._program not in current_hub().known.list()


def test_each_way_to_start_something(backend: Backend, before: set[int]) -> None:
    async def body() -> None:
        since = time.time()
        child = aiopidfd.spawn(SLEEP)
        process = await start(*SLEEP)
        with gate() as (read, _release, _):
            forked = aiopidfd.fork()
            if forked is None:
                os.read(read, 1)
                os._exit(0)
            async with anyio.create_task_group() as group:
                group.start_soon(aiopidfd.run_in_fork, functools.partial(os.read, read, 1))
                await until(lambda: len(ours(before)) == 4)
                found = ours(before)
                assert [one.pid for one in found[:3]] == [child.pid, process.pid, forked.pid]
                assert [one.args for one in found[:2]] == [[*SLEEP]] * 2
                assert [one.args for one in found[2:]] == [("fork",)] * 2
                times = [one.started for one in found]
                assert times == sorted(times)
                assert since <= times[0] <= times[-1] <= time.time()
                os.write(_, b"xx")
        forked.wait()
        for one in found[:2]:
            assert one.returncode is None
            one.terminate()
        assert child.wait() == await process.wait() == -signal.SIGTERM
        assert found[0].returncode == -signal.SIGTERM
        assert not ours(before)
        with pytest.raises(ProcessLookupError):
            found[0].kill()

    backend.run(body)


def test_a_worker_and_the_resource_tracker() -> None:
    fresh.run("""
        import aiopidfd.multiprocessing
        context = aiopidfd.multiprocessing.get_context()
        (tracker,) = aiopidfd.running()
        assert "resource_tracker" in tracker.args[-1]
        worker = context.Process(target=time.sleep, args=(1000,))
        worker.start()
        assert [one.pid for one in aiopidfd.running()] == [tracker.pid, worker.pid]
        worker.kill()
        worker.join()
        assert [one.pid for one in aiopidfd.running()] == [tracker.pid]
    """)


def test_nobody_needs_to_look_for_an_exit_to_be_known(before: set[int]) -> None:
    child = aiopidfd.spawn(["/bin/true"])
    while ours(before):
        time.sleep(0.001)
    assert child.returncode == 0
    child.wait()


def test_one_whose_handle_was_dropped(backend: Backend, before: set[int]) -> None:
    """Its loop keeps it, and hears of its exit, though nobody listens."""

    async def body() -> None:
        with gate() as (read, release, _):
            process = await start(*sh("read line"), stdin=read)
            with pytest.warns(ResourceWarning, match="is still running"):
                del process
            (one,) = ours(before)
            children = one.children()
            assert children == []
            del one
            assert len(current_hub().programs) == 1
            release()
            await until(lambda: not current_hub().programs)
            assert not ours(before)

    backend.run(body)
    while child_pids():
        aiopidfd.spawn(["/bin/true"]).wait()


def test_one_that_ran_before_anybody_listened(backend: Backend) -> None:
    """Its loop hears of its exit all the same."""

    async def body() -> None:
        with gate() as (read, release, _):
            hub = current_hub()
            with contextlib.closing(Descriptors()) as descriptors:
                program = begin(Request(sh("read line"), stdin=read), descriptors, hub)
                program.wait_started()
            del program
            assert len(hub.programs) == 1
            release()
            await until(lambda: not hub.programs)

    backend.run(body)
    while child_pids():
        aiopidfd.spawn(["/bin/true"]).wait()


def test_without_a_loop_a_dropped_one_is_not_known_any_more(before: set[int]) -> None:
    with gate() as (read, _release, _):
        child = aiopidfd.spawn(sh("read line"), stdin=read)
        del child
        assert not ours(before)
    while child_pids():
        aiopidfd.spawn(["/bin/true"]).wait()


def test_dropping_what_it_returned_does_nothing(before: set[int]) -> None:
    child = aiopidfd.spawn(SLEEP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ours(before)) == 1
    assert child.poll() is None
    child.kill()
    child.wait()


def test_what_did_not_start_is_not_in_it(backend: Backend, before: set[int]) -> None:
    async def body() -> None:
        with pytest.raises(FileNotFoundError):
            await start("/no/such/program")
        assert not ours(before)
        assert not current_hub().programs

    backend.run(body)


def test_it_does_not_grow(backend: Backend) -> None:
    count = len(RUNNING._references)

    async def body() -> None:
        kept = []
        for number in range(50):
            process = await start("/bin/true")
            if number % 2:
                with contextlib.suppress(ProcessLookupError):  # it has ended already
                    process.children()
            assert await process.wait() == 0
            if number % 5 == 0:
                kept.append(process)
            with pytest.raises(FileNotFoundError):
                await start("/no/such/program")
        assert not current_hub().programs
        assert not current_hub()._listeners
        assert len(RUNNING._references) == count
        kept.clear()
        del process
        assert not current_hub().trees.list()

    backend.run(body)
    assert len(RUNNING._references) == count


def test_from_many_threads_while_programs_come_and_go(before: set[int]) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                for one in aiopidfd.running():
                    assert one.pid > 0
                time.sleep(0.0005)
        except BaseException as exc:
            errors.append(exc)

    def come_and_go() -> None:
        try:
            for code in range(40):
                assert aiopidfd.spawn(sh(f"exit {code}")).wait() == code
        except BaseException as exc:
            errors.append(exc)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    others = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in (*lookers, *others):
        thread.start()
    for thread in others:
        thread.join()
    stop.set()
    for thread in lookers:
        thread.join()
    assert not errors
    assert not ours(before)


def test_looked_at_from_a_thread_while_the_loop_waits(backend: Backend, before: set[int]) -> None:
    """That another thread has heard of the exit first hides it from nobody."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            aiopidfd.running()
            time.sleep(0.0005)

    thread = threading.Thread(target=look)
    thread.start()

    async def body() -> None:
        for code in range(30):
            process = await start(*sh(f"exit {code}"))
            assert await process.wait() == code
            if not backend.is_trio:
                result = await aiopidfd.run_process(f"exit {code}", check=False)
                assert result.returncode == code

    try:
        backend.run(body)
    finally:
        stop.set()
        thread.join()
    assert not ours(before)


def test_in_copies_of_this_process_nothing_runs() -> None:
    fresh.run("""
        child = aiopidfd.spawn(["sleep", "1000"])
        def check():
            assert aiopidfd.running() == []
            grandchild = aiopidfd.spawn(["sleep", "1000"])
            assert [one.pid for one in aiopidfd.running()] == [grandchild.pid]
            grandchild.kill()
            assert grandchild.wait() == -9
        pid = os.fork()
        if pid == 0:
            try:
                check()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        asyncio.run(aiopidfd.run_in_fork(check))
        assert [one.pid for one in aiopidfd.running()] == [child.pid]
        child.kill()
        child.wait()
    """)


def test_one_that_is_being_started_is_not_in_it_yet(before: set[int]) -> None:
    child = starting.begin(SLEEP)
    assert child._program in RUNNING.list()
    assert child.pid == 0
    assert not ours(before)
    child._program.wait_started()
    assert len(ours(before)) == 1
    child.kill()
    child.wait()
