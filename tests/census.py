"""What there is of descriptors and children; without pytest, whose import takes a while."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from aiopidfd import _native


def open_fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the listing's own
            continue
    return found


def child_pids() -> set[int]:
    """All our children, guardians and zombies among them."""
    pids: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            pids.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
        except FileNotFoundError:  # that thread has just ended
            continue
    return pids


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it becomes so. On a busy machine a guardian may be on its way out for a moment."""
    deadline = time.monotonic() + 60
    while not condition():
        _native.sweep()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def childless() -> bool:
    """Whether the guardians are gone, too."""
    return soon(lambda: not child_pids())
