"""How the peers' unittest suites are run here: with the exceptions, and with no ordinary child."""

import functools
import sys
import unittest
from collections.abc import Iterable, Iterator
from typing import Any, Self

from aiopidfd._spawn import start

from .exceptions import EXCEPTIONS

__all__ = ["Calls", "run", "spawns"]


class Calls:
    """Counts the calls of a function while the block runs.

    Attributes:
        count: how many there were.
    """

    def __init__(self, owner: Any, name: str) -> None:
        """The function is an attribute of `owner`, a module or a class."""
        self.count = 0
        self._owner, self._name = owner, name
        self._function = getattr(owner, name)

    def __enter__(self) -> Self:
        def counting(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return self._function(*args, **kwargs)

        setattr(self._owner, self._name, counting)
        return self

    def __exit__(self, *exc_info: object) -> None:
        setattr(self._owner, self._name, self._function)


def spawns() -> Calls:
    """Counts the programs that aiopidfd starts: else a suite that bypasses us would pass too."""
    return Calls(start._native, "spawn")


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
    with spawns() as started:
        result = unittest.TextTestRunner(verbosity=1).run(suite)
    print(f"{peer}: {started.count} programs were started by aiopidfd", flush=True)
    if started.count < at_least:
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
