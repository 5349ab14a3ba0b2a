"""`running`: the programs that this process has started and that still run."""

from .handle import Handle
from .program import FINAL, Program
from .weak_programs import RUNNING

__all__ = ["RunningProgram", "running"]


class RunningProgram(Handle):
    """A program that this process has started and that ran when `running` was called.

    It has what each handle has (`pid`, `args`, `returncode`, `send_signal`, `children`,
    `terminate_tree`, ...), but no streams and no wait, which belong to whoever started the program.
    Dropping it does nothing to the program.
    """

    __slots__ = ("_program",)

    def __init__(self, program: Program) -> None:
        """Internal: `running` makes these objects."""
        self._program = program

    @property
    def started(self) -> float:
        """When its start was begun, in seconds since the epoch, as `time.time()` tells them."""
        return self._program.started


def running() -> list[RunningProgram]:
    """The programs that this process has started by this package and that run now, oldest first.

    These are the programs of all loops and of none: those of `create_subprocess_exec`,
    `run_process`, `spawn`, `aiopidfd.anyio`, `aiopidfd.subprocess` and of asyncio's own functions
    (see `install`), workers of `aiopidfd.multiprocessing` and their resource tracker, and processes
    of `fork` and `run_in_fork`. A program is in the list from its exec until its exit. It leaves
    the list earlier if nothing is left that could tell of its exit: its handle was dropped, and it
    was started without a loop or its loop is closed.

    This may be called from any thread. In a forked copy of this process the list is empty: the
    programs belong to the original process.
    """
    found = [
        program
        for program in RUNNING.list()
        if program.native.pid and program.advance() not in FINAL
    ]
    return [RunningProgram(program) for program in sorted(found, key=lambda one: one.begun)]
