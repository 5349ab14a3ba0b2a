"""A program started on the running loop: what happens until it was exec'd."""

import asyncio
from typing import Any, Unpack

from .child import start
from .ending import end
from .hub import current_hub
from .kernel import clone_call
from .plan import Command, Options
from .stdio import Descriptors, Stdio
from .watch import Watch

__all__ = ["launch", "take_fixed"]


async def launch(
    descriptors: Descriptors,
    command: Command,
    *,
    shell: bool,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    grace: float = 0,
    **options: Unpack[Options],
) -> Watch:
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
            child = start(
                command,
                shell=shell,
                descriptors=descriptors,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                hub=hub.native,
                **options,
            )
            watch = Watch(child, loop, hub)
            await watch.started()
        finally:
            hub.give_turn()
    except asyncio.CancelledError:
        if watch is not None:
            await end(watch, grace)
        raise
    return watch


def take_fixed(options: dict[str, Any], **fixed: object) -> None:
    """Take parameters of subprocess.Popen out of `options` that have one value only, as in asyncio.

    Raises:
        ValueError: another value was given, with asyncio's message.
    """
    for name, allowed in fixed.items():
        value = options.pop(name, allowed)
        if value != allowed and not (value is None and allowed is False):
            raise ValueError(f"{name} must be {allowed}")
