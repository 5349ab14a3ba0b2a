"""Subprocesses for async Python that nothing else in the process can see, steal or lose.

    import aiopidfd

    process = await aiopidfd.create_subprocess_exec("ls", "-l", stdout=aiopidfd.PIPE)
    result = await aiopidfd.run_process(["git", "status"], text=True, timeout=10)

For code that cannot be changed there are event loops (`EventLoop`, `UvloopEventLoop`, their
policies, and `install` for a loop that already runs), a child watcher (`PidfdChildWatcher`, up to
Python 3.13), and functions that await any process (`wait_pid`, `wait_pidfd`). `aiopidfd.anyio` is
for anyio and trio, `aiopidfd.multiprocessing` for worker processes, and `aiopidfd.subprocess` for
code without a loop. `run_in_fork` runs a Python function in a forked process; it is built on
`fork`. `spawn` starts a program without a loop and returns a `Child`. `running` lists the programs
that run, and `shutdown` ends all programs of a loop.

Each handle to a program has `handle()`, `children()` and `kill_tree()`; `PidFd` is a handle to any
process. `Options` are the same everywhere: `contain=True` leaves nothing behind, and `stdin`,
`stdout` and `stderr` may be `PTY`, a terminal.

Each program is started by a guardian, a small process that shares our memory and is itself
invisible: no SIGCHLD, nothing for a foreign `waitpid(-1)`, no status lost to an ignored SIGCHLD.
The exit is delivered by a pidfd, through the event loop's own selector. Linux 5.10 and later.
"""

import sys
from importlib import import_module

try:
    import_module("._native", __name__)
except ModuleNotFoundError:
    raise ImportError(
        f"the C part of aiopidfd is not built for this Python in {__path__[0]}. In a checkout, "
        f"build it: {sys.executable} -m pip install -e {__path__[0].rpartition('/')[0]}"
    ) from None

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

from ._asyncio.install import install, uninstall
from ._asyncio.loops import EventLoop
from ._asyncio.pipeline import run_pipeline
from ._asyncio.process import (
    BaseProcess,
    Process,
    TextProcess,
    create_subprocess_exec,
    create_subprocess_shell,
)
from ._asyncio.run import run_process
from ._asyncio.supervise import start_in, supervise
from ._asyncio.transport import SubprocessTransport
from ._pidfd.info import CoreDump, Ids, ProcessInfo
from ._pidfd.pidfd import NoHandleError, PidFd
from ._pidfd.wait import wait_pid, wait_pidfd
from ._spawn.fork import fork
from ._spawn.hub_of_each_loop import prepare
from ._spawn.idle_timeout import IdleTimeoutError
from ._spawn.kernel import Answer, Kernel, kernel
from ._spawn.open_terminal import PTY
from ._spawn.options import Command, Options, Stdio
from ._spawn.output_limit import BoundedProcess, OutputLimitError
from ._spawn.pipeline import CompletedPipeline, PipelineError
from ._spawn.spawn import Child, spawn
from ._streams.pipe_reader import PipeReader
from ._streams.pipe_writer import PipeWriter
from ._streams.text import TextReader, TextWriter

if TYPE_CHECKING:
    from . import anyio as anyio
    from . import multiprocessing as multiprocessing
    from . import subprocess as subprocess
    from ._asyncio.child_watcher import PidfdChildWatcher as PidfdChildWatcher
    from ._asyncio.policies import EventLoopPolicy as EventLoopPolicy
    from ._asyncio.run_in_fork import NoResultError as NoResultError
    from ._asyncio.run_in_fork import run_in_fork as run_in_fork
    from ._asyncio.uvloop_loop import UvloopEventLoop as UvloopEventLoop
    from ._asyncio.uvloop_loop import UvloopEventLoopPolicy as UvloopEventLoopPolicy
    from ._spawn.running import RunningProgram as RunningProgram
    from ._spawn.running import running as running
    from ._spawn.shutdown import shutdown as shutdown

# Not the modules anyio, multiprocessing and subprocess: `import *` would hide their namesakes.
__all__ = [
    "DEVNULL",
    "PIPE",
    "PTY",
    "STDOUT",
    "Answer",
    "BaseProcess",
    "BoundedProcess",
    "CalledProcessError",
    "Child",
    "Command",
    "CompletedPipeline",
    "CompletedProcess",
    "CoreDump",
    "EventLoop",
    "EventLoopPolicy",
    "IdleTimeoutError",
    "Ids",
    "Kernel",
    "NoHandleError",
    "NoResultError",
    "Options",
    "OutputLimitError",
    "PidFd",
    "PidfdChildWatcher",
    "PipeReader",
    "PipeWriter",
    "PipelineError",
    "Process",
    "ProcessInfo",
    "RunningProgram",
    "Stdio",
    "SubprocessError",
    "SubprocessTransport",
    "TextProcess",
    "TextReader",
    "TextWriter",
    "TimeoutExpired",
    "UvloopEventLoop",
    "UvloopEventLoopPolicy",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "fork",
    "install",
    "kernel",
    "prepare",
    "run_in_fork",
    "run_pipeline",
    "run_process",
    "running",
    "shutdown",
    "spawn",
    "start_in",
    "supervise",
    "uninstall",
    "wait_pid",
    "wait_pidfd",
]

__version__ = "0.1.0"

# These names are imported when they are first used: they need an extra, or a Python that still has
# what they build on, or a lot of code that few users need.
_LATER = {
    "EventLoopPolicy": "_asyncio.policies",
    "NoResultError": "_asyncio.run_in_fork",
    "PidfdChildWatcher": "_asyncio.child_watcher",
    "RunningProgram": "_spawn.running",
    "UvloopEventLoop": "_asyncio.uvloop_loop",
    "UvloopEventLoopPolicy": "_asyncio.uvloop_loop",
    "anyio": None,
    "multiprocessing": None,
    "run_in_fork": "_asyncio.run_in_fork",
    "subprocess": None,
    "running": "_spawn.running",
    "shutdown": "_spawn.shutdown",
}
_OF_SUBPROCESS = ("Popen", "call", "check_call", "check_output", "getoutput", "run")
_EXTRAS = {"UvloopEventLoop": "uvloop", "UvloopEventLoopPolicy": "uvloop", "anyio": "anyio"}


def _get_later(name: str) -> Any:
    if name == "PidfdChildWatcher" and sys.version_info >= (3, 14):
        # An AttributeError would be wrong: `from aiopidfd import ...` would drop its text.
        raise ImportError(
            "Python 3.14 has removed child watchers. For invisible children use "
            "loop_factory=aiopidfd.EventLoop; for a child that you made by other means "
            "await aiopidfd.wait_pid(pid)"
        )
    try:
        module = import_module(f".{_LATER[name] or name}", __name__)
    except ModuleNotFoundError as exc:
        if exc.name != _EXTRAS.get(name):
            raise
        hint = f"aiopidfd.{name} needs {exc.name}: pip install 'aiopidfd[{exc.name}]'"
        raise ModuleNotFoundError(hint, name=exc.name) from None
    return getattr(module, name) if _LATER[name] else module


if not TYPE_CHECKING:  # A type checker would conclude from this that every name exists.
    _names = __all__
    del __all__

    def _names_here():
        """The names that `from aiopidfd import *` imports: only those that are available."""
        from importlib.util import find_spec

        absent = {name for name, extra in _EXTRAS.items() if find_spec(extra) is None}
        if sys.version_info >= (3, 14):
            absent.add("PidfdChildWatcher")
        return [name for name in _names if name not in absent]

    def __getattr__(name):
        if name == "__all__":
            return _names_here()
        if name not in _LATER:
            hint = f": {__name__}.subprocess has one" if name in _OF_SUBPROCESS else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        value = _get_later(name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*_names, *_LATER, "__version__"})
