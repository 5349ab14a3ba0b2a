"""The command: see the package."""

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def fetch(name: str, scratch: Path) -> Path:
    """The unpacked source distribution of the installed version of a package."""
    target = scratch / name
    # Nothing but this one from source: what it is built with may come as wheels.
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-binary", name, "--dest", str(target)]
    subprocess.run([*pip, *options, f"{name}=={version(name)}"], check=True)
    (archive,) = target.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    (folder,) = (path for path in target.iterdir() if path.is_dir())
    return folder


def run(*arguments: str, cwd: Path = ROOT) -> bool:
    """Run Python with this project's folder in its path; whether it ended well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return not subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment).returncode


def cpython(scratch: Path) -> bool:
    """CPython's test_subprocess, and what test_events has about subprocesses."""
    del scratch
    return run("-m", "tools.peers.cpython")


def cpython_subprocess(scratch: Path) -> bool:
    """CPython's test.test_subprocess."""
    del scratch
    return run("-m", "tools.peers.cpython_subprocess")


def cpython_loops(scratch: Path) -> bool:
    """The rest of CPython's test_events, and its test_unix_events."""
    del scratch
    return run("-m", "tools.peers.cpython_loops")


def uvloop(scratch: Path) -> bool:
    """uvloop's tests of processes, pipes and signals."""
    return run("-m", "tools.peers.uvloop_sdist", str(fetch("uvloop", scratch)))


def anyio(scratch: Path) -> bool:
    """anyio's subprocess tests."""
    pytest = ("-m", "pytest", "-q", "-p", "tools.peers.anyio_plugin")
    return run(*pytest, "tests/test_subprocesses.py", cwd=fetch("anyio", scratch))


def trio(scratch: Path) -> bool:
    """trio's subprocess tests."""
    options = ["-q", "-W", "error", "-c", os.devnull, "--rootdir", "."]
    for plugin in ("no:asyncio", "trio._tests.pytest_plugin", "tools.peers.trio_plugin"):
        options += ["-p", plugin]
    tests = ("--pyargs", "trio._tests.test_subprocess")
    return run("-m", "pytest", *options, *tests, cwd=scratch)


def cpython_futures(scratch: Path) -> bool:
    """CPython's test_concurrent_futures, with our workers."""
    del scratch
    return run("-m", "tools.peers.cpython_futures")


def cpython_multiprocessing(scratch: Path) -> bool:
    """CPython's test_multiprocessing_spawn, with our workers."""
    del scratch
    return run("-m", "tools.peers.cpython_multiprocessing")


def shellous(scratch: Path) -> bool:
    """The examples of shellous's README."""
    return run("-m", "tools.peers.shellous_readme", str(fetch("shellous", scratch)))


# Each of these takes a minute at most, where nothing else runs.
SHORT: dict[str, Callable[[Path], bool]] = {
    "cpython": cpython,
    "loops": cpython_loops,
    "subprocess": cpython_subprocess,
    "uvloop": uvloop,
    "anyio": anyio,
    "trio": trio,
    "shellous": shellous,
}
LONG: dict[str, Callable[[Path], bool]] = {
    "futures": cpython_futures,
    "multiprocessing": cpython_multiprocessing,
}
PEERS = SHORT | LONG


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=", ".join([*PEERS, "all"]))
    peers = parser.parse_args().peers or [*SHORT]
    if peers == ["all"]:
        peers = [*PEERS]
    if unknown := [peer for peer in peers if peer not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    failed = []
    for peer in peers:
        with tempfile.TemporaryDirectory() as scratch:
            if not PEERS[peer](Path(scratch)):
                failed.append(peer)
    print(f"failed: {', '.join(failed)}" if failed else "all as it should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
