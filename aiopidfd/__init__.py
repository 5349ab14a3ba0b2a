"""Subprocesses for async Python that nothing else in the process can see, steal or lose.

    import aiopidfd

    process = await aiopidfd.create_subprocess_exec("ls", "-l", stdout=aiopidfd.PIPE)
    result = await aiopidfd.run_process(["git", "status"], text=True, timeout=10)

For code that cannot be changed there are event loops (`EventLoop`, `UvloopEventLoop`, their
policies, `install` for a loop that runs), a child watcher (`PidfdChildWatcher`, up to Python 3.13),
and the await of any process (`wait_pid`, `wait_pidfd`). `aiopidfd.anyio` is for anyio and trio,
`aiopidfd.multiprocessing` for worker processes. `run_in_fork` runs a Python function in a forked
process, `fork` is below it.

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

from ._asyncio.loops import EventLoop, install, uninstall
from ._asyncio.process import (
    BaseProcess,
    Process,
    TextProcess,
    create_subprocess_exec,
    create_subprocess_shell,
)
from ._asyncio.run import run_process
from ._asyncio.run_in_fork import NoResultError, run_in_fork
from ._asyncio.transport import SubprocessTransport
from ._pidfd.info import CoreDump, Ids, ProcessInfo
from ._pidfd.pidfd import NoHandleError, PidFd
from ._pidfd.wait import wait_pid, wait_pidfd
from ._spawn.child import Child, spawn
from ._spawn.fork import fork
from ._spawn.hub import prepare
from ._spawn.kernel import Answer, Kernel, kernel
from ._spawn.options import Command, Options, Stdio
from ._spawn.terminal import PTY
from ._streams.streams import PipeReader, PipeWriter
from ._streams.text import TextReader, TextWriter

if TYPE_CHECKING:
    from . import anyio as anyio
    from . import multiprocessing as multiprocessing
    from ._asyncio.child_watcher import PidfdChildWatcher as PidfdChildWatcher
    from ._asyncio.policies import EventLoopPolicy as EventLoopPolicy
    from ._asyncio.uvloop_loop import UvloopEventLoop as UvloopEventLoop
    from ._asyncio.uvloop_loop import UvloopEventLoopPolicy as UvloopEventLoopPolicy

__all__ = [
    "DEVNULL",
    "PIPE",
    "PTY",
    "STDOUT",
    "Answer",
    "BaseProcess",
    "CalledProcessError",
    "Child",
    "Command",
    "CompletedProcess",
    "CoreDump",
    "EventLoop",
    "Ids",
    "Kernel",
    "NoHandleError",
    "NoResultError",
    "Options",
    "PidFd",
    "PipeReader",
    "PipeWriter",
    "Process",
    "ProcessInfo",
    "Stdio",
    "SubprocessError",
    "SubprocessTransport",
    "TextProcess",
    "TextReader",
    "TextWriter",
    "TimeoutExpired",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "fork",
    "install",
    "kernel",
    "prepare",
    "run_in_fork",
    "run_process",
    "spawn",
    "uninstall",
    "wait_pid",
    "wait_pidfd",
]

__version__ = "0.1.0"

# What needs an extra, or a Python that still has it: imported when it is asked for.
_LATER = {
    "EventLoopPolicy": "_asyncio.policies",
    "PidfdChildWatcher": "_asyncio.child_watcher",
    "UvloopEventLoop": "_asyncio.uvloop_loop",
    "UvloopEventLoopPolicy": "_asyncio.uvloop_loop",
    "anyio": None,
    "multiprocessing": None,
}
_EXTRAS = ("anyio", "uvloop")


def _get_later(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "PidfdChildWatcher" and sys.version_info >= (3, 14):
        # Not an AttributeError, whose text `from aiopidfd import ...` would drop.
        raise ImportError(
            "Python 3.14 has removed child watchers. For invisible children use "
            "loop_factory=aiopidfd.EventLoop; for a child that you made by other means "
            "await aiopidfd.wait_pid(pid)"
        )
    module = import_module(f".{_LATER[name] or name}", __name__)
    return getattr(module, name) if _LATER[name] else module


if not TYPE_CHECKING:  # to a type checker it would say that every name exists

    def __getattr__(name):
        try:
            value = _get_later(name)
        except ModuleNotFoundError as exc:
            if exc.name in _EXTRAS:
                hint = f"aiopidfd.{name} needs {exc.name}: pip install 'aiopidfd[{exc.name}]'"
                raise ModuleNotFoundError(hint, name=exc.name) from None
            raise
        globals()[name] = value
        return value

    def __dir__():
        return [*__all__, *_LATER, "__version__"]
