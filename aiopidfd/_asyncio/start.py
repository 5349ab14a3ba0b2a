"""A program is started on the running loop: what happens until it was exec'd."""

import asyncio

from .._spawn.hub import current_hub
from .._spawn.kernel import clone_call
from .._spawn.options import Request
from .._spawn.start import start
from .._spawn.stdio import Descriptors
from .shutdown import end
from .watch import Watch

__all__ = ["start_on_loop"]


async def start_on_loop(request: Request, descriptors: Descriptors, grace: float = 0) -> Watch:
    """Start a program and wait until it was exec'd.

    `descriptors` holds our ends of the pipes afterwards; who entered it takes them from there.
    Cancelled, this ends a program that runs by then: after SIGTERM and `grace` seconds, if any.

    Raises:
        OSError, TypeError, ValueError: as `create_subprocess_exec`; nothing is left of it.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("no running event loop of asyncio; on trio use aiopidfd.anyio") from None
    clone_call()  # says what is missing here, before anything is opened
    hub = current_hub()
    await hub.take_turn()
    watch = None
    try:
        try:
            watch = Watch(start(request, descriptors, hub), loop, hub)
            await watch.started()
        finally:
            hub.give_turn()
    except asyncio.CancelledError:
        if watch is not None:
            await end(watch, grace)
        raise
    return watch
