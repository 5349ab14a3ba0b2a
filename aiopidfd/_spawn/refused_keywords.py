"""Keywords that are refused, with any value or with all values but one: the errors, and hints."""

import inspect
from collections.abc import Callable
from typing import Any, Final

__all__ = ["refuse", "take_fixed"]

# Parameters of subprocess.Popen that are accepted at their default, which does nothing.
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

_TEXT: Final = (
    "aiopidfd.create_subprocess_exec(), create_subprocess_shell(), run_process(), run_pipeline() "
    "and supervise() take it, and aiopidfd.subprocess does; everywhere else there are bytes, or "
    "what you decode"
)

# What people expect of a function that starts a program, and where to find it.
_ELSEWHERE: Final = {
    "timeout": (
        "run_process() and run_pipeline() take one; around all else put asyncio.timeout() or "
        "anyio.fail_after(), and Child.wait() takes one"
    ),
    "capture_output": (
        "run_process() captures the output by default, and aiopidfd.subprocess.run() takes it; on "
        "a loop stdout=PIPE, stderr=PIPE give you streams"
    ),
    "input": (
        "run_process(), supervise() and aiopidfd.subprocess.run() take it, and on asyncio "
        "Process.communicate()"
    ),
    "check": "run_process() takes it; elsewhere look at returncode",
    "shell": (
        "a command that is one string is run by a shell; run_process() and spawn() take it, and "
        "create_subprocess_shell() always runs one"
    ),
    "text": _TEXT,
    "universal_newlines": f"it is the older name of `text`; {_TEXT}",
    "encoding": _TEXT,
    "errors": _TEXT,
    "bufsize": "leave it out: nothing is buffered on the program's side, and all on ours",
    "limit": "aiopidfd.create_subprocess_exec() and create_subprocess_shell() take it",
    "output_limit": "communicate(), run_process(), run_pipeline() and aiopidfd.subprocess take it",
    "on_limit": "communicate(), run_process(), run_pipeline() and aiopidfd.subprocess take it",
    "idle_timeout": "run_process(), run_pipeline() and supervise() take it",
    "on_output": "run_process() and supervise() take it",
    "grace": (
        "aiopidfd.create_subprocess_exec(), run_process(), supervise() and run_pipeline() take it, "
        "and on asyncio Process.aclose()"
    ),
    "drain": "run_process() takes it, and communicate()",
}

_CLOSE: Final = 0.75  # similarity by difflib: one wrong letter, or two letters swapped


def refuse(
    function: Callable[..., object],
    options: dict[str, Any],
    known: frozenset[str],
    called: str = "",
) -> dict[str, Any]:
    """Return the options without Popen's parameters whose value does nothing.

    `called` is what the error calls the function, if that is not its name.

    Raises:
        TypeError: a keyword that is not known. The text says what may have been meant.
        ValueError: such a parameter has another value.
    """
    for name in sorted(options.keys() - known):
        if name not in _NOTHING:
            raise TypeError(
                f"{called or function.__name__}() got an unexpected keyword argument {name!r}"
                f"{_hint(function, name, known)}"
            )
        if options[name] != _NOTHING[name]:
            raise ValueError(_REFUSED[name])
    return {name: value for name, value in options.items() if name in known}


def take_fixed(options: dict[str, Any], **fixed: object) -> None:
    """Remove from `options` parameters of subprocess.Popen that must not vary, as in asyncio.

    Raises:
        ValueError: another value was given, with asyncio's message.
    """
    for name, allowed in fixed.items():
        value = options.pop(name, allowed)
        if value != allowed and not (value is None and allowed is False):
            raise ValueError(f"{name} must be {allowed}")


def _hint(function: Callable[..., object], name: str, known: frozenset[str]) -> str:
    parameters = inspect.signature(function).parameters.values()
    takes = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if name == "universal_newlines" and "text" in {*takes, *known}:
        return ": it is called 'text' here"
    if name in _ELSEWHERE:
        return f": {_ELSEWHERE[name]}"
    from difflib import get_close_matches  # only an error needs this module

    for match in get_close_matches(name, [*takes, *sorted(known), *_ELSEWHERE], 1, _CLOSE):
        if match in takes or match in known:
            return f": did you mean {match!r}?"
        return f": for {match!r}, {_ELSEWHERE[match]}"
    return ""
