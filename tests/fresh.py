"""Run a piece of Python in an interpreter of its own: for what ends, execs or limits a process."""

import subprocess
import sys
import textwrap
from pathlib import Path

dedent = textwrap.dedent
ROOT = Path(__file__).parent.parent

PRELUDE = """
import asyncio, contextlib, ctypes, errno, os, pathlib
import resource, select, signal, sys, threading, time
sys.path.insert(0, {root!r})
import aiopidfd
from aiopidfd import _native
from tests import hosts, seccomp
from tests.census import child_pids, childless, open_fds
from tests.starting import begin
libc = ctypes.CDLL(None, use_errno=True)
read = lambda path: pathlib.Path(path).read_text()
"""


def command(code: str, first: str = "") -> list[str]:
    """The command line that runs `code` with the usual imports in place; warnings are errors.

    `first` comes before those imports.
    """
    prelude = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{first}{PRELUDE.format(root=str(ROOT))}"
    )
    return [sys.executable, "-W", "error", "-c", prelude + textwrap.dedent(code)]


def run(code: str, *wrapper: str, first: str = "") -> str:
    """Run it, under `wrapper` if given; returns what it printed. Fails if it fails."""
    result = subprocess.run(
        [*wrapper, *command(code, first)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.stderr == "", result.stderr
    return result.stdout
