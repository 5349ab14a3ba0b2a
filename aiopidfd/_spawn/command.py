"""A command: its arguments as bytes, and the files that its program's name may mean.

The messages of errors that subprocess has too are those of subprocess.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from .argument_errors import blame_argument, encode, no_nul
from .options import Command, Env, StrOrBytesPath

__all__ = ["check_command", "is_shell_command", "read_command"]


_SHELL: Final = "/bin/sh"


def read_command(
    command: Command,
    shell: bool,
    executable: StrOrBytesPath | None,
    cwd: StrOrBytesPath | None,
    env: Env | None,
) -> tuple[StrOrBytesPath, list[StrOrBytesPath], tuple[bytes, ...], tuple[bytes, ...]]:
    """What a command means. The audit event of subprocess is raised, too.

    Args:
        command: one string or path, or a sequence of them.
        shell: whether `/bin/sh -c` runs it.
        executable: what is executed in place of the first argument, or as the shell.
        cwd, env: the options.

    Returns:
        What is executed, for errors; the arguments; the files that are tried, in this order; the
        arguments as the kernel takes them.

    Raises:
        TypeError, ValueError: bad arguments, with subprocess's own messages.
    """
    args = _list_arguments(command, shell)
    if shell:
        args = [_SHELL if executable is None else executable, "-c", *args]
    executed = args[0] if executable is None else executable
    sys.audit("subprocess.Popen", executed, args, cwd, env)
    file = None if executable is None else encode(executable, "the option executable")
    argv = _encode_arguments(args, shell)
    return executed, args, _search(argv[0] if file is None else file, env), argv


def is_shell_command(command: Command) -> bool:
    """Whether a shell runs the command, where the caller has not said: a string is for the shell.

    Raises:
        ValueError: the string is empty. A shell would do nothing, and say that all is well.
    """
    if not isinstance(command, (str, bytes)):
        return False
    if not command.strip():
        raise ValueError("the command is empty")
    return True


def check_command(command: Command, shell: bool) -> None:
    """Refuse a command that `make_plan` would refuse. Raises TypeError and ValueError."""
    _encode_arguments(_list_arguments(command, shell), False)


def _encode_arguments(args: Sequence[StrOrBytesPath], shell: bool) -> tuple[bytes, ...]:
    """The arguments as the kernel takes them. Raises TypeError and ValueError that name one."""
    try:
        return tuple([no_nul(os.fsencode(arg)) for arg in args])
    except (TypeError, ValueError) as exc:
        raise blame_argument(exc, args, -2 if shell else 0) from None


def _list_arguments(command: Command, shell: bool) -> list[StrOrBytesPath]:
    """The arguments of a command, or the one string of a shell's. Raises TypeError, ValueError."""
    if isinstance(command, (str, bytes)):
        return [command]
    if isinstance(command, (list, tuple)):  # as a rule; to ask for the others takes a while
        return _not_empty(command)
    if isinstance(command, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        return [command]
    # Popen takes any iterable; of these the order or the meaning would be lost.
    if isinstance(command, (bytearray, memoryview, AbstractSet, Mapping)) or not isinstance(
        command, Iterable
    ):
        kind = type(command).__name__
        raise TypeError(f"the command must be a string, bytes, a path or a sequence, not {kind}")
    return _not_empty(command)


def _not_empty(command: Iterable[StrOrBytesPath]) -> list[StrOrBytesPath]:
    args = list(command)
    if not args:
        raise ValueError("the command is empty")
    return args


def _search(name: bytes, env: Env | None) -> tuple[bytes, ...]:
    """The files that a program's name may mean, in the order in which they are tried."""
    return (name,) if b"/" in name else _candidates(name, _path(env))


def _path(env: Env | None) -> bytes | None:
    """The search path that os.get_exec_path() would find; that function takes ten times as long."""
    if env is None:
        return os.environb.get(b"PATH")
    values: list[StrOrBytesPath] = []
    names: tuple[Any, Any] = ("PATH", b"PATH")
    for name in names:
        with contextlib.suppress(KeyError, TypeError):  # TypeError: its keys are of the other type
            values.append(env[name])
    if len(values) > 1:
        raise ValueError("env cannot contain 'PATH' and b'PATH' keys")
    return encode(values[0], "the option env, the value of 'PATH'") if values else None


@functools.lru_cache(maxsize=32)
def _candidates(name: bytes, path: bytes | None) -> tuple[bytes, ...]:
    """The files that a program's name may mean, in the order of the search."""
    return tuple([prefix + name for prefix in _path_prefixes(path)])


@functools.lru_cache(maxsize=8)
def _path_prefixes(path: bytes | None) -> tuple[bytes, ...]:
    """What the name of a program is appended to in the search."""
    entries = os.fsencode(os.defpath if path is None else path).split(b":")
    return tuple(no_nul(os.path.join(entry, b"")) for entry in entries)
