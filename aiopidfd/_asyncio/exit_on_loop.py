"""A program bound to an asyncio loop: the loop's own selector tells the news of the program.

The loop's hub holds the watch until the program has exited, so a program whose handle was dropped
is still reaped. A watch uses only `add_reader`, `call_later` and futures of the loop, which
asyncio's loops, uvloop's and others have in common.
"""

import asyncio
import weakref
from collections.abc import Callable
from typing import Final

from .. import _native
from .._pidfd.durations import monotonic
from .._pidfd.wait import PATIENCE
from .._spawn.hub_of_each_loop import Hub
from .._spawn.program import FINAL, Program
from .._spawn.tree import kill_now

__all__ = ["Watch"]

_GUARDIAN_ENDS: Final = 2_000_000  # nanoseconds: the longest wait for a guardian's end


class Watch:
    """Waits on a loop for a program's start and for its exit.

    Attributes:
        program: what is watched. Its `returncode` is set by the time the exit callbacks run.
        keep: what must live while the program runs, such as the pipes of a dropped handle.
    """

    __slots__ = (
        "_exit",
        "_hub",
        "_look_at",
        "_loop",
        "_patience",
        "_started",
        "_state",
        "keep",
        "program",
    )

    def __init__(self, program: Program, loop: asyncio.AbstractEventLoop, hub: Hub) -> None:
        """Begin to watch a program that is STARTING and was made for this hub of this loop."""
        self.program: Program = program
        self.keep: object = None
        self._loop = loop
        self._started: asyncio.Future[None] | None = loop.create_future()
        self._exit: list[Callable[[], object]] = []
        self._state = _native.STARTING
        self._patience = 0.001
        self._look_at = 0.0  # when a timer will call us, by our clock
        self._hub = weakref.ref(hub)  # weak: the loop holds the hub, and the hub holds us
        hub.listen(program.native, self._on_news)

    async def started(self) -> None:
        """Wait for the exec. May be called once only.

        A cancelled wait kills a program that is still being started. If the exec has succeeded but
        the loop has not heard of it yet, the program is `alive` afterwards and belongs to the
        caller.

        Raises:
            OSError: the start failed; everything of it is cleaned up.
        """
        assert self._started is not None
        try:
            await self._started
        except asyncio.CancelledError:
            self._on_news()
            if self._state == _native.STARTING:
                # The guardian kills the program even if this loop never runs again. Usually that
                # takes a millisecond, and then nothing is left. If the exec hangs, we do not wait
                # for it.
                self.program.abandon()
                await self.exited(timeout=1.0)
                self.program.reap_guardian()
            raise
        except GeneratorExit:  # the coroutine was closed
            kill_now(self.program)
            raise
        finally:
            self._started = None  # the error's traceback would hold this object

    def on_exit(self, callback: Callable[[], object]) -> None:
        """Call `callback` from the loop when the program has exited; soon, if it has already."""
        if self._state in FINAL:
            self._loop.call_soon(callback)
        else:
            self._exit.append(callback)

    def forget_exit(self, callback: Callable[[], object]) -> None:
        """Do not call `callback`, if it was not called yet."""
        if callback in self._exit:
            self._exit.remove(callback)

    async def exited(self, *, timeout: float | None = None) -> bool:
        """Wait for the exit, at most `timeout` seconds. Returns whether the program has exited."""
        if not self.alive:
            return True
        waiter: asyncio.Future[bool] = self._loop.create_future()

        def wake(result: bool) -> None:
            if not waiter.done():
                waiter.set_result(result)

        def callback() -> None:
            wake(True)

        self._exit.append(callback)
        timer = None if timeout is None else self._loop.call_later(timeout, wake, False)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            self.forget_exit(callback)

    async def returncode(self) -> int:
        """Wait for the exit. Returns the return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        await self.exited()
        if self.program.returncode is None:
            raise self.program.failure()
        return self.program.returncode

    @property
    def over(self) -> bool:
        """Whether the program has exited, or never started."""
        return self._state in FINAL

    @property
    def alive(self) -> bool:
        """Whether the program still runs, and this process has started it (no forked copy has)."""
        return not self.over and self.program.native.state != _native.FOREIGN

    def _on_news(self) -> None:
        # A signal may raise its exception anywhere, so the state is stored only after all were
        # told.
        before, state = self._state, self.program.advance()
        if state == before:
            if state in FINAL:
                self._tell_exit()  # an exception has come between
            elif state == _native.ORPHANED and self.program.has_exited():
                self._wait_for_reaper()
            return
        started = self._started
        if started is not None and not started.done() and state != _native.DYING:
            if state in (_native.FAILED, _native.FOREIGN):
                started.set_exception(self.program.failure())
            else:
                started.set_result(None)
        if state in FINAL:
            self.program.native.close()
            # The guardian usually ends within microseconds, so its exit needs no turn of the loop.
            self.program.native.finish(_GUARDIAN_ENDS)
        self._state = state
        if state in FINAL:
            self._tell_exit()
        elif state == _native.ORPHANED and self.program.has_exited():
            self._wait_for_reaper()

    def _tell_exit(self) -> None:
        """Call the callbacks. If one raises, it is called once more, later, as are the others."""
        callback = None
        try:
            while self._exit:
                callback = self._exit[0]
                del self._exit[0]
                callback()
        except BaseException:
            if callback is not None:
                self._loop.call_soon(callback)  # it may have been interrupted
            self._loop.call_soon(self._tell_exit)
            raise
        if (hub := self._hub()) is not None:
            hub.forget(self.program.native)
        self.keep = None

    def _wait_for_reaper(self) -> None:
        """Wait until an orphan's new parent has reaped it: only then is the status known."""
        if monotonic() < self._look_at:
            return  # other news must not make it shorter
        if self._patience > PATIENCE:
            self.program.native.give_up_status()
            self._on_news()
            return
        due = monotonic() + self._patience
        self._loop.call_later(self._patience, self._on_news_if_watched, due)
        self._look_at = due
        self._patience *= 2

    def _on_news_if_watched(self, due: float) -> None:
        if self._look_at != due:
            return  # the loop was late, and other news came first
        self._look_at = 0.0
        if self._state not in FINAL:
            self._on_news()
