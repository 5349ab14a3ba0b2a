"""Output is carried to its sinks until the programs have exited, and then until it is drained.

What goes wrong meanwhile ends the programs: a sink that raises, a limit, a silence, a cancellation.
"""

import asyncio
import contextlib
import math
from collections.abc import Sequence

from .._pidfd.although_cancelled import done_although_cancelled
from .._spawn.failures import add_failure, raise_all, sink_was_cancelled
from .._spawn.hub_of_each_loop import carrying
from .._spawn.idle_timeout import Silence
from .._spawn.run_arguments import DRAIN
from .._spawn.tree import KILL_DEADLINE, kill_now
from .._spawn.weak_programs import Remaining
from .end_although_cancelled import end_all
from .exit_on_loop import Watch
from .pumps import Pump

__all__ = ["carry_output"]


class _Carrier:
    """Some programs that run, and the pumps that carry their output."""

    def __init__(
        self,
        watches: Sequence[Watch],
        pumps: Sequence[Pump],
        grace: float,
        drain: float | None,
        limit: asyncio.Timeout | None,
    ) -> None:
        self._watches = watches
        self._grace = grace
        self._drain = drain
        self._drain_at_most = DRAIN if drain is None else drain  # if something went wrong
        self._limit = limit
        self._due = None if limit is None else limit.when()
        self._remaining = Remaining(watches, lambda watch: watch.alive)
        self._pumps = pumps
        self._loop = asyncio.get_running_loop()
        self._changed = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.failures: list[BaseException] = []
        self._tasks = [self._loop.create_task(self._carry(pump)) for pump in pumps]

    def over(self) -> bool:
        """Whether all of the programs have exited."""
        return not self._remaining

    def fail(self, exc: BaseException) -> None:
        """Record that something went wrong, so that the programs will be ended."""
        add_failure(self.failures, exc)
        self.give_time()
        self._wake()

    def give_time(self) -> None:
        """The call's timeout waits until the programs had their grace, and their output its end."""
        seconds = self._drain_at_most + DRAIN
        if not self.over():
            seconds += self._grace + KILL_DEADLINE
        if self._limit is not None and self._due is not None:
            when = max(self._due, self._loop.time() + seconds)
            with contextlib.suppress(RuntimeError):  # it has expired: that is what went wrong
                self._limit.reschedule(when if when < math.inf else None)

    def listen(self, silence: Silence) -> None:
        """Fail when the programs have been silent for too long."""
        if (left := silence.left()) > 0:
            self._timer = self._loop.call_later(left, self.listen, silence)
        else:
            self.fail(silence.error())

    async def until_over(self) -> None:
        """Wait until all of the programs have exited, or something went wrong."""
        for watch in self._watches:
            if watch.alive:
                watch.on_exit(self._look)
        self._look()
        await self._changed

    async def finish(self) -> None:
        """Wait for the pipes to close, as long as they may; then carry all that they still hold."""
        drain = self._drain_at_most if self.failures else self._drain
        for pump in self._pumps:
            if pump.discarding:
                pump.stop_reading()
        waiting = await self._wait(drain)
        for pump in self._pumps:
            pump.stop_reading()
        if waiting:
            await self._wait(None)

    async def finish_soon(self) -> None:
        """As `finish`, for a caller who wants to leave: never for ever, whatever `drain` is."""
        if await self._wait(self._drain_at_most):
            await self.stop()

    async def stop(self) -> None:
        """Stop carrying the output. A cancellation is raised once the pumps have stopped."""
        self.stop_now()
        await done_although_cancelled(self._tasks)

    def stop_now(self) -> None:
        """Stop carrying the output, for a caller who cannot await the end of the pumps."""
        for pump in self._pumps:
            pump.stopped = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            for task in self._tasks:
                task.cancel()

    def close(self) -> None:
        """Stop the timer, and listen to the programs no longer."""
        if self._timer is not None:
            self._timer.cancel()
        for watch in self._watches:
            watch.forget_exit(self._look)

    async def _wait(self, seconds: float | None) -> bool:
        """Wait for the pumps, at most `seconds`. Returns whether some of them still run."""
        if not self._tasks:
            return False
        seconds = None if seconds == math.inf else seconds
        return bool((await asyncio.wait(self._tasks, timeout=seconds))[1])

    async def _carry(self, pump: Pump) -> None:
        try:
            await pump.run()
        except asyncio.CancelledError as exc:
            if pump.stopped:
                raise
            self.fail(sink_was_cancelled(exc))
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # pytest.fail(), for example, raises no Exception
            self.fail(exc)
        else:
            return
        if not self.over():
            await pump.discard()

    def _look(self) -> None:
        if self.over():
            self._wake()

    def _wake(self) -> None:
        if not self._changed.done():
            self._changed.set_result(None)


async def carry_output(
    watches: Sequence[Watch],
    pumps: Sequence[Pump],
    grace: float,
    drain: float | None,
    *,
    silence: Silence | None = None,
    ends: bool = True,
    limit: asyncio.Timeout | None = None,
) -> None:
    """Carry the output of programs to their end, and end them if something goes wrong.

    Args:
        watches: the programs. They share one period of grace.
        pumps: carry the output of the programs.
        grace, drain: seconds, as in `run_process`.
        silence: measures how long the programs have been silent, and how long they may be.
        ends: whether a cancellation ends the programs. If not, the programs go on, and the output
            that was not read yet stays where it is.
        limit: the call's timeout. It cuts no grace short; but what is awaited after the programs'
            end, a sink that is stuck for example, ends with it. It must come after all of these.

    Raises:
        BaseException: what a sink raised; the programs were ended.
        OutputLimitError, IdleTimeoutError: a limit was broken; the programs were ended.
        PermissionError: we may not end one of the programs.
        ExceptionGroup: several of these errors.
    """
    carrier = _Carrier(watches, pumps, grace, drain, limit)
    failures = carrier.failures
    heard = contextlib.ExitStack()
    try:
        heard.enter_context(carrying())
        if silence is not None:
            carrier.listen(silence)
        await carrier.until_over()
        carrier.close()
        if failures:
            try:
                await end_all(watches, grace)
            except PermissionError as exc:
                failures.append(exc)
            carrier.give_time()
        await carrier.finish()
    except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
        for watch in watches:
            kill_now(watch.program)
        carrier.stop_now()
        raise
    except BaseException:
        failed_first = bool(failures)
        try:
            if ends and not carrier.over():
                carrier.give_time()
                await end_all(watches, grace)
                await carrier.finish_soon()
        except GeneratorExit:
            carrier.stop_now()
            raise
        except BaseException:
            await carrier.stop()
            raise
        await carrier.stop()
        if failed_first and limit is not None and limit.expired():
            raise_all(failures)
        raise
    finally:
        carrier.close()
        heard.close()
    raise_all(failures)
