"""What the numbers depend on: printed with them."""

import asyncio
import os
import platform
import resource
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version


def describe() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"Linux {platform.release()}, {len(os.sched_getaffinity(0))} CPUs, "
        f"asyncio with {_child_watcher()}, uvloop {_version('uvloop')}"
    )


class Others:
    """How much of the CPUs went to others, the hypervisor's other guests among them."""

    def __init__(self) -> None:
        self._before = _cpu_seconds()

    def describe(self) -> str:
        ours, busy, total = (
            now - before for now, before in zip(_cpu_seconds(), self._before, strict=True)
        )
        share = max(busy - ours, 0) / total if total else 0
        return f"Other processes had {share:.0%} of the CPUs meanwhile."


def _cpu_seconds() -> tuple[float, float, float]:
    """Of this process and its children; of all processes; in all. proc_stat(5)."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    with open("/proc/stat") as file:
        user, nice, system, idle, iowait, irq, softirq, steal = map(
            int, file.readline().split()[1:9]
        )
    tick = os.sysconf("SC_CLK_TCK")
    busy = (user + nice + system + irq + softirq + steal) / tick
    return ours, busy, busy + (idle + iowait) / tick


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
