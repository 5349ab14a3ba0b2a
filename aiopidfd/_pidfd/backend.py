"""Waiting for a descriptor, and for time, on whatever loop runs: any asyncio loop, or trio."""

import asyncio
import contextlib
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Flag", "now", "readable", "readable_within", "running_trio", "shielded", "sleep"]


class Flag:
    """Is set once; one task waits for that. Made on the loop that it is for."""

    __slots__ = ("_event", "_future")

    def __init__(self) -> None:
        """Not set yet."""
        trio = running_trio()
        self._event: Any = None if trio is None else trio.Event()
        self._future: asyncio.Future[None] | None = None
        if trio is None:
            self._future = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        """Wake who waits."""
        if self._future is None:
            self._event.set()
        elif not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Until it is set."""
        await (self._event.wait() if self._future is None else self._future)


async def readable(fd: int) -> None:
    """Wait until `fd` is readable. No one else may wait for the same number meanwhile.

    Raises:
        RuntimeError: no loop runs here.
    """
    await readable_within(fd, math.inf)


async def readable_within(fd: int, seconds: float) -> bool:
    """The same for so long at most; whether it is readable."""
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

    # A timer and no cancellation: whose scopes we are in is not known here.
    timer = None if seconds == math.inf else loop.call_later(seconds, wake, False)
    loop.add_reader(fd, wake, True)
    try:
        return await news
    finally:
        loop.remove_reader(fd)
        if timer is not None:
            timer.cancel()


def now() -> float:
    """Seconds, by the clock that the running loop has its timers by: a test may have its own."""
    trio = running_trio()
    return asyncio.get_running_loop().time() if trio is None else float(trio.current_time())


async def sleep(seconds: float) -> None:
    """Let others run for so long."""
    await (running_trio() or asyncio).sleep(seconds)


async def shielded(wait: Callable[[], Awaitable[object]], timeout: float) -> None:
    """Await to its end, though we are cancelled, but for `timeout` seconds at most.

    asyncio's own cancellation is raised afterwards.
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
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled


def running_trio() -> Any:
    """The module trio, if a trio task runs us. It cannot if nobody has imported trio."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    return sys.modules["trio"] if lowlevel is not None and lowlevel.in_trio_task() else None
