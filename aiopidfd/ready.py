"""Waiting for a descriptor, and for time, on whatever loop runs: any asyncio loop, or trio."""

import asyncio
import contextlib
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["readable", "readable_within", "shielded", "sleep"]


async def readable(fd: int) -> None:
    """Wait until `fd` is readable. No one else may wait for the same number meanwhile.

    Raises:
        RuntimeError: no loop runs here.
    """
    await readable_within(fd, math.inf)


async def readable_within(fd: int, seconds: float) -> bool:
    """The same for so long at most; whether it is readable."""
    trio = _trio()
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


async def sleep(seconds: float) -> None:
    """Let others run for so long."""
    await (_trio() or asyncio).sleep(seconds)


async def shielded(wait: Callable[[], Awaitable[object]], timeout: float) -> None:
    """Await to its end, though we are cancelled, but for `timeout` seconds at most.

    asyncio's own cancellation is raised afterwards.
    """
    trio = _trio()
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


def _trio() -> Any:
    """The module trio, if a trio task runs us. It cannot if nobody has imported trio."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    return sys.modules["trio"] if lowlevel is not None and lowlevel.in_trio_task() else None
