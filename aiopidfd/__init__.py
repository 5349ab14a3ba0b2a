"""Subprocesses for async Python that nothing else in the process can see, steal or lose.

    import aiopidfd

    process = await aiopidfd.create_subprocess_exec("ls", "-l", stdout=aiopidfd.PIPE)
    result = await aiopidfd.run_process(["git", "status"], text=True, timeout=10)

Each program is started by a guardian, a small process that shares our memory and is itself
invisible: no SIGCHLD, nothing for a foreign `waitpid(-1)`, no status lost to an ignored SIGCHLD.
The exit is delivered by a pidfd, through the event loop's own selector. Linux 5.10 and later.
"""

from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
)

from .child import Child, spawn
from .kernel import Answer, Kernel, kernel
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

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Answer",
    "CalledProcessError",
    "Child",
    "CompletedProcess",
    "Kernel",
    "Options",
    "PipeReader",
    "PipeWriter",
    "Process",
    "SubprocessError",
    "TextProcess",
    "TextReader",
    "TextWriter",
    "TimeoutExpired",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "kernel",
    "run_process",
    "spawn",
]

__version__ = "0.1.0"
