"""CPython's tests of event loops, from the interpreter that runs this, on our loops.

    python -m tools.peers.cpython_loops

`test.test_asyncio.test_events` and `test_unix_events`, but for what is about subprocesses, which
cpython.py runs, and for what is about asyncio's own parts alone:

- the tests of its two child watchers, which call their handler of SIGCHLD: ours has none;
- the tests of its pipe transports by mocks: they make up a descriptor, which ours would close. How
  transports behave is in test_events, and that runs on ours;
- handles, timers and abstract base classes.

On uvloop most of these fail or hang, as far as they were tried: on ours its own tests are run.
"""

import asyncio
import os
import sys
import unittest
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import test.test_asyncio.test_events as events_peer
import test.test_asyncio.test_unix_events as unix_peer
from test.test_asyncio import utils

import aiopidfd
from aiopidfd._asyncio import loops
from aiopidfd._streams.pipe_transports import ReadPipe, WritePipe

from .running import Calls, run

_LOOPS_AT_LEAST = 200
_PIPES_AT_LEAST = 8


class LoopOfOurPipes(aiopidfd.EventLoop):
    """A loop that has our transports for any pipe."""

    async def connect_read_pipe(self, protocol_factory: Callable[[], Any], pipe: Any) -> Any:
        protocol = protocol_factory()
        return self._take(ReadPipe, pipe, protocol), protocol

    async def connect_write_pipe(self, protocol_factory: Callable[[], Any], pipe: Any) -> Any:
        protocol = protocol_factory()
        return self._take(WritePipe, pipe, protocol), protocol

    def _take(self, make: type, pipe: Any, protocol: Any) -> Any:
        fd = os.dup(pipe.fileno())
        os.set_blocking(fd, False)
        pipe.close()
        return make(self, fd, protocol)


class OnOurLoops(unittest.TestCase):
    """Whatever asks asyncio for a loop, or for a policy, gets ours."""

    def setUp(self) -> None:
        ours = {
            "SelectorEventLoop": aiopidfd.EventLoop,
            "DefaultEventLoopPolicy": aiopidfd.EventLoopPolicy,
        }
        for name, replacement in ours.items():
            patch = mock.patch.object(asyncio, name, replacement)
            patch.start()
            self.addCleanup(patch.stop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(aiopidfd.EventLoopPolicy())
        self.addCleanup(asyncio.set_event_loop_policy, None)
        super().setUp()


def ours(tests: type) -> type[unittest.TestCase]:
    """Their test case on our loops and policies."""

    class Tests(OnOurLoops, tests):  # type: ignore[misc]
        create_policy = aiopidfd.EventLoopPolicy

    Tests.__qualname__ = tests.__qualname__
    return Tests


def loop_cases() -> list[type[unittest.TestCase]]:
    """What asks for loops or policies. Not every Python has all of it."""
    names = {
        events_peer: [
            "EPollEventLoopTests",
            "PollEventLoopTests",
            "SelectEventLoopTests",
            "PolicyTests",
            "TestPyGetEventLoop",
            "TestCGetEventLoop",
            "TestServer",
        ],
        unix_peer: [
            "SelectorEventLoopSignalTests",
            "SelectorEventLoopUnixSocketTests",
            "SelectorEventLoopUnixSockSendfileTests",
            "PolicyTests",
            "TestFunctional",
            "TestFork",
        ],
    }
    return [
        ours(getattr(module, name))
        for module, wanted in names.items()
        for name in wanted
        if hasattr(module, name)
    ]


def pipe_cases() -> list[type[unittest.TestCase]]:
    """What test_events has about pipes and terminals, on our transports."""

    class OnOurPipes(events_peer.EventLoopTestsMixin, utils.TestCase):  # type: ignore[misc]
        create_event_loop = LoopOfOurPipes

    for name in unittest.defaultTestLoader.getTestCaseNames(OnOurPipes):
        if "pipe" not in name and "pty" not in name:
            setattr(OnOurPipes, name, None)
    return [OnOurPipes]


def main() -> int:
    """Run all of it; 0 if it is as it should be."""
    with Calls(loops, "finish_loop") as made:
        good = run("cpython's loops", loop_cases(), at_least=30)
    print(f"cpython's loops: {made.count} loops were ours")
    good = good and made.count >= _LOOPS_AT_LEAST
    with Calls(LoopOfOurPipes, "_take") as taken:
        good = run("cpython's pipes", pipe_cases(), at_least=0) and good
    print(f"cpython's pipes: {taken.count} transports were ours")
    return 0 if good and taken.count >= _PIPES_AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
