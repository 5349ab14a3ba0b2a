"""CPython's tests of multiprocessing, from the interpreter that runs this, with our workers.

    python -m tools.peers.cpython_multiprocessing

Those of the method "spawn", whose context is ours here; in the workers, too, for they import this.
"""

import multiprocessing
import sys
import unittest

from test._test_multiprocessing import install_tests_in_module_dict

from tools.peers.workers import replace_contexts  # a worker has no package of its main module

_AT_LEAST = 300

replace_contexts("spawn")
multiprocessing.set_start_method("spawn", force=True)
install_tests_in_module_dict(globals(), "spawn")


def main() -> int:
    """Run them; 0 if it is as it should be."""
    from tools.peers.running import run  # not in the workers

    here = [case for case in globals().values() if isinstance(case, type)]
    cases = [case for case in here if issubclass(case, unittest.TestCase)]
    return 0 if run("multiprocessing", cases, at_least=_AT_LEAST) else 1


if __name__ == "__main__":
    sys.exit(main())
