"""What an argument must be: the checks that all floors share."""

from typing import Any, Final, Protocol, TypeGuard

__all__ = [
    "MAX_INT",
    "HasFileno",
    "flag",
    "in_range",
    "integer",
    "is_number",
    "not_a_number",
    "pair",
]

MAX_INT: Final = 2**31 - 1  # of C


class HasFileno(Protocol):
    """A file, a socket, or another object that has a descriptor."""

    def fileno(self) -> int:
        """The object's descriptor."""


def is_number(value: object) -> TypeGuard[int]:
    """Whether it is an integer but not a bool: True is no user, no descriptor and no limit."""
    return isinstance(value, int) and not isinstance(value, bool)


def not_a_number(name: str, value: object, hint: str = "") -> TypeError:
    """The error for what is no integer. A process is none, and has all that is needed itself."""
    if hasattr(value, "wait"):
        hint = "call its own wait(); and PidFd.from_process() makes a handle to a process"
    text = f"{name} must be an integer, not {type(value).__name__}"
    return TypeError(f"{text}: {hint}" if hint else text)


def integer(name: str, value: Any) -> int:
    """An option that is an int of C. Raises TypeError, OverflowError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if not -MAX_INT - 1 <= value <= MAX_INT:
        raise OverflowError(f"{name} does not fit into a C int: {value}")
    return value


def in_range(name: str, value: Any, least: int, most: int) -> int:
    """An integer between two others. Raises TypeError and ValueError."""
    if not is_number(value):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be between {least} and {most}, not {value}")
    return value


def flag(name: str, value: Any) -> bool:
    """An option that is on or off: "no" is neither, though Python takes it for true."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return bool(value)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Two integers, from a tuple or a list. Raises TypeError."""
    if isinstance(value, (tuple, list)) and [is_number(part) for part in value] == [True] * 2:
        return value[0], value[1]
    raise TypeError(f"{name} must be a pair of integers, not {value!r}")
