"""supervise and start_in: a program as a member of an asyncio.TaskGroup.

What aiopidfd.anyio.supervise promises is tried in test_anyio_supervise.py.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

import aiopidfd
from aiopidfd import DEVNULL, PIPE, CalledProcessError, Process, start_in, supervise

from ..anyio_support import until
from ..census import childless
from ..output_support import Collector, eager_loop
from ..support import HOLD_STDOUT, gate, hang_guard, turns
from .test_output import at_every_turn

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
if sys.version_info >= (3, 12):
    LOOPS["eager"] = eager_loop


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard(60):
        yield


def trapping(ready: Path, handler: str) -> str:
    return f"trap '{handler}' TERM; echo ready >{ready}; while :; do sleep 0.02; done"


def ready_in(path: Path) -> Callable[[], bool]:
    return lambda: path.exists() and path.read_text() == "ready\n"


# --- Start and end


async def test_start_in_returns_the_running_program() -> None:
    async with asyncio.TaskGroup() as group:
        process = await start_in(group, ["cat"], stdin=PIPE)
        assert type(process) is Process
        name = Path(
            f"/proc/{process.pid}/comm"
        )  # the kernel sets it a moment after it lets us go on
        await until(lambda: name.read_text() == "cat\n")
        assert process.returncode is None
        assert process.stdin is not None
        process.stdin.close()
    assert process.returncode == 0


async def test_start_in_raises_what_the_exec_raised() -> None:
    """To its caller: the group goes on."""
    async with asyncio.TaskGroup() as group:
        other = await start_in(group, ["cat"], stdin=PIPE)
        with pytest.raises(FileNotFoundError) as caught:
            await start_in(group, ["/nonexistent"])
        assert caught.value.filename == "/nonexistent"
        with pytest.raises(PermissionError):
            await start_in(group, ["/"])
        with pytest.raises(TypeError, match=r"^start_in\(\) got an unexpected .* 'nonsense'"):
            await start_in(group, ["true"], nonsense=1)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="may not both be used"):
            await start_in(group, ["true"], input=b"", stdin=DEVNULL)
        assert other.returncode is None
        assert other.stdin is not None
        other.stdin.close()


async def test_a_failed_start_is_no_reference_cycle() -> None:
    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            with contextlib.suppress(FileNotFoundError):
                await start_in(group, ["/nonexistent"])

    await fail()
    gc.collect()
    gc.disable()
    try:
        await fail()
        found = {type(thing).__name__ for thing in garbage()}
        assert not found & {"FileNotFoundError", "Outputs", "Process", "PipeReader"}
    finally:
        gc.enable()


def garbage() -> list[Any]:
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [*gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def test_as_a_task_or_awaited() -> None:
    assert await supervise(["true"]) == 0
    assert await supervise("exit 3", check=False) == 3
    with pytest.raises(CalledProcessError) as caught:
        await supervise("exit 3")
    assert (caught.value.returncode, caught.value.cmd) == (3, "exit 3")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(supervise(f"exit {n}", check=False)) for n in range(5)]
    assert [task.result() for task in tasks] == [*range(5)]


@pytest.mark.parametrize("script", ["exit 3", "kill -KILL $$"])
async def test_failure_cancels_the_group(script: str) -> None:
    others: list[str] = []

    async def other() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            others.append("cancelled")

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with asyncio.TaskGroup() as group:
            group.create_task(other())
            await start_in(group, ["sleep", "1000"])
            group.create_task(supervise(["cat", "/dev/zero"], stdout=DEVNULL))
            await start_in(group, "sleep 0.1; " + script)
    (error,) = caught.value.exceptions
    assert isinstance(error, CalledProcessError)
    assert error.returncode == (3 if script == "exit 3" else -9)
    assert others == ["cancelled"]
    assert childless()


async def test_failure_that_is_not_checked_does_not() -> None:
    async with asyncio.TaskGroup() as group:
        processes = [await start_in(group, f"exit {n}", check=False) for n in range(5)]
    assert [process.returncode for process in processes] == [*range(5)]


async def test_terminated_by_hand() -> None:
    async with asyncio.TaskGroup() as group:
        process = await start_in(group, ["sleep", "1000"], check=False)
        process.terminate()
    assert process.returncode == -signal.SIGTERM


async def test_a_group_that_takes_no_more() -> None:
    async with asyncio.TaskGroup() as group:
        pass
    with pytest.raises(RuntimeError):
        await start_in(group, ["sleep", "1000"])
    async with anyio.create_task_group() as other:
        with pytest.raises(TypeError, match=r"not TaskGroup; .* aiopidfd\.anyio\.supervise"):
            await start_in(other, ["sleep", "1000"])  # type: ignore[arg-type]


async def test_the_group_ends_before_the_program_began() -> None:
    """Told to a caller that is not of the group."""
    entered, over = asyncio.Event(), asyncio.Event()
    groups: list[asyncio.TaskGroup] = []

    async def host() -> None:
        async with asyncio.TaskGroup() as group:
            groups.append(group)
            entered.set()
            await over.wait()

    hosting = asyncio.create_task(host())
    await entered.wait()
    starting = asyncio.create_task(start_in(groups[0], ["sleep", "1000"]))
    await asyncio.sleep(0)
    hosting.cancel()
    results = await asyncio.gather(hosting, starting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert isinstance(results[1], RuntimeError | Process)
    assert childless()


@pytest.mark.parametrize("count", range(12))
async def test_a_cancelled_start_leaves_nothing_but_the_group(count: int) -> None:
    async with asyncio.TaskGroup() as group:
        other = await start_in(group, ["cat"], stdin=PIPE)
        start = start_in(group, ["sleep", "1000"], stdin=PIPE, stdout=print, check=False)
        task = asyncio.create_task(start)
        await turns(count)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Process):  # it was too late
            await result.aclose()
        else:
            assert isinstance(result, asyncio.CancelledError)
        assert other.stdin is not None
        other.stdin.close()
    assert childless()


# --- Cancelled


@pytest.mark.parametrize("grace", [5, 0])
async def test_cancelled_it_is_asked_to_end(grace: float) -> None:
    process = None

    async def main() -> None:
        nonlocal process
        async with asyncio.TaskGroup() as group:
            process = await start_in(group, ["sleep", "1000"], grace=grace)
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await main()
    assert process is not None
    assert process.returncode == -(signal.SIGTERM if grace else signal.SIGKILL)
    assert childless()


async def test_cancelled_the_whole_tree_is_ended_with_its_grace(tmp_path: Path) -> None:
    tidied, ready, child_ready = (tmp_path / name for name in ("tidied", "ready", "child"))
    trap = f'trap "sleep 0.1; touch {tidied}; exit" TERM; touch {child_ready}'
    child = f"({trap}; while :; do sleep 0.02; done) & "
    begun: list[aiopidfd.Process] = []
    command = child + trapping(ready, "exit")
    call = supervise(command, grace=50, stdout=DEVNULL, started=begun.append)
    task = asyncio.create_task(call)
    await until(lambda: bool(begun))  # a start that is cancelled has no grace
    await until(ready_in(ready))
    await until(child_ready.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tidied.exists()
    assert childless()


async def test_a_second_cancellation_kills_at_once(tmp_path: Path) -> None:
    """The grace is ten minutes; the hang guard is less."""
    ready = tmp_path / "ready"
    begun: list[aiopidfd.Process] = []
    call = supervise(trapping(ready, ""), grace=600, on_output=Collector(), started=begun.append)
    task = asyncio.create_task(call)
    await until(lambda: bool(begun))
    await until(ready_in(ready))
    task.cancel()
    await turns()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert childless()


async def test_cancelled_and_it_still_writes_a_lot() -> None:
    out, err = Collector(), Collector()
    handler = "seq 1 100000; echo bye >&2; exit 0"
    script = f"trap '{handler}' TERM; echo ready; while :; do sleep 0.02; done"
    task = asyncio.create_task(supervise(script, stdout=out, stderr=err, text=True, grace=50))
    await until(lambda: out)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert out[0] == "ready"
    assert [int(line) for line in out[1:]] == [*range(1, 100001)]
    assert err[-1] == "bye"


@pytest.mark.heavy
@pytest.mark.parametrize("drain", [0.1, None])
async def test_cancelled_with_a_sink_that_blocks(drain: float | None) -> None:
    """For ever. The group is left all the same."""

    async def block(line: bytes) -> None:
        await asyncio.sleep(1000)

    task = asyncio.create_task(supervise(["yes"], stdout=block, drain=drain, grace=0.1))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert childless()


async def test_cancelled_with_a_grandchild_that_holds_stdout() -> None:
    with gate() as (read, _, _):
        lines = Collector()
        script = HOLD_STDOUT + "echo out; exec sleep 1000"
        task = asyncio.create_task(supervise(script, stdin=read, stdout=lines, drain=None))
        await until(lambda: lines)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lines == [b"out"]


async def test_a_timeout_around_it() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await supervise(["sleep", "1000"])
    assert childless()


async def test_cancelled_at_every_turn() -> None:
    async def group_of_two() -> None:
        async with asyncio.TaskGroup() as group:
            process = await start_in(
                group, "cat; echo err >&2", input=b"x\n", on_output=Collector(), grace=0
            )
            group.create_task(supervise(["cat"], input=b"y", stdout=Collector(), grace=0))
            await process.wait()

    assert await at_every_turn(group_of_two) > 3


async def test_a_task_that_is_cancelled_before_its_first_step() -> None:
    task = asyncio.create_task(supervise(["sleep", "1000"]))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert childless()


async def test_a_coroutine_that_is_thrown_away(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    coroutine = supervise(f"echo $$ > {pid_file}; exec sleep 600", stdout=Collector(), grace=600)
    task = asyncio.create_task(coroutine)
    await until(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    coroutine.close()
    await until(lambda: not Path(f"/proc/{pid}").exists())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- Input, output, silence


async def test_input_and_sinks() -> None:
    lines = Collector()
    await supervise(["cat"], input="grün\nrot", stdout=lines, encoding="utf-8")
    assert lines == ["grün", "rot"]
    assert await supervise("exit 0", input=b"x" * 3_000_000) == 0


async def test_a_pipe_for_the_caller() -> None:
    async with asyncio.TaskGroup() as group:
        process = await start_in(group, ["cat"], stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        assert await process.stdout.readline() == b"one\n"
        process.stdin.close()
    assert await process.stdout.read() == b""


async def test_what_a_failed_program_has_said_can_still_be_read() -> None:
    """It may be more than our buffer and the pipe hold together."""
    size = 300_000
    raised: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            script = f"head -c {size} /dev/zero >&2; exit 3"
            process = await start_in(group, script, stderr=PIPE)
            assert process.stderr is not None
            read = len(await process.stderr.readexactly(size // 2))
            await asyncio.sleep(600)  # until the failure cancels the group
    except* CalledProcessError as group_of:
        raised += group_of.exceptions
    assert len(raised) == 1
    assert read + len(await process.stderr.read()) == size


async def test_one_program_s_stdin_is_another_s_sink() -> None:
    got = Collector()
    async with asyncio.TaskGroup() as group:
        second = await start_in(group, "sleep 0.1; exec wc -c", stdin=PIPE, stdout=got)
        await start_in(group, ["head", "-c", "1000000", "/dev/zero"], stdout=second.stdin)
    assert got == [b"1000000"]


async def test_a_sink_that_raises_is_the_group_s_failure() -> None:
    def bad(line: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            process = await start_in(group, ["yes"], stdout=bad)
    assert [type(exc) for exc in caught.value.exceptions] == [ZeroDivisionError]
    assert process.returncode == -signal.SIGTERM


async def test_silence_is_the_group_s_failure() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            await start_in(group, "echo; exec sleep 1000", stdout=Collector(), idle_timeout=0.3)
    (error,) = caught.value.exceptions
    assert isinstance(error, aiopidfd.IdleTimeoutError)
    assert error.timeout == 0.3


async def test_the_option_group_is_the_program_s() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    lines = Collector()
    async with asyncio.TaskGroup() as group:
        await start_in(group, ["id", "-g"], group=65534, stdout=lines)
    assert lines == [b"65534"]


async def test_the_user_closes_the_pipe() -> None:
    """As if the output had ended; the program's next write fails."""
    got = Collector()
    async with asyncio.TaskGroup() as group:
        process = await start_in(group, "echo a; exec cat /dev/zero", stdout=got, check=False)
        await until(lambda: got)
        assert process.stdout is not None
        process.stdout.close()
    assert got[0] == b"a"
    assert process.returncode == -signal.SIGPIPE
