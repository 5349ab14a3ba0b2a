"""Cancelled at each await of each call: nothing leaks, no output is lost, no child is unknown."""

import asyncio
import gc
import os
import signal
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import aiopidfd
from aiopidfd import _native

from .. import fresh
from ..census import child_pids, childless
from ..held_exec import HeldExec, held_exec
from ..native.test_guardian import gone

PIPE = aiopidfd.PIPE


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldExec]:
    with held_exec(tmp_path) as held:
        yield held


async def run_to_cancellation(call: Callable[[], Awaitable[object]], turns: int) -> bool:
    """Start the call, let the loop turn so often, cancel it; whether it was still running."""
    task = asyncio.ensure_future(call())
    for _ in range(turns):
        await asyncio.sleep(0)
    was_running = task.cancel()
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    if isinstance(result, asyncio.CancelledError):
        return was_running
    if isinstance(result, BaseException):
        raise result
    return False


async def create() -> None:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    async with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x\n")
        await process.stdin.drain()
        await process.stdout.readline()
        process.stdin.close()
        await process.stdin.wait_closed()
        await process.communicate()
        await process.wait()


async def run() -> None:
    await aiopidfd.run_process(["cat"], input=b"x" * 300_000)


async def fail() -> None:
    with pytest.raises(FileNotFoundError):
        await aiopidfd.create_subprocess_exec("/nonexistent", stdout=PIPE)


@pytest.mark.parametrize("call", [create, run, fail])
async def test_at_every_turn_of_the_loop(call: Callable[[], Awaitable[object]]) -> None:
    cancelled = 0
    for turns in range(400):
        if not await run_to_cancellation(call, turns):
            break  # it was done before that many turns
        cancelled += 1
        assert childless(), "the cancelled call has left a child"
    # A start that fails takes as many turns as its exec leaves to the loop: one at least.
    assert cancelled >= (1 if call is fail else 4)


async def test_while_exec_hangs(held: HeldExec) -> None:
    """The caller goes on; the program is killed although no one looks after it any more."""
    task = asyncio.create_task(aiopidfd.create_subprocess_exec(held.path, "-c", "sleep 1000"))
    pid = await asyncio.to_thread(held.wait_until_held)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(pid)  # at once, although it has not been let go


def test_while_exec_hangs_and_the_loop_is_closed(held: HeldExec) -> None:
    async def main() -> int:
        task = asyncio.create_task(aiopidfd.create_subprocess_exec(held.path, "-c", "sleep 1000"))
        pid = await asyncio.to_thread(held.wait_until_held)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return pid

    pid = asyncio.run(main())
    held.let_go()
    asyncio.run(gone(pid))


async def test_a_coroutine_thrown_away_while_exec_hangs(held: HeldExec) -> None:
    coroutine = aiopidfd.create_subprocess_exec(held.path, "-c", "sleep 1000")
    coroutine.send(None)
    pid = await asyncio.to_thread(held.wait_until_held)
    coroutine.close()
    held.let_go()
    await gone(pid)


async def test_wait_cancelled_leaves_the_program_alone() -> None:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    waiter = asyncio.create_task(process.wait())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert process.returncode is None
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


async def test_run_process_is_reaped_when_the_cancellation_arrives() -> None:
    task = asyncio.create_task(aiopidfd.run_process(["sleep", "1000"]))
    while not child_pids():
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert childless()


async def test_a_second_cancellation_kills_at_once(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    # It gets its input only once we know that it runs: before that a cancellation kills at once.
    stubborn = f"trap '' TERM; read line; touch {ready}; while :; do sleep 0.1; done"
    task = asyncio.create_task(aiopidfd.run_process(stubborn, input=b"go\n", grace=1000))
    while not ready.exists():
        await asyncio.sleep(0.01)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=0.2)
    assert not done  # it has its grace
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert childless()


async def test_aclose_cancelled_kills_and_reaps(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = await aiopidfd.create_subprocess_shell(
        f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done"
    )
    while not ready.exists():
        await asyncio.sleep(0.01)
    closing = asyncio.create_task(process.aclose(grace=1000))
    await asyncio.sleep(0.05)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert process.returncode == -signal.SIGKILL


async def test_a_dropped_handle_warns_and_is_reaped() -> None:
    process = await aiopidfd.create_subprocess_shell("sleep 0.1; exit 1")
    guardian = process.guardian_pid
    with pytest.warns(ResourceWarning, match="is still running"):  # noqa: PT031
        del process
        gc.collect()
    assert guardian in child_pids()  # it lives on
    async with asyncio.timeout(30):
        while child_pids():  # and the loop reaps it
            await asyncio.sleep(0.01)


async def test_a_dropped_handle_does_not_break_the_program_s_output() -> None:
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        await aiopidfd.create_subprocess_shell(
            f"sleep 0.1; echo out && echo fine >/dev/fd/{write}", stdout=PIPE, pass_fds=[write]
        )
        gc.collect()
    os.close(write)
    assert await asyncio.to_thread(os.read, read, 100) == b"fine\n"
    os.close(read)
    while child_pids():
        await asyncio.sleep(0.01)


def test_a_loop_closed_under_a_running_program() -> None:
    """Nobody is left to reap it: a later spawn does. No destructor calls the loop."""

    async def start() -> aiopidfd.Process:
        return await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)

    process = asyncio.run(start())
    pid = process.pid
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del process
        gc.collect()
        assert {warning.category for warning in caught} == {ResourceWarning}
        caught.clear()  # a warning holds its source
        gc.collect()  # closes the pipes, so cat ends
    asyncio.run(gone(pid))
    assert aiopidfd.spawn(["/bin/true"]).wait() == 0
    assert childless()
    assert _native.sweep() == 0


@pytest.mark.heavy
def test_interrupted_at_any_moment() -> None:
    """Ctrl-C comes anywhere: no foreign descriptor is closed, no program runs on unknown."""
    fresh.run(
        """
        import warnings
        warnings.simplefilter("ignore")
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        armed = False

        def interrupt(*_):
            if armed:
                raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0011)
        interrupted = 0
        theirs = []
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            child = None
            try:
                armed = True
                child = aiopidfd.spawn(["/bin/true"], stdin=aiopidfd.DEVNULL)
                armed = False
            except KeyboardInterrupt:
                armed = False
                interrupted += 1
            # Descriptors of others come to lie on any number that is free.
            theirs.append(os.open("/dev/zero", os.O_RDONLY))
            if len(theirs) > 20:
                os.close(theirs.pop(0))
            assert all(os.readlink(f"/proc/self/fd/{fd}") == "/dev/zero" for fd in theirs)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert interrupted > 20, interrupted
        """
    )
