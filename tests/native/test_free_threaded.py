"""Threads that spawn at the same moment; on a free-threaded Python, without a GIL between them."""

import os
import sys
import sysconfig
import threading
from collections.abc import Callable

import pytest

import aiopidfd

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
