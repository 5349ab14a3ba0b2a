"""All calls that carry output, many at once, cancelled at any moment: nothing is left."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import aiopidfd
from aiopidfd import DEVNULL, PIPE, run_pipeline, run_process, start_in

from ..census import child_pids, open_fds
from ..support import hang_guard, until

# What may come of them; anything else is a mistake of ours.
EXPECTED = (
    asyncio.CancelledError,
    FileNotFoundError,
    ZeroDivisionError,
    aiopidfd.CalledProcessError,
    aiopidfd.OutputLimitError,
    aiopidfd.TimeoutExpired,
)


class Flows:
    """One call after the other, by chance."""

    def __init__(self, seed: int) -> None:
        self.luck = random.Random(seed)
        self.count = 0

    def calls(self) -> list[Callable[[], Awaitable[object]]]:
        luck = self.luck
        moment = 0.05 * luck.random()
        grace = luck.choice([0, 0.1])

        async def slow(line: bytes) -> None:
            await asyncio.sleep(luck.random() * 0.002)

        def bad(line: bytes) -> None:
            if luck.random() < 0.01:
                raise ZeroDivisionError

        def nothing(name: str, line: bytes) -> None:
            pass

        async def group() -> None:
            scripts = ["seq 100", "sleep 0.01; exit 3", "exec sleep 600", ["/nonexistent"]]
            async with asyncio.TaskGroup() as group:
                for _ in range(luck.randrange(4)):
                    sink = luck.choice([slow, bad, DEVNULL])
                    await start_in(group, luck.choice(scripts), stdout=sink, grace=grace)
                raise ZeroDivisionError

        async def communicate() -> None:
            process = await aiopidfd.create_subprocess_shell(
                "yes | head -c 500000; echo x", stdin=PIPE, stdout=PIPE, stderr=PIPE, grace=grace
            )
            async with process:
                for _ in range(luck.randrange(5)):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0):
                            await process.communicate(output_limit=1000, on_limit="tail")
                await process.communicate(output_limit=1000, on_limit="tail")
                assert process.dropped == (499_002, 0)

        return [
            lambda: run_process("seq 500; echo err >&2", stdout=[PIPE, slow], grace=grace),
            lambda: run_process("yes", output_limit=luck.randrange(300_000), grace=grace),
            lambda: run_process("yes | head -c 999999", output_limit=99, on_limit="tail"),
            lambda: run_process(
                "seq 3; sleep 600 & sleep 600", on_output=nothing, idle_timeout=moment, grace=grace
            ),
            lambda: run_process("sleep 600", timeout=moment, output_limit=3, grace=grace),
            lambda: run_process("seq 3000; sleep 0.01", stdout=bad, stderr=[bad]),
            lambda: run_pipeline(["yes"], ["head", "-n", "999"], "cat; echo x >&2", grace=grace),
            lambda: run_pipeline(["seq", "100"], ["/nonexistent"], ["cat"]),
            lambda: run_pipeline("sleep 600", "sleep 600", timeout=moment, grace=grace),
            lambda: run_pipeline(["cat"], ["cat"], input=bytes(300_000), output_limit=200_000),
            group,
            communicate,
        ]

    async def go(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            task = asyncio.ensure_future(self.luck.choice(self.calls())())
            for _ in range(self.luck.choice([0, 1, 1, 2])):
                await asyncio.sleep(self.luck.random() ** 2 * 0.05)
                task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            check(result)
            self.count += 1


def check(result: Any) -> None:
    if isinstance(result, BaseExceptionGroup):
        for exc in result.exceptions:
            check(exc)
    elif isinstance(result, BaseException) and not isinstance(result, EXPECTED):
        raise result


@pytest.mark.heavy
async def test_nothing_is_left() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    before = open_fds()
    flows = Flows(seed)
    with hang_guard(60):
        await asyncio.gather(*(flows.go(4) for _ in range(8)))
        await until(lambda: not child_pids())
    assert flows.count > 20
    assert {*open_fds()} <= {*before}
