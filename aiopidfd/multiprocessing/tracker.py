"""multiprocessing's resource tracker: the one helper process of its own that the workers need.

It cleans up semaphores and shared memory when all of us are gone. multiprocessing would start it as
an ordinary child that everybody in the process can see.
"""

import os
import signal
import subprocess
import sys
from multiprocessing import resource_tracker, spawn
from typing import Any

from ..child import Child
from ..child import spawn as spawn_child

__all__ = ["tracker_fd"]

_KEPT_OUT = {signal.SIGINT, signal.SIGTERM}  # until it has set them up itself

_child: Child | None = None


def tracker_fd() -> int:
    """The descriptor that workers tell the tracker by. Starts it, invisible, if nobody has yet."""
    global _child
    tracker: Any = resource_tracker._resource_tracker  # the one that its functions are bound to
    with tracker._lock:
        if tracker._fd is None:
            read, write = os.pipe()
            try:
                _child = _start(read)
            except BaseException:
                os.close(write)
                raise
            finally:
                os.close(read)
            tracker._fd = write
            tracker._pid = None  # no child for multiprocessing to wait for, as in a worker
    return tracker.getfd()  # type: ignore[no-any-return]


def _start(read: int) -> Child:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    code = f"from multiprocessing.resource_tracker import main;main({read})"
    passed = [read]
    if sys.stderr is not None:
        passed.append(sys.stderr.fileno())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT_OUT)
    try:
        return spawn_child(
            [spawn.get_executable(), *flags, "-c", code],
            pass_fds=passed,
            restore_signals=False,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
