"""What the logger "aiopidfd" tells at DEBUG: each start and each exit. Off, it costs nothing.

Beside its text each record has attributes (the `extra` of `logging`), for formatters that write
JSON, for example: `event`, `pid`, `command`; and at an exit `status`, `seconds`, `rusage`.
"""

import contextvars
import functools
import logging
import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .._pidfd.durations import monotonic

if TYPE_CHECKING:
    from .program import Program

__all__ = ["log_exit", "log_start", "log_unknown", "logger"]

logger: Final = logging.getLogger("aiopidfd")


def log_start(program: "Program") -> None:
    """Log the exec of a program."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    command = _command(program)
    _in_context_of(program, logger.debug)(
        "started pid %d: %s",
        program.pid,
        shlex.join(command),
        extra={"event": "start", "pid": program.pid, "command": command},
    )


def log_exit(program: "Program") -> None:
    """Log how a program has ended."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    command = _command(program)
    seconds = monotonic() - program.begun
    _in_context_of(program, logger.debug)(
        "pid %d has ended with %d after %.3f s: %s",
        program.pid,
        program.returncode,
        seconds,
        shlex.join(command),
        extra={
            "event": "exit",
            "pid": program.pid,
            "command": command,
            "status": program.returncode,
            "seconds": seconds,
            "rusage": program.rusage,
        },
    )


def log_unknown(program: "Program") -> None:
    """Warn that nobody knows how a program has ended."""
    _in_context_of(program, logger.warning)(
        "The guardian of child process pid %d was killed, and nothing tells how the child ended: "
        "will report returncode %d",
        program.pid,
        program.returncode,
    )


def _in_context_of(program: "Program", log: Callable[..., None]) -> Callable[..., None]:
    """To log in the context of the start: a filter may ask there whose request it was."""
    context = program.context or contextvars.Context()
    return functools.partial(context.copy().run, log)  # a copy: it may be entered but once


def _command(program: "Program") -> list[str]:
    return [os.fsdecode(arg) for arg in program.args]
