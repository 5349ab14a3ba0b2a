"""CPython's `test.test_subprocess`, from the interpreter that runs this, on our `Popen`.

python -m tools.peers.cpython_subprocess
"""

import subprocess
import sys
import unittest

import aiopidfd.subprocess

from .running import run

_AT_LEAST = 2000


class Both:
    """The standard module, as the tests see it: what they replace in it is replaced in ours too."""

    def __init__(self) -> None:
        object.__setattr__(self, "__dict__", vars(subprocess))

    def __setattr__(self, name: str, value: object) -> None:
        setattr(subprocess, name, value)
        if name in subprocess.__all__:
            setattr(aiopidfd.subprocess, name, value)


def cases() -> list[type[unittest.TestCase]]:
    """Their test cases, but for those that are for other systems."""
    for name in subprocess.__all__:  # before the import: some of them subclass Popen
        setattr(subprocess, name, getattr(aiopidfd.subprocess, name))
    import test.test_subprocess as peer

    peer.subprocess = Both()
    found = [case for case in vars(peer).values() if isinstance(case, type)]
    wanted = [case for case in found if issubclass(case, unittest.TestCase)]
    return [case for case in wanted if not getattr(case, "__unittest_skip__", False)]


def main() -> int:
    """Run them; 0 if it is as it should be."""
    return 0 if run("subprocess", cases(), at_least=_AT_LEAST) else 1


if __name__ == "__main__":
    sys.exit(main())
