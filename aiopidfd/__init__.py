"""Subprocesses for async Python that nothing else in the process can see, steal or lose.

    import aiopidfd

    process = await aiopidfd.create_subprocess_exec("ls", "-l", stdout=aiopidfd.PIPE)
    result = await aiopidfd.run_process(["git", "status"], text=True, timeout=10)

Each program is started by a guardian, a small process that shares our memory and is itself
invisible: no SIGCHLD, nothing for a foreign `waitpid(-1)`, no status lost to an ignored SIGCHLD.
The exit is delivered by a pidfd, through the event loop's own selector. Linux 5.10 and later.
"""

import sys
from importlib import import_module
from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
)
from typing import TYPE_CHECKING, Any

from .child import Child, spawn
from .exits import wait_pid, wait_pidfd
from .kernel import Answer, Kernel, kernel
from .loops import EventLoop, install, uninstall
from .plan import Options
from .process import (
    Process,
    TextProcess,
    create_subprocess_exec,
    create_subprocess_shell,
)
from .run import run_process
from .streams import PipeReader, PipeWriter
from .text import TextReader, TextWriter
from .transport import SubprocessTransport

if TYPE_CHECKING:
    from . import anyio as anyio
    from . import multiprocessing as multiprocessing
    from .policies import EventLoopPolicy as EventLoopPolicy
    from .policies import UvloopEventLoopPolicy as UvloopEventLoopPolicy
    from .uvloops import UvloopEventLoop as UvloopEventLoop
    from .watcher import PidfdChildWatcher as PidfdChildWatcher

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Answer",
    "CalledProcessError",
    "Child",
    "CompletedProcess",
    "EventLoop",
    "Kernel",
    "Options",
    "PipeReader",
    "PipeWriter",
    "Process",
    "SubprocessError",
    "SubprocessTransport",
    "TextProcess",
    "TextReader",
    "TextWriter",
    "TimeoutExpired",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "install",
    "kernel",
    "run_process",
    "spawn",
    "uninstall",
    "wait_pid",
    "wait_pidfd",
]

__version__ = "0.1.0"

# What needs an extra, or a Python that still has it: imported when it is asked for.
_LATER = {
    "EventLoopPolicy": "policies",
    "PidfdChildWatcher": "watcher",
    "UvloopEventLoop": "uvloops",
    "UvloopEventLoopPolicy": "policies",
}


_SUBPACKAGES = ("anyio", "multiprocessing")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f".{name}", __name__)
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "PidfdChildWatcher" and sys.version_info >= (3, 14):
        # Not an AttributeError, whose text `from aiopidfd import ...` would drop.
        raise ImportError(
            "Python 3.14 has removed child watchers. For invisible children use "
            "loop_factory=aiopidfd.EventLoop; for a child that you made by other means "
            "await aiopidfd.wait_pid(pid)"
        )
    value = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value
