"""Waiting for tasks to their end, although we are cancelled meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["done_although_cancelled"]


async def done_although_cancelled(
    tasks: Sequence[asyncio.Task[Any]], hurry: Callable[[], object] | None = None
) -> None:
    """Wait until all tasks of ours are done. If we are cancelled, that is raised afterwards.

    Args:
        tasks: asyncio's. Their results and errors stay for the caller.
        hurry: called when we are cancelled, so that they are done soon; and when our coroutine is
            closed, which leaves no time to wait for them.
    """
    cancelled: asyncio.CancelledError | None = None
    while waiting := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(waiting)
        except (asyncio.CancelledError, GeneratorExit) as exc:
            if hurry is not None:
                hurry()
            if isinstance(exc, GeneratorExit):
                raise
            cancelled = exc
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # a cycle: the exception, its traceback, this frame
