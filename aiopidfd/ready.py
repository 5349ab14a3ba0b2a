"""Waiting for a descriptor, and for time, on whatever loop runs: any asyncio loop, or trio."""

import asyncio
import sys
from typing import Any

__all__ = ["readable", "sleep"]


async def readable(fd: int) -> None:
    """Wait until `fd` is readable. No one else may wait for the same number meanwhile.

    Raises:
        RuntimeError: no loop runs here.
    """
    trio = _trio()
    if trio is not None:
        await trio.lowlevel.wait_readable(fd)
        return
    loop = asyncio.get_running_loop()
    news: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not news.done():
            news.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await news
    finally:
        loop.remove_reader(fd)


async def sleep(seconds: float) -> None:
    """Let others run for so long."""
    await (_trio() or asyncio).sleep(seconds)


def _trio() -> Any:
    """The module trio, if a trio task runs us. It cannot if nobody has imported trio."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    return sys.modules["trio"] if lowlevel is not None and lowlevel.in_trio_task() else None
