"""How the peers' unittest suites are run here: with the exceptions, and with no ordinary child."""

import functools
import sys
import unittest
from collections.abc import Iterable, Iterator
from typing import Any, Self

from aiopidfd._spawn import start

from .exceptions import EXCEPTIONS

__all__ = ["Spawns", "run"]


class Spawns:
    """Counts the programs that aiopidfd starts: else a suite that bypasses us would pass too."""

    def __init__(self) -> None:
        self.count = 0
        self._spawn = start._native.spawn

    def __enter__(self) -> Self:
        start._native.spawn = self._counting  # type: ignore[assignment]
        return self

    def __exit__(self, *exc_info: object) -> None:
        start._native.spawn = self._spawn

    def _counting(self, *args: Any) -> Any:
        self.count += 1
        return self._spawn(*args)


def run(peer: str, cases: Iterable[type[unittest.TestCase]], *, at_least: int = 1) -> bool:
    """Run test cases; whether all is as it should be.

    Args:
        peer: a key of EXCEPTIONS.
        cases: what to run.
        at_least: how many programs they must have started through us.
    """
    suite = unittest.TestSuite()
    for case in cases:
        suite.addTests(_but_for_exceptions(EXCEPTIONS[peer], case))
    print(f"{peer}: {suite.countTestCases()} tests", flush=True)
    with Spawns() as spawns:
        result = unittest.TextTestRunner(verbosity=1).run(suite)
    print(f"{peer}: {spawns.count} programs were started by aiopidfd", flush=True)
    if spawns.count < at_least:
        print(f"{peer}: that is too few: these tests did not use it", file=sys.stderr)
        return False
    return result.wasSuccessful()


def _but_for_exceptions(
    exceptions: dict[str, str], case: type[unittest.TestCase]
) -> Iterator[unittest.TestCase]:
    for name in unittest.defaultTestLoader.getTestCaseNames(case):
        test = case(name)
        if name in exceptions:
            setattr(test, name, unittest.expectedFailure(functools.partial(getattr(test, name))))
        yield test
