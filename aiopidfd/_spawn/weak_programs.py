"""What a process has started and still runs: sets of programs that do not keep programs alive."""

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from .program import Program

__all__ = ["RUNNING", "Remaining", "WeakPrograms"]

T = TypeVar("T")


class WeakPrograms:
    """A set of programs that any thread may use. A program that is dropped leaves the set."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        """Make an empty set."""
        self._references: set[weakref.ref[Program]] = set()

    def add(self, program: "Program") -> None:
        """Put a program in."""
        self._references.add(weakref.ref(program, self._references.discard))

    def remove(self, program: "Program") -> bool:
        """Take a program out. Returns True to exactly one caller, whatever other threads do."""
        try:
            self._references.remove(weakref.ref(program))
        except KeyError:
            return False
        return True

    def list(self) -> "list[Program]":
        """The programs in the set now."""
        references = self._references.copy()  # copied in one step, while other threads go on
        return [program for reference in references if (program := reference()) is not None]


class Remaining(Generic[T]):
    """Programs that end one by one. However often one asks, each end is looked at once."""

    def __init__(self, programs: Iterable[T], runs: Callable[[T], bool]) -> None:
        """Take programs, and what tells whether one of them still runs."""
        self._left = [*programs]
        self._runs = runs

    def __bool__(self) -> bool:
        """Whether any of them still runs."""
        while self._left and not self._runs(self._left[-1]):
            self._left.pop()
        return bool(self._left)


# All programs that this process has started, with or without a loop, and whose exit is not known
# yet. In a forked copy they are FOREIGN, so for the copy none of them runs.
RUNNING: Final = WeakPrograms()
