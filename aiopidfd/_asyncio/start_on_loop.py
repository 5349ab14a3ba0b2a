"""Starting a program on the running loop: everything up to the exec."""

import asyncio

from .._pidfd.any_loop import running_trio
from .._spawn.hub_of_each_loop import hub_for
from .._spawn.options import Request
from .._spawn.start import start
from .._spawn.stdio_and_pass_fds import Descriptors
from .end_although_cancelled import end
from .exit_on_loop import Watch

__all__ = ["running_loop", "start_on_loop"]


def running_loop(
    what: str,
    hint: str = "in plain code use aiopidfd.spawn(), or asyncio.run() around a coroutine",
    on_trio: str = "on trio use aiopidfd.anyio",
) -> asyncio.AbstractEventLoop:
    """The running loop, which must be of asyncio's kind, because `what` needs one.

    Raises:
        RuntimeError: there is no such loop. The text says what to use instead.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        hint = hint if running_trio() is None else on_trio
        raise RuntimeError(f"{what} needs a running event loop of asyncio; {hint}") from None


async def start_on_loop(request: Request, descriptors: Descriptors, grace: float = 0) -> Watch:
    """Start a program and wait for its exec.

    Afterwards `descriptors` holds our ends of the pipes; whoever has entered it takes them from it.
    If the call is cancelled and the program runs by then, the program is ended. With a `grace` of
    more than 0 it first gets SIGTERM and that many seconds.

    Raises:
        OSError, TypeError, ValueError: as `create_subprocess_exec`. Nothing of the start is left.
    """
    loop = asyncio.get_running_loop()
    hub = hub_for(loop)
    hub.look_at_starts()
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
