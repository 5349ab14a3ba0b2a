"""Waiting for a descriptor or for time on the running loop: any asyncio loop, or trio."""

import asyncio
import contextlib
import inspect
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from .although_cancelled import done_although_cancelled

__all__ = [
    "Flag",
    "check_loop",
    "has_loop",
    "now",
    "readable",
    "readable_within",
    "running_trio",
    "shielded",
    "sleep",
]

# What an asyncio loop calls comes after these frames. It may be a callback, or a coroutine without
# a frame of its own, such as an async generator's __anext__().
_OF_ASYNCIO: Final = {
    asyncio.Handle._run.__code__,  # noqa: SLF001
    asyncio.Runner.run.__code__,
}


class Flag:
    """A flag that is set once, and for which one task waits. It is for the loop that makes it."""

    __slots__ = ("_event", "_future")

    def __init__(self) -> None:
        """Make a flag that is not set yet."""
        trio = running_trio()
        self._event: Any = None if trio is None else trio.Event()
        self._future: asyncio.Future[None] | None = None
        if trio is None:
            self._future = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        """Set the flag, and wake the task that waits, if it can still run."""
        if self._future is None:
            self._event.set()
        elif not self._future.done() and not self._future.get_loop().is_closed():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Wait until the flag is set."""
        await (self._event.wait() if self._future is None else self._future)


def check_loop(what: str, instead: str = "PidFd.wait_blocking() needs none") -> None:
    """Raise RuntimeError if no loop runs here, asyncio's or trio's. The text says what to use."""
    if not has_loop():
        raise RuntimeError(f"{what} needs a running event loop of asyncio or trio; {instead}")


def has_loop() -> bool:
    """Whether a loop runs here. None does where a coroutine is thrown away with its closed loop."""
    try:
        return running_trio() is not None or bool(asyncio.get_running_loop())
    except RuntimeError:
        return False


async def readable(fd: int) -> None:
    """Wait until `fd` is readable. No other task may wait for the same number meanwhile.

    Raises:
        RuntimeError: no loop runs here.
    """
    await readable_within(fd, math.inf)


async def readable_within(fd: int, seconds: float) -> bool:
    """Wait until `fd` is readable, at most `seconds`. Returns whether it is readable."""
    trio = running_trio()
    if trio is not None:
        with trio.move_on_after(seconds):
            await trio.lowlevel.wait_readable(fd)
            return True
        return False
    loop = asyncio.get_running_loop()
    news: asyncio.Future[bool] = loop.create_future()

    def wake(is_readable: bool) -> None:
        if not news.done():
            news.set_result(is_readable)

    # A timer, not a cancellation: here we do not know which cancel scopes surround us.
    timer = None if seconds == math.inf else loop.call_later(seconds, wake, False)
    try:
        loop.add_reader(fd, wake, True)
        return await news
    finally:
        loop.remove_reader(fd)
        if timer is not None:
            timer.cancel()


def now() -> float:
    """Seconds by the clock of the running loop's timers. A test may replace that clock."""
    trio = running_trio()
    return asyncio.get_running_loop().time() if trio is None else float(trio.current_time())


async def sleep(seconds: float) -> None:
    """Let other tasks run for `seconds`."""
    await (running_trio() or asyncio).sleep(seconds)


async def shielded(wait: Callable[[], Awaitable[object]], timeout: float) -> None:
    """Await `wait()` to its end even if we are cancelled, but for `timeout` seconds at most.

    If asyncio has cancelled us, the cancellation is raised afterwards.
    """
    trio = running_trio()
    if trio is not None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout):
            await wait()
        return

    async def bounded() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await wait()

    task = asyncio.get_running_loop().create_task(bounded())
    await done_although_cancelled([task])
    task.result()


def running_trio() -> Any:
    """The module trio if a trio task runs us, else None. If nobody has imported trio, none can.

    A task of asyncio's may run inside of one of trio's (asyncio.run() there, in a forked copy, or
    trio-asyncio), and the other way round. Then the inner one runs us.
    """
    trio: Any = sys.modules.get("trio")
    lowlevel = getattr(trio, "lowlevel", None)
    if lowlevel is None or not lowlevel.in_trio_task():
        return None
    if asyncio._get_running_loop() is None:  # noqa: SLF001  as a rule
        return trio
    task = asyncio.current_task()
    outer, inner = lowlevel.current_task().coro, None if task is None else task.get_coro()
    frame = inspect.currentframe()
    while frame is not None and frame is not getattr(outer, "cr_frame", None):
        if frame.f_code in _OF_ASYNCIO or frame is getattr(inner, "cr_frame", None):
            return None
        frame = frame.f_back
    return trio
