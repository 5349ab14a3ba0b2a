"""What the logger "aiopidfd" tells at DEBUG: each start and each exit. Off, it costs nothing.

Beside its text each record has attributes (the `extra` of `logging`), for formatters that write
JSON, for example: `event`, `pid`, `command`; and at an exit `status`, `seconds`, `rusage`.
"""

import contextvars
import logging
import os
import shlex
from typing import TYPE_CHECKING, Any, Final

from .._pidfd.durations import monotonic

if TYPE_CHECKING:
    from .program import Program

__all__ = ["log_exit", "log_start", "logger"]

logger: Final = logging.getLogger("aiopidfd")


def log_start(program: "Program") -> None:
    """Log the exec of a program."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    command = _command(program)
    _say(
        program,
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
    _say(
        program,
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


def _say(program: "Program", text: str, *args: object, extra: dict[str, Any]) -> None:
    """Log it in the context of the start: a filter may ask there whose request it was."""
    context = program.context or contextvars.Context()
    context.copy().run(logger.debug, text, *args, extra=extra)  # the same one is entered only once


def _command(program: "Program") -> list[str]:
    return [os.fsdecode(arg) for arg in program.args]
