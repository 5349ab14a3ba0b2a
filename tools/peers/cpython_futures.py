"""CPython's tests of process pools, from the interpreter that runs this, with our workers.

    python -m tools.peers.cpython_futures

Those of `test.test_concurrent_futures` for the methods "spawn" and "forkserver", whose context is
ours here.
"""

import importlib
import pkgutil
import sys
import unittest
from types import ModuleType

_PACKAGE = "test.test_concurrent_futures"
_METHODS = ("spawn", "forkserver")
_AT_LEAST = 200


def modules() -> list[ModuleType]:
    """The modules with the tests: one, or a package's."""
    package = importlib.import_module(_PACKAGE)
    inside = pkgutil.iter_modules(getattr(package, "__path__", []), f"{_PACKAGE}.")
    return [package, *(importlib.import_module(module.name) for module in inside)]


def main() -> int:
    """Run them; 0 if it is as it should be."""
    from .running import run  # not in the workers
    from .workers import replace_contexts

    replace_contexts(*_METHODS)
    try:
        found = modules()
    except ModuleNotFoundError:
        print(f"futures: this Python was installed without {_PACKAGE}")
        return 0
    cases = {
        value
        for module in found
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        and getattr(value, "ctx", None) in _METHODS
    }
    in_order = sorted(cases, key=lambda case: f"{case.__module__}.{case.__qualname__}")
    return 0 if run("futures", in_order, at_least=_AT_LEAST) else 1


if __name__ == "__main__":
    sys.exit(main())
