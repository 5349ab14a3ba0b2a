"""What is said about a keyword that a function does not take."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

__all__ = ["refuse"]

# Parameters of subprocess.Popen that are taken at the value that does nothing.
_NOTHING: Final[dict[str, object]] = {"preexec_fn": None, "startupinfo": None, "creationflags": 0}

_REFUSED: Final = {
    "preexec_fn": (
        "preexec_fn is not supported: between clone and exec no Python can run safely. Use the "
        "option for what it does: cwd, umask, user, group, extra_groups, start_new_session, "
        "process_group, restore_signals, rlimits, nice, cpu_affinity, cgroup, "
        "die_with_parent, ... (see aiopidfd.Options)"
    ),
    "startupinfo": "startupinfo is only supported on Windows platforms",
    "creationflags": "creationflags is only supported on Windows platforms",
}

# What people expect of a function that starts a program, and where it is to be found.
_ELSEWHERE: Final = {
    "timeout": "run_process() takes a timeout; asyncio.timeout() and Child.wait() have one too",
    "capture_output": "say stdout=PIPE, stderr=PIPE; run_process() captures the output by default",
    "input": "hand it to communicate(), or to run_process()",
    "check": "run_process() takes it",
    "shell": "a string is a command for the shell, or there is a function of its own for that",
    "text": "create_subprocess_exec(), create_subprocess_shell() and run_process() take it",
    "encoding": "create_subprocess_exec(), create_subprocess_shell() and run_process() take it",
    "errors": "create_subprocess_exec(), create_subprocess_shell() and run_process() take it",
    "limit": "create_subprocess_exec() and create_subprocess_shell() take it",
    "output_limit": "communicate(), run_process() and run_pipeline() take it",
    "on_limit": "communicate(), run_process() and run_pipeline() take it",
    "idle_timeout": "run_process(), run_pipeline() and supervise() take it",
    "on_output": "run_process() and supervise() take it",
    "grace": "what ends the program takes it: aclose(), run_process()",
}

_CLOSE: Final = 0.75  # of two names, as difflib measures it: one letter wrong, or two changed over


def refuse(
    function: Callable[..., object], options: dict[str, Any], known: frozenset[str]
) -> dict[str, Any]:
    """The options without Popen's parameters that were given at the value that does nothing.

    Raises:
        TypeError: a keyword that is not known, with what may have been meant.
        ValueError: another value of such a parameter.
    """
    for name in sorted(options.keys() - known):
        if name not in _NOTHING:
            raise TypeError(
                f"{function.__name__}() got an unexpected keyword argument {name!r}"
                f"{_hint(function, name, known)}"
            )
        if options[name] != _NOTHING[name]:
            raise ValueError(_REFUSED[name])
    return {name: value for name, value in options.items() if name in known}


def _hint(function: Callable[..., object], name: str, known: frozenset[str]) -> str:
    if name in _ELSEWHERE:
        return f": {_ELSEWHERE[name]}"
    parameters = inspect.signature(function).parameters.values()
    takes = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for match in get_close_matches(name, [*takes, *sorted(known), *_ELSEWHERE], 1, _CLOSE):
        if match in takes or match in known:
            return f": did you mean {match!r}?"
        return f": for {match!r}, {_ELSEWHERE[match]}"
    return ""
