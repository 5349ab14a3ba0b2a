"""multiprocessing's resource tracker: the one helper process of its own that the workers need.

It cleans up semaphores and shared memory when this process and its workers are gone.
multiprocessing would start it as an ordinary child that everything in the process can see.
"""

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from multiprocessing import resource_tracker, spawn
from typing import Any

from .. import _native
from .._spawn.fds_above_stdio import pipe_above_stdio
from .._spawn.spawn import Child
from .._spawn.spawn import spawn as spawn_child

__all__ = ["tracker_fd"]

_KEPT_OUT = {signal.SIGINT, signal.SIGTERM}  # blocked until the tracker has set its handlers

_child: Child | None = None


def tracker_fd() -> int:
    """The descriptor by which workers talk to the tracker. Starts it, invisibly, if none runs yet.

    If the tracker was killed it is started again, with multiprocessing's own warning.
    """
    global _child
    tracker: Any = resource_tracker._resource_tracker  # its functions are bound to this one
    with tracker._lock:
        died = tracker._pid is None and tracker._fd is not None and _is_broken(tracker._fd)
        if died:
            with contextlib.suppress(OSError):  # the host may have closed it
                os.close(tracker._fd)
            tracker._fd = None
        if tracker._fd is None:
            read, write = pipe_above_stdio()
            try:
                _child = _start(read)
            except BaseException:
                os.close(write)
                raise
            finally:
                os.close(read)
            tracker._fd = write
            tracker._pid = None  # as in a worker: multiprocessing has no child to wait for
    if died:
        warnings.warn(
            "resource_tracker: process died unexpectedly, relaunching.  Some resources might leak.",
            stacklevel=3,
        )
    return tracker.getfd()  # type: ignore[no-any-return]


def _is_broken(write: int) -> bool:
    """Whether nobody holds the other end of the pipe, or the pipe was closed here."""
    return _native.is_hung_up(write)


def _start(read: int) -> Child:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    code = f"from multiprocessing.resource_tracker import main;main({read})"
    passed = [read]
    # It may be None, closed here or in the kernel, or an object of the host that is not a file.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        fd = sys.stderr.fileno()
        os.fstat(fd)
        passed.append(fd)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _KEPT_OUT)
    try:
        return spawn_child(
            [spawn.get_executable(), *flags, "-c", code],
            pass_fds=passed,
            restore_signals=False,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
