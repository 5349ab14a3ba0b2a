"""What is said where the native part was not built, or cannot be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiopidfd

ROOT = Path(__file__).parents[2]
if not (ROOT / "setup.py").exists():
    pytest.skip("what builds the package is not here", allow_module_level=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing was built."""
    folder = tmp_path / "checkout"
    shutil.copytree(
        Path(aiopidfd.__file__).parent,
        folder / "aiopidfd",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def python(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# -S: what is installed beside the checkout is not seen.
@pytest.mark.parametrize("arguments", [("-S", "-c", "import aiopidfd"), ("-S", "-m", "aiopidfd")])
def test_a_checkout_that_was_not_built_says_how_to_build_it(
    checkout: Path, arguments: tuple[str, ...]
) -> None:
    result = python(checkout, *arguments)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"ImportError: the C part of aiopidfd is not built for this Python in {checkout}/aiopidfd. "
        f"In a checkout, build it: {os.path.normpath(sys.executable)} -m pip install -e {checkout}"
    )


def build(checkout: Path, before: str = "", **env: str) -> str:
    """The last line of a build that must fail; `before` runs in the same interpreter first."""
    pytest.importorskip("setuptools")
    run = "import sys, runpy; sys.argv = ['setup.py', 'build_clib']; runpy.run_path('setup.py')"
    result = python(checkout, "-c", f"{before}\n{run}", **env)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_without_a_compiler(checkout: Path) -> None:
    assert build(checkout, CC="no-such-compiler -pthread") == (
        "aiopidfd cannot be built: the C compiler 'no-such-compiler' is missing "
        "(Debian: apt install gcc)"
    )


def test_without_python_s_headers(checkout: Path) -> None:
    before = "import sysconfig; sysconfig.get_path = lambda *names: '/nowhere'"
    assert build(checkout, before, CC=sys.executable) == (  # some program that is there
        "aiopidfd cannot be built: Python's headers (Python.h) are missing "
        "(Debian: apt install python3-dev)"
    )


def test_on_another_system(checkout: Path) -> None:
    before = """
import sys, platform
from setuptools.command.build_clib import build_clib
initialize = build_clib.initialize_options
def elsewhere(self):
    sys.platform = "darwin"
    initialize(self)
build_clib.initialize_options = elsewhere
platform.system = lambda: "Darwin"
"""
    assert build(checkout, before) == (
        "aiopidfd cannot be built: it needs Linux, and this is Darwin"
    )
