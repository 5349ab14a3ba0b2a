"""Several programs are ended at once: SIGTERM to each tree, one grace for all, SIGKILL."""

from collections.abc import Sequence

import anyio

from ._process import Running

__all__ = ["end_all"]


async def end_all(programs: Sequence[Running], grace: float) -> None:
    """End programs at once. They have `grace` seconds together. See `Running.end`.

    Raises:
        PermissionError: we may not end one of the programs; the others were ended.
    """
    denied: list[PermissionError] = []

    async def end(program: Running) -> None:
        try:
            await program.end(grace)
        except PermissionError as exc:
            denied.append(exc)

    if len(programs) == 1:
        await end(programs[0])
    elif programs:
        async with anyio.create_task_group() as tg:
            for program in programs:
                tg.start_soon(end, program)
    if denied:
        raise denied.pop()
