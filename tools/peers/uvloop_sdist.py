"""uvloop's own tests of processes, pipes and signals, from its sources, on our uvloop loop.

    python -m tools.peers.uvloop_sdist FOLDER

FOLDER is the unpacked distribution of the version that is installed.
"""

import asyncio
import sys
import unittest
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from uvloop import _testbase

import aiopidfd

from .running import run


def new_loop(self: unittest.TestCase) -> asyncio.AbstractEventLoop:
    """What `UVTestCase.new_loop` returns here."""
    return aiopidfd.UvloopEventLoop()


def cases(path: Path) -> list[type[unittest.TestCase]]:
    """The test cases of a file that run on uvloop."""
    spec = spec_from_file_location(f"uvloop_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = [case for case in vars(module).values() if isinstance(case, type)]
    wanted = [case for case in found if issubclass(case, _testbase.UVTestCase)]
    return [case for case in wanted if case is not _testbase.UVTestCase]


def main() -> int:
    """Run them; 0 if it is as it should be."""
    folder = Path(sys.argv[1]) / "tests"
    _testbase.UVTestCase.new_loop = new_loop
    names = ("test_process", "test_process_spawning", "test_pipes", "test_signals", "test_unix")
    found = [case for name in names for case in cases(folder / f"{name}.py")]
    return 0 if run("uvloop", found, at_least=40) else 1


if __name__ == "__main__":
    sys.exit(main())
