"""What a process has started and still runs: sets of programs that keep none of them alive."""

import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .program import Program

__all__ = ["RUNNING", "WeakPrograms"]


class WeakPrograms:
    """A set of programs that may be used from any thread. A program that is dropped leaves it."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        """Empty."""
        self._references: set[weakref.ref[Program]] = set()

    def add(self, program: "Program") -> None:
        """Put a program in."""
        self._references.add(weakref.ref(program, self._references.discard))

    def remove(self, program: "Program") -> bool:
        """Take a program out. True for the one caller that did so, whatever other threads do."""
        try:
            self._references.remove(weakref.ref(program))
        except KeyError:
            return False
        return True

    def list(self) -> "list[Program]":
        """Those that are in it now."""
        references = self._references.copy()  # one step, while other threads go on
        return [program for reference in references if (program := reference()) is not None]


# All programs that this process has started, with a loop or without one, and whose exit it has not
# heard of. In a forked copy they are FOREIGN, and so none of them runs as far as that is concerned.
RUNNING: Final = WeakPrograms()
