"""Many loops in many threads; one child in the hands of several threads."""

import asyncio
import concurrent.futures
import contextlib
import threading
import time

import pytest

import aiopidfd

from ..conftest import LOOPS
from ..hosts import HOSTS, Seen


@pytest.mark.parametrize("loop", LOOPS)
def test_many_loops_in_many_threads(loop: str) -> None:
    async def work(number: int) -> None:
        for round_ in range(10):
            status = (number * 10 + round_) % 256
            result = await aiopidfd.run_process(f"cat; exit {status}", input=b"in", check=False)
            assert (result.returncode, result.stdout) == (status, b"in")

    def main(number: int) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(work(number))

    seen = Seen()
    with HOSTS["polling reaper"](seen), concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(main, range(16)))
    assert (seen.sigchld, seen.pids) == (0, [])


@pytest.mark.heavy
def test_signals_and_waits_from_many_threads() -> None:
    """The pidfd is closed under the signallers' hands, and its number reused, all the time."""
    for _ in range(30):
        child = aiopidfd.spawn(["sleep", "0.02"])
        done = threading.Event()

        def signal(child: aiopidfd.Child = child, done: threading.Event = done) -> None:
            while not done.is_set():
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(0)

        def wait(child: aiopidfd.Child = child) -> int:
            return child.wait()

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            signallers = [pool.submit(signal) for _ in range(2)]
            waiters = [pool.submit(wait) for _ in range(4)]
            assert [waiter.result() for waiter in waiters] == [0] * 4
            done.set()
            for signaller in signallers:
                signaller.result()


def test_the_blocking_form_lets_other_threads_run() -> None:
    """With the GIL held through the wait, the counter would stand still."""
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    child = aiopidfd.spawn(["sleep", "0.3"])
    before = counted
    assert child.wait() == 0
    during = counted - before
    done.set()
    thread.join()
    assert during > 100


def test_wait_with_a_timeout() -> None:
    child = aiopidfd.spawn(["sleep", "1000"])
    with pytest.raises(aiopidfd.TimeoutExpired):
        child.wait(0.05)
    assert child.poll() is None
    child.terminate()
    assert child.wait(30) == -15
    assert child.poll() == -15
    with pytest.raises(ProcessLookupError):
        child.kill()
    assert child.pidfd == -1
    assert child.rusage is not None
    assert child.rusage.ru_maxrss > 0


def test_spawn_refuses_pipes() -> None:
    with pytest.raises(ValueError, match="makes no pipes"):
        aiopidfd.spawn(["/bin/true"], stdout=aiopidfd.PIPE)
