"""Output is carried to its sinks until the programs have exited, and then until it is drained.

What goes wrong meanwhile ends the programs: a sink that raises, a limit, a silence, a cancellation.
"""

import contextlib
import math
from collections.abc import Sequence

import anyio

from .._spawn.failures import add_failure, raise_all, sink_was_cancelled
from .._spawn.hub_of_each_loop import carrying
from .._spawn.idle_timeout import Silence
from .._spawn.run_arguments import DRAIN
from .._spawn.tree import KILL_DEADLINE, kill_now
from .._spawn.weak_programs import Remaining
from ._end_several import end_all
from ._process import Running
from ._pumps import Pump
from ._streams import SendPipe

__all__ = ["carry_output"]


async def carry_output(
    programs: Sequence[Running],
    input: bytes | None,
    pumps: Sequence[Pump],
    grace: float,
    drain: float | None,
    silence: Silence | None = None,
    limit: anyio.CancelScope | None = None,
) -> None:
    """See programs to their end: feed the first, carry the output, end them if cancelled.

    `limit` is the scope of the call's timeout. It cuts no grace short; but what is awaited after
    the programs' end, a sink that is stuck for example, ends with it.

    Raises:
        BaseException: what a sink raised; the programs were ended.
        OutputLimitError, IdleTimeoutError: a limit was broken; the programs were ended.
        PermissionError: we may not end one of the programs.
        ExceptionGroup: several of these errors.
    """
    # We keep the errors ourselves, because the task group would wrap them in a group.
    failures: list[BaseException] = []
    denied: list[PermissionError] = []
    remaining = Remaining(programs, lambda program: program.poll() is None)
    waiting, hearing = anyio.CancelScope(), anyio.CancelScope()
    # The input goes on until a cancelled program is ended: it must not take a part for the whole.
    feeding = anyio.CancelScope(shield=True)
    # During its grace the program still writes, and must not block on a full pipe.
    shields = [anyio.CancelScope(shield=True) for _ in pumps]

    soon = DRAIN if drain is None else drain
    due = math.inf if limit is None else limit.deadline

    def give_time() -> None:
        """The call's timeout waits until the programs had their grace, and their output its end."""
        seconds = soon + DRAIN + (grace + KILL_DEADLINE if remaining else 0)
        if limit is not None:
            limit.deadline = max(due, anyio.current_time() + seconds)

    def fail(exc: BaseException) -> None:
        add_failure(failures, exc)
        give_time()  # at once: trio looks at deadlines before it runs us again
        waiting.cancel()

    async def carry(pump: Pump, shield: anyio.CancelScope) -> None:
        with shield:
            try:
                await pump.run()
                return
            except anyio.get_cancelled_exc_class() as exc:
                if not shield.shield:
                    raise
                fail(sink_was_cancelled(exc))
            except BaseException as exc:  # pytest.fail(), for example, raises no Exception
                if _ends_the_task(exc):
                    raise
                fail(exc)
            if remaining:
                await pump.discard()

    async def feed(stdin: SendPipe, data: bytes) -> None:
        try:
            with feeding, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stdin.send(data)
                await stdin.aclose()
        except Exception as exc:
            fail(exc)

    async def hear(silence: Silence) -> None:
        with hearing:
            left = silence.left()
            while left > 0:
                await anyio.sleep(left)
                left = silence.left()
            fail(silence.error())

    async def end() -> None:
        try:
            await end_all(programs, grace)
        except PermissionError as exc:
            denied.append(exc)

    cancelled_first = False
    heard = contextlib.ExitStack()
    try:
        heard.enter_context(carrying())
        async with anyio.create_task_group() as tg:
            for pump, shield in zip(pumps, shields, strict=True):
                tg.start_soon(carry, pump, shield)
            if input is not None and programs[0].stdin is not None:
                tg.start_soon(feed, programs[0].stdin, input)
            if silence is not None:
                tg.start_soon(hear, silence)
            try:
                with waiting:
                    for program in programs:
                        await program.wait()
                if waiting.cancelled_caught:
                    await end()
                    give_time()
                    drain = soon
            except GeneratorExit:  # this coroutine was closed: nothing can be awaited any more
                for program in programs:
                    kill_now(program.program)
                raise
            except BaseException:
                cancelled_first = not failures
                await end()
                # This never waits for ever, even if `drain` is None: the caller wants to leave.
                with anyio.move_on_after(soon, shield=True):
                    for pump in pumps:
                        await pump.ended.wait()
                raise
            finally:
                feeding.cancel()
                hearing.cancel()
                for pump, shield in zip(pumps, shields, strict=True):
                    pump.stop_reading_at(
                        math.inf if drain is None else anyio.current_time() + drain
                    )
                    shield.shield = False
    except anyio.get_cancelled_exc_class():
        if cancelled_first or not failures or limit is None or not limit.cancel_called:
            raise
        raise_all(failures)
    finally:
        heard.close()
        if input is not None and programs[0].stdin is not None:
            programs[0].stdin.close()
        if denied:  # raised even if the task is being cancelled: a program runs on
            failures.append(denied.pop())
            raise_all(failures)
    raise_all(failures)


def _ends_the_task(exc: BaseException) -> bool:
    """Whether it is a cancellation, or ends the process. trio's nurseries put these into groups."""
    ends = (anyio.get_cancelled_exc_class(), GeneratorExit, KeyboardInterrupt, SystemExit)
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(ends) is not None
    return isinstance(exc, ends)
