"""`shutdown`: all programs of a loop are ended at once. For asyncio and trio."""

import contextlib
import errno
from typing import Final

from .._pidfd.any_loop import check_loop, now, shielded, sleep
from .._pidfd.durations import Deadline, check_seconds
from .end_with_grace import ask_tree, warn_of_the_rest
from .hub_of_each_loop import Hub, known_hub
from .program import FINAL, Program
from .tree import KILL_DEADLINE, Tree, is_held, kill_now

__all__ = ["kill_all", "shutdown"]

GRACE: Final = 5.0  # seconds

# Seconds between two looks at what is left. The first looks come soon: most programs end at once.
_SOON: Final = 0.002
_LOOK_AGAIN: Final = 0.05

_HEARD: Final = 1.0  # seconds that sinks have for what the programs have written


async def shutdown(*, grace: float = GRACE) -> bool:
    """End all programs of the running loop, and all that they have started, and reap them.

    All get SIGTERM at once, and have `grace` seconds together; what is left then gets SIGKILL. This
    works on any asyncio loop and on trio. Until it returns, nothing new can be started on this
    loop: an attempt raises RuntimeError. A start that is under way is waited for, and then ended as
    well.

    The programs of a loop are those that were started on it by any function of this package or of
    asyncio (see `install`), and the processes of `run_in_fork`. With `aiopidfd.anyio`, a program
    that another loop has waited for since belongs to that other loop. What `spawn`, `fork` and
    multiprocessing have started belongs to no loop and is left alone.

    What the programs have written by then still goes to the sinks of `run_process` and others, and
    is waited for, for a second at most.

    If the call is cancelled, it kills all that is left at once, reaps it, and ends within seconds.

    Args:
        grace: seconds between SIGTERM and SIGKILL; 0 kills at once.

    Returns:
        Whether nothing is left. A process in uninterruptible sleep is left after 5 more seconds; it
        dies when it wakes.

    Raises:
        PermissionError: some may not be signalled (kill(2)); all others were ended.
        RuntimeError: no loop runs here.
        TypeError, ValueError: `grace` is not a number of seconds.
    """
    check_seconds(grace=grace)
    check_loop("shutdown()", "what was started without one is ended by its kill_tree()")
    hub = known_hub()
    if hub is None:  # nothing was ever started on this loop
        await sleep(0)
        return True
    ending = _Ending(hub)
    with hub.closed():
        try:
            if grace > 0:
                await ending.ask(grace)
            is_over = await ending.kill()
            await ending.hear()
        except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
            ending.kill_now()
            raise
        except BaseException:
            ending.kill_now()
            await shielded(ending.kill, KILL_DEADLINE)
            raise
    if ending.denied:
        pids = ", ".join(str(program.pid) for program in ending.denied)
        raise PermissionError(
            errno.EPERM,
            f"part of the trees of some programs may not be signalled (kill(2)): {pids}",
        )
    return is_over


def kill_all(hub: Hub) -> None:
    """SIGKILL all programs of a loop and their trees, where nothing can be awaited."""
    _Ending(hub).kill_now()


class _Ending:
    """The programs of one loop while they are being ended.

    No descriptor is held between two steps, so hundreds of programs can be ended where hundreds of
    descriptors are not available.

    Attributes:
        denied: the programs whose tree has a process that we may not signal. They are not waited
            for.
    """

    def __init__(self, hub: Hub) -> None:
        self.denied: set[Program] = set()
        self._hub = hub
        self._left: set[Program] = set(hub.trees.list())

    async def ask(self, grace: float) -> None:
        """SIGTERM to all. Then wait until nothing is left, for `grace` seconds at most."""
        deadline = Deadline(grace, now)
        asked: set[Program] = set()
        pause = _SOON
        while True:
            for program in self._look() - asked:
                if program.pid:  # else it is being started: it is asked later, when it runs
                    asked.add(program)
                    self._ask(program)
                await sleep(0)
            if self._is_over() or deadline.past:
                return
            await sleep(min(pause, deadline.left))
            pause = min(2 * pause, _LOOK_AGAIN)

    async def kill(self) -> bool:
        """SIGKILL all that is left until nothing is. Returns whether that took only seconds."""
        deadline = Deadline(KILL_DEADLINE, now)
        killed: set[Program] = set()
        while True:
            before = now()
            for program in self._look() - killed:
                killed.add(program)
                kill_now(program)
                await sleep(0)
            if self._is_over():
                return True
            for program in [*self._left]:
                self._kill_once(program, late=deadline.past)
            if deadline.past:
                return False
            await sleep(max(_SOON, now() - before))  # other tasks get half of the time

    async def hear(self) -> None:
        """Wait until the sinks have got what the programs have written, but not for ever."""
        deadline = Deadline(_HEARD, now)
        while self._hub.carriers and not deadline.past:
            await sleep(_SOON)

    def kill_now(self) -> None:
        """SIGKILL all that is left now."""
        for program in self._look():
            kill_now(program)

    def _look(self) -> set[Program]:
        """What is left, and what was started meanwhile: a start may have been under way."""
        running = self._hub.programs.copy()  # in one step, while other threads go on
        ours = {*self._hub.known.list(), *running.values()}
        self._left = {
            program for program in self._left | ours if not self._is_gone(program)
        } - self.denied
        return self._left

    def _is_over(self) -> bool:
        return not self._look() and not self._hub.is_starting

    def _is_gone(self, program: Program) -> bool:
        """Whether nothing of the program is left, and everybody who waits for it has been told."""
        if (
            program.advance() not in FINAL
            or self._hub.has_listener(program.native)
            or is_held(program)
        ):
            return False
        program.reap_guardian()
        return True

    def _ask(self, program: Program) -> None:
        try:
            with Tree(program) as tree:
                ask_tree(program, tree)
        except ProcessLookupError:  # the program has just ended
            pass
        except PermissionError:
            self.denied.add(program)
        except OSError as exc:
            warn_of_the_rest(program.pid, exc)
            with contextlib.suppress(OSError):
                program.terminate()

    def _kill_once(self, program: Program, late: bool) -> None:
        """One step of many. `late` means that what we may not signal will not end any more."""
        try:
            with Tree(program) as tree:
                signalled, denied = tree.kill_once()
        except OSError:  # it is gone; or its tree cannot be found, and only it was killed
            return
        if denied and (late or not signalled):
            self.denied.add(program)
