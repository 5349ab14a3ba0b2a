"""CPython's tests of asyncio's subprocesses, from the interpreter that runs this.

    python -m tools.peers.cpython

Those of `test.test_asyncio`: test_subprocess, and of test_events the part about
`loop.subprocess_exec`. On each of our loops and, where Python has child watchers, with our watcher.
"""

import asyncio
import sys
import unittest
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import test.test_asyncio.test_events as events_peer
import test.test_asyncio.test_subprocess as peer
import uvloop
from test.test_asyncio import utils

import aiopidfd

from .running import run


def on(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tests: Any = peer.SubprocessMixin
) -> type[unittest.TestCase]:
    """Their tests on loops of ours."""

    class Tests(tests, utils.TestCase):  # type: ignore[misc]
        def setUp(self) -> None:
            super().setUp()
            self.loop = make_loop()
            self.set_event_loop(self.loop)

        @staticmethod
        def close_loop(loop: Any) -> None:  # theirs looks into asyncio's own
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    Tests.__qualname__ = f"On {make_loop.__name__}"
    return Tests


def asyncio_loop_with_us() -> asyncio.AbstractEventLoop:
    """An ordinary loop that was turned."""
    loop = asyncio.SelectorEventLoop()
    aiopidfd.install(loop)
    return loop


def uvloop_with_us() -> asyncio.AbstractEventLoop:
    """uvloop's ordinary loop that was turned."""
    loop = uvloop.new_event_loop()
    aiopidfd.install(loop)
    return loop


def loop_of_our_policy() -> asyncio.AbstractEventLoop:
    """As code that asks the policy gets it."""
    return aiopidfd.EventLoopPolicy().new_event_loop()


def watcher_tests(added: list[int]) -> list[type[unittest.TestCase]]:
    """Their tests on asyncio's own loop and Popen, with our watcher; `added` gets the pids."""

    class CountingWatcher(aiopidfd.PidfdChildWatcher):
        def add_child_handler(self, pid: int, *args: Any) -> None:
            added.append(pid)
            super().add_child_handler(pid, *args)

    class WithWatcher(peer.SubprocessWatcherMixin, utils.TestCase):
        Watcher = CountingWatcher  # for 3.11

        def _get_watcher(self) -> CountingWatcher:
            return CountingWatcher()

    class AsAsynciosOwn(peer.GenericWatcherTests):
        """These name asyncio's PidfdChildWatcher."""

        def setUp(self) -> None:
            super().setUp()
            replaced = mock.patch.object(asyncio, "PidfdChildWatcher", deprecated_watcher)
            replaced.start()
            self.addCleanup(replaced.stop)

    def deprecated_watcher() -> CountingWatcher:
        if sys.version_info >= (3, 12):  # they want to see asyncio's warning of that
            warnings.warn("PidfdChildWatcher", DeprecationWarning, stacklevel=2)
        return CountingWatcher()

    return [WithWatcher, AsAsynciosOwn]


def main() -> int:
    """Run all of it; 0 if it is as it should be."""
    loops = (aiopidfd.EventLoop, asyncio_loop_with_us, loop_of_our_policy)
    good = run("cpython", [on(loop) for loop in loops], at_least=100)
    uvloops = (aiopidfd.UvloopEventLoop, uvloop_with_us)
    good = run("cpython", [on(loop) for loop in uvloops], at_least=60) and good
    events = [on(loop, events_peer.SubprocessTestsMixin) for loop in (*loops, *uvloops)]
    good = run("cpython's events", events, at_least=50) and good
    if sys.version_info < (3, 14):
        added: list[int] = []
        good = run("cpython with our watcher", watcher_tests(added), at_least=0) and good
        print(f"cpython with our watcher: it watched {len(added)} children")
        good = good and len(added) >= 30
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
