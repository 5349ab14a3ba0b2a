"""Every test runs on asyncio and on uvloop, and must leave nothing behind."""

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trio._core._thread_cache as trio_threads
import uvloop

import aiopidfd
from aiopidfd import _native
from aiopidfd._spawn.hub_of_each_loop import current_hub

from .census import child_pids, open_fds

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    # A file may bring loops of its own.
    return getattr(item.module, "LOOPS", LOOPS)  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _signals_as_at_a_terminal() -> None:
    """A shell's background job ignores some, and so would all that we start."""
    defaults = {signal.SIGINT: signal.default_int_handler}
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, defaults.get(number, signal.SIG_DFL))


@pytest.fixture(scope="session", autouse=True)
def _once_for_all() -> Iterator[None]:
    """Make what exists once in a process before anything is counted.

    Our lifelines, from the first spawn on; libuv's signal pipe, from the first loop on.
    """
    trio_threads.IDLE_TIMEOUT = 0.01  # type: ignore[attr-defined]  # else its threads stay for 10 s
    assert aiopidfd.spawn(["/bin/true"]).wait() == 0
    for factory in LOOPS.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0))
    gc.collect()
    gc.freeze()  # thousands of collected tests: a collection after each would look at all of them
    yield
    gc.unfreeze()


def shared_mappings() -> int:
    """Records of children that change ids are shared anonymous mappings."""
    return Path("/proc/self/maps").read_text().count("/dev/zero (deleted)")


def counted() -> dict[str, set[object]]:
    return {
        "fds": set(open_fds().items()),
        "children": set(child_pids()),
        "records": set(range(_native.records())),
        "mappings": set(range(shared_mappings())),
        "threads": {thread.name for thread in threading.enumerate()},
    }


def leftovers(before: dict[str, set[object]]) -> dict[str, set[object]]:
    return {what: new for what, now in counted().items() if (new := now - before[what])}


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail a test that leaves an fd, a child, a zombie, a record, a mapping or a thread.

    What is on its way out (a killed program that nobody awaited) has some seconds to go.
    """
    before = counted()
    yield
    deadline = time.monotonic() + 5
    while (left := leftovers(before)) and time.monotonic() < deadline:
        gc.collect()
        _native.sweep()
        time.sleep(0.01)
    assert not left, f"left behind: {left}"


@pytest.fixture
async def _a_hub() -> None:
    """Make what is there from a loop's first start until the loop is closed."""
    current_hub()


@pytest.fixture(autouse=True)
def _the_hub_is_there(request: pytest.FixtureRequest) -> None:
    """A test on a loop finds its hub: what it counts is what each program adds."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("_a_hub")
