"""What the numbers depend on: printed above them."""

import asyncio
import os
import platform
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version


def describe() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"Linux {platform.release()}, {len(os.sched_getaffinity(0))} CPUs, "
        f"asyncio with {_child_watcher()}, uvloop {_version('uvloop')}"
    )


def _child_watcher() -> str:
    """How asyncio waits for its children here; that decides much of its speed."""
    if sys.version_info >= (3, 14):
        return "its built-in pidfd watcher"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return type(asyncio.get_child_watcher()).__name__


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
