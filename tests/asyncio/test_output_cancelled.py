"""Cancelled at each await of each call that carries output: nothing is left."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from ..anyio_support import stepped
from ..census import childless
from ..output_support import HOSTS, Host


async def nothing(name: str, line: bytes) -> None:
    await anyio.lowlevel.checkpoint()


async def run(host: Host) -> None:
    await host.run_process(
        "cat; echo err >&2", input=b"x", on_output=nothing, output_limit=9, idle_timeout=50
    )


async def supervise(host: Host) -> None:
    await host.supervise("cat; echo err >&2", input=b"x", on_output=nothing, idle_timeout=50)


async def fail(host: Host) -> None:
    """The program is being ended when the cancellation comes."""

    def bad(line: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await host.run_process("echo; exec sleep 600", stdout=[bad])


async def pipe(host: Host) -> None:
    await host.run_pipeline(["cat"], "cat; echo err >&2", input=b"x")


async def fail_to_start(host: Host) -> None:
    with pytest.raises(FileNotFoundError):
        await host.run_pipeline("exec sleep 600", ["cat"], ["/nonexistent"])


calls = pytest.mark.parametrize("call", [run, supervise, fail, pipe, fail_to_start])


@calls
@pytest.mark.parametrize("host", [param for param in HOSTS if param.values[0].for_anyio])
def test_by_its_scope(host: Host, call: Callable[[Host], Any]) -> None:
    async def body() -> None:
        for number in range(300):
            with anyio.CancelScope() as scope:
                actions = {number: scope.cancel}
                await stepped(call(host), actions.get)
            assert childless(), f"a child is left by the one cancelled at {number}"
            if not scope.cancel_called:
                assert number >= 1
                return
        raise AssertionError("it never comes to its end")

    host.run(body)


@pytest.mark.heavy
@calls
@pytest.mark.parametrize("again", [None, 1, 3])
@pytest.mark.parametrize("host", [param for param in HOSTS if not param.values[0].is_trio])
def test_by_asyncio(host: Host, call: Callable[[Host], Any], again: int | None) -> None:
    """Once, or again at one of the next awaits."""

    async def body() -> None:
        for number in range(300):
            actions: dict[int, Callable[[], object]] = {}

            async def main(actions: dict[int, Callable[[], object]] = actions) -> None:
                await asyncio.sleep(0)
                await stepped(call(host), actions.get)

            task = asyncio.get_running_loop().create_task(main())
            actions[number] = task.cancel
            if again is not None:
                actions[number + again] = task.cancel
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if result is None and number > 2:
                return
            assert result is None or isinstance(result, asyncio.CancelledError), result
            if again is None:
                assert childless(), f"a child is left by the one cancelled at {number}"
        raise AssertionError("it never comes to its end")

    host.run(body)
