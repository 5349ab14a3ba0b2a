"""Threads that spawn at the same moment; on a free-threaded Python, without a GIL between them."""

import contextlib
import os
import random
import signal
import sys
import sysconfig
import threading
from collections.abc import Callable

import pytest

import aiopidfd
from aiopidfd import _native

from .. import fresh

THREADS = 8


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter has a GIL always"
)
def test_the_import_does_not_bring_the_gil_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_GIL", raising=False)
    assert fresh.run("print(sys._is_gil_enabled())") == "False\n"


def in_threads(function: Callable[[int], None]) -> None:
    """Run it in all threads at the same time."""
    errors: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def body(number: int) -> None:
        try:
            start.wait()
            function(number)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_threads_spawn_in_parallel() -> None:
    def spawns(number: int) -> None:
        for turn in range(100):
            code = (number * 31 + turn) % 250
            assert aiopidfd.spawn(["/bin/sh", "-c", f"exit {code}"]).wait() == code

    in_threads(spawns)


def test_one_child_is_used_by_all_threads_at_once() -> None:
    for _ in range(50):
        child = aiopidfd.spawn(["/bin/sleep", "60"])

        def use(number: int, child: aiopidfd.Child = child) -> None:
            child.poll()
            if number == 0:
                child.kill()
            assert child.wait() == -9
            assert child.poll() == -9

        in_threads(use)


def test_spawns_that_fail_in_parallel() -> None:
    def fails(number: int) -> None:
        del number
        for _ in range(50):
            with pytest.raises(FileNotFoundError):
                aiopidfd.spawn(["/nonexistent"])

    in_threads(fails)


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without a GIL, putenv(3) from several threads is a race of its own in the C library",
)
def test_an_environment_that_other_threads_change() -> None:
    """It is copied at the call. (putenv(3) moves what getenv(3) and we read.)"""

    def changes(number: int) -> None:
        for turn in range(100):
            os.environ[f"AIOPIDFD_TEST_{number}"] = "x" * turn
            assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        del os.environ[f"AIOPIDFD_TEST_{number}"]

    in_threads(changes)


def test_threads_that_spawn_signal_wait_and_fork() -> None:
    """All at once, and on each other's children; each status is told to all who ask."""
    shared: list[aiopidfd.Child] = []

    def spawns(rng: random.Random) -> None:
        code = rng.randrange(256)
        options = {"contain": rng.random() < 0.2, "die_with_parent": rng.random() < 0.2}
        assert aiopidfd.spawn(f"exit {code}", shell=True, **options).wait() == code

    def shares(rng: random.Random) -> None:
        del rng
        shared.append(aiopidfd.spawn(["/bin/sleep", "1000"]))

    def signals(rng: random.Random) -> None:
        with contextlib.suppress(IndexError, ProcessLookupError):
            child = rng.choice(shared)
            child.send_signal(rng.choice([0, signal.SIGCONT, signal.SIGTERM]))
            assert child.poll() in (None, -signal.SIGTERM)

    def waits(rng: random.Random) -> None:
        with contextlib.suppress(IndexError, aiopidfd.TimeoutExpired):
            assert rng.choice(shared).wait(rng.random() / 1000) == -signal.SIGTERM

    def looks(rng: random.Random) -> None:
        with contextlib.suppress(IndexError, ProcessLookupError):
            for process in rng.choice(shared).children():
                process.close()

    def forks(rng: random.Random) -> None:
        code = rng.randrange(256)
        child = aiopidfd.fork()
        if child is None:
            os._exit(code)
        assert child.wait() == code

    def hears(rng: random.Random) -> None:
        hub = _native.hub()
        child = rng.choice(shared) if shared else aiopidfd.spawn(["/bin/true"])
        hub.adopt(child._program.native)
        hub.collect()
        hub.look_again()

    actions = [spawns, shares, signals, waits, looks, forks, hears]

    def stress(number: int) -> None:
        rng = random.Random(number)
        for _ in range(60):
            rng.choice(actions)(rng)

    in_threads(stress)

    def ends(number: int) -> None:
        del number
        for child in shared:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            assert child.wait() == -signal.SIGTERM

    in_threads(ends)


def test_one_hub_is_used_by_all_threads_at_once() -> None:
    """Each exit is told to one of them."""
    hub = _native.hub()
    told: list[int] = []
    kept: list[_native.Child] = []  # of one that was given up nobody is told
    program = (b"/bin/true",)
    call = _native.CALL_CLONE

    def hears(number: int) -> None:
        del number
        children = [
            _native.spawn(
                *(hub, call, False, False, 2, False, -1, -1, (), program, program, None, [], [])
            )
            for _ in range(30)
        ]
        kept.extend(children)
        left = {child.id for child in children}
        while left:
            _native.wait_readable(hub.fd, 10**6)
            told.extend(hub.collect()[0])
            left -= {child.id for child in children if child.state == _native.EXITED}
            hub.look_again()

    in_threads(hears)
    told += hub.collect()[0]
    assert len(set(told)) == 30 * THREADS
