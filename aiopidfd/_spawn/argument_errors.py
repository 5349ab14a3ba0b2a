"""The errors for what cannot be passed to a program: subprocess's own, and what they are about.

subprocess and asyncio say "expected str, bytes or os.PathLike object, not int", whichever argument
or option that is. Here the same text is followed by its name.
"""

import os
from collections.abc import Iterable
from typing import Any

__all__ = ["blame_argument", "blame_env", "encode", "named", "no_nul", "open_first"]


def encode(value: Any, what: str) -> bytes:
    """The value as the kernel takes it. Raises TypeError and ValueError, see `named`."""
    try:
        return no_nul(os.fsencode(value))
    except (TypeError, ValueError) as exc:
        raise named(exc, what) from None


def no_nul(data: bytes) -> bytes:
    """The data itself. Raises ValueError if it has a NUL inside."""
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data


def named(exc: Exception, what: str) -> Exception:
    """The same error, whose text also tells what it is about."""
    if isinstance(exc, UnicodeEncodeError):
        exc.reason = f"{exc.reason} (for {what})"
        return exc
    return type(exc)(f"{exc.args[0] if exc.args else exc} (for {what})")


def blame_argument(exc: Exception, args: Iterable[Any], first: int = 0) -> Exception:
    """The error of the first argument that cannot be passed on; their numbers begin at `first`."""
    for number, arg in enumerate(args, first):
        try:
            encode(arg, f"argument {number} of the command")
        except (TypeError, ValueError) as culprit:
            if isinstance(arg, (list, tuple)):
                return TypeError(f"{culprit}: pass the arguments one by one, as *args")
            return culprit
    return exc


def blame_env(exc: Exception, env: Any) -> Exception:
    """The error of the first entry of an environment that cannot be passed on."""
    if not hasattr(env, "items"):
        return type(exc)(f"{exc}: env must be a mapping of names to values")
    for name, value in env.items():
        try:
            encode(name, f"the option env, the name {name!r}")
            encode(value, f"the option env, the value of {name!r}")
        except (TypeError, ValueError) as culprit:
            return culprit
        if b"=" in os.fsencode(name):
            return named(exc, f"the option env, {name!r}")
    return exc


def open_first(choice: Any) -> str:
    """The hint for a stdio choice that is a path: shells take one, Python does not."""
    return "; open() the file first" if isinstance(choice, (str, bytes, os.PathLike)) else ""
