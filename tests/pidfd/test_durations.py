"""Every number of seconds in the package: one check, and a wait however long it is."""

import math
import sys
import threading
from decimal import Decimal
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE, PidFd
from aiopidfd._pidfd.durations import Deadline, check_seconds, nanoseconds

from .. import fresh
from ..anyio_support import BACKENDS, Backend, backends
from ..support import hang_guard, sh

LONG = [math.inf, 1e10, 2_147_484, 1e300, 10**300]
BAD = {
    "nan": (math.nan, ValueError, "not NaN"),
    "a string": ("1", TypeError, "a number of seconds, not str"),
    "a bool": (True, TypeError, "a number of seconds, not bool"),
    "a Decimal": (Decimal(1), TypeError, "a number of seconds, not Decimal"),
    "a list": ([1], TypeError, "a number of seconds, not list"),
    "beyond a float": (10**400, ValueError, "too large"),
}


@pytest.fixture(params=BAD.values(), ids=BAD)
def bad(request: pytest.FixtureRequest) -> Any:
    return request.param


# Blocking waits


@pytest.mark.parametrize("seconds", LONG, ids=str)
@pytest.mark.parametrize("kind", ["Child", "PidFd"])
def test_a_long_wait_ends_with_the_program(kind: str, seconds: float) -> None:
    child = aiopidfd.spawn(["sleep", "0.05"])
    with PidFd.from_process(child) as handle:
        if kind == "Child":
            assert child.wait(seconds) == 0
        else:
            assert handle.wait_blocking(seconds) in (0, None)
            child.wait()


@pytest.mark.parametrize("seconds", [0, 0.0, -1, -math.inf, -(10**300), 0.01], ids=str)
def test_a_short_wait_is_over_at_once(seconds: float) -> None:
    with aiopidfd.spawn(["sleep", "1000"]) as child, PidFd.from_process(child) as handle:
        with pytest.raises(aiopidfd.TimeoutExpired):
            child.wait(seconds)
        with pytest.raises(TimeoutError):
            handle.wait_blocking(seconds)
        child.kill()


def test_what_is_no_duration_is_refused_by_blocking_waits(bad: Any) -> None:
    seconds, error, text = bad
    with aiopidfd.spawn(["sleep", "1000"]) as child, PidFd.from_process(child) as handle:
        for wait in (child.wait, handle.wait_blocking):
            with pytest.raises(error, match=f"timeout .*{text}"):
                wait(seconds)
        child.kill()


def test_a_wait_of_years_is_interrupted_by_a_signal() -> None:
    fresh.run(
        """
        import math
        def handler(*args):
            raise KeyError
        signal.signal(signal.SIGALRM, handler)
        child = aiopidfd.spawn(["sleep", "1000"])
        with aiopidfd.PidFd.from_process(child) as handle:
            for wait in (child.wait, handle.wait_blocking):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                try:
                    wait(math.inf)
                except KeyError:
                    print("interrupted")
        child.kill()
        child.wait()
        """
    )


# On a loop


async def test_run_process() -> None:
    with hang_guard():
        for seconds in LONG:
            result = await aiopidfd.run_process(
                ["true"], timeout=seconds, grace=seconds, drain=seconds
            )
            assert result.returncode == 0


async def test_run_process_refuses(bad: Any) -> None:
    seconds, error, text = bad
    for name in ("timeout", "grace", "drain"):
        with pytest.raises(error, match=f"{name} .*{text}"):
            await aiopidfd.run_process(["/no/such/program"], **{name: seconds})


async def test_a_process_refuses(bad: Any) -> None:
    seconds, error, text = bad
    with pytest.raises(error, match=f"grace .*{text}"):
        await aiopidfd.create_subprocess_exec("/no/such/program", grace=seconds)
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    with pytest.raises(error, match=f"grace .*{text}"):
        await process.aclose(grace=seconds)
    with pytest.raises(error, match=f"drain .*{text}"):
        await process.communicate(drain=seconds)
    await process.communicate()


@pytest.mark.parametrize("seconds", LONG, ids=str)
async def test_a_long_grace(seconds: float) -> None:
    with hang_guard():
        process = await aiopidfd.create_subprocess_exec("sleep", "1000", grace=seconds)
        await process.aclose()
        assert process.returncode == -15


async def test_the_grace_of_the_start_is_that_of_the_block() -> None:
    stubborn = sh("trap '' TERM; echo; while :; do sleep 0.05; done")
    with hang_guard():
        process = await aiopidfd.create_subprocess_exec(*stubborn, stdout=PIPE, grace=0.05)
        async with process:
            await process.stdout.readline()
        assert process.returncode == -9
        process = await aiopidfd.create_subprocess_exec("sleep", "1000", grace=math.inf)
        async with process:
            pass
        assert process.returncode == -15


@backends(*BACKENDS)
def test_on_anyio(backend: Backend) -> None:
    async def body() -> None:
        for seconds, error, text in BAD.values():
            for name in ("grace", "drain"):
                for run in (aiopidfd.anyio.run_process, aiopidfd.anyio.supervise):
                    with pytest.raises(error, match=f"{name} .*{text}"):
                        await run(["/no/such/program"], **{name: seconds})
        for seconds in LONG:
            await aiopidfd.anyio.run_process(["true"], grace=seconds, drain=seconds)

    backend.run(body)


# The parts


def test_check() -> None:
    check_seconds(grace=0, timeout=None, drain=-1)
    with pytest.raises(TypeError, match="grace must be a number of seconds, not NoneType"):
        check_seconds(grace=None)
    with pytest.raises(ValueError, match="grace must not be negative: -1"):
        check_seconds(grace=-1)


def test_nanoseconds_are_what_a_timespec_holds() -> None:
    year = 365 * 24 * 3600 * 10**9
    assert [nanoseconds(s) for s in (-1, 0, 1.5, 1e10, math.inf, 10**300)] == [
        0,
        0,
        1_500_000_000,
        *[year] * 3,
    ]


def test_a_deadline_by_a_clock() -> None:
    now = 10.0
    deadline = Deadline(5, lambda: now)
    assert (deadline.left, deadline.past) == (5, False)
    now = 16.0
    assert (deadline.left, deadline.past) == (0, True)
    assert Deadline(None).left == math.inf
    assert Deadline(0).past


# A clock that stands still


FROZEN = """
    import freezegun, trio
    import aiopidfd.anyio
    stubborn = ["/bin/sh", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done"]

    async def ended():
        process = await aiopidfd.create_subprocess_exec(*stubborn, stdout=aiopidfd.PIPE)
        await process.stdout.readline()
        await process.aclose(grace=0.1)
        assert process.returncode == -9
        try:
            await aiopidfd.run_process(stubborn, timeout=0.1, grace=0.1)
        except aiopidfd.TimeoutExpired as exc:
            assert exc.stdout == b"\\n", exc.stdout
        assert await (await aiopidfd.create_subprocess_exec("sleep", "1000")).kill_tree()

    async def on_trio():
        process = await aiopidfd.anyio.open_process(stubborn, stdin=None, stderr=None)
        await process.stdout.receive()
        assert await process.kill_tree()
        assert await process.wait() == -9
        await process.aclose()
        with trio.move_on_after(0.2):
            await aiopidfd.anyio.run_process(stubborn, grace=0.1)

    with freezegun.freeze_time("2020-01-01", real_asyncio=True, ignore=["trio"]):
        assert time.monotonic() == time.monotonic()
        asyncio.run(ended())
        if {uvloop}:
            import uvloop
            asyncio.run(ended(), loop_factory=uvloop.new_event_loop)
        trio.run(on_trio)
        child = aiopidfd.spawn(["sleep", "1000"])
        with aiopidfd.PidFd.from_process(child) as handle:
            for wait, error in (
                (child.wait, aiopidfd.TimeoutExpired),
                (handle.wait_blocking, TimeoutError),
            ):
                try:
                    wait(0.05)
                except error:
                    print("over")
        assert child.kill_tree()
        child.wait()
"""


@pytest.mark.heavy
def test_frozen_by_freezegun() -> None:
    """Its users' tests: time stands still for Python, and not for loops and programs."""
    pytest.importorskip("freezegun")
    uvloop = sys.version_info >= (3, 12)  # asyncio.run takes a loop_factory
    code = FROZEN.replace("{uvloop}", str(uvloop))
    assert fresh.run(code) == "over\nover\n"


def test_many_threads_wait_long() -> None:
    child = aiopidfd.spawn(sh("sleep 0.1; exit 3"))
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(child.wait(math.inf))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [3] * 5
