"""`run_process`: what its documentation says, and what `subprocess.run` does."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

import aiopidfd
import aiopidfd.anyio
from aiopidfd import DEVNULL, PIPE, STDOUT, run_process

from ..support import HOLD_STDOUT, exists, gate, hang_guard, turns, until, warnings_given

TRAPS_TERM = 'trap "echo term" TERM; echo ready; while :; do sleep 0.02; done'


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


def facts(result: Any) -> tuple[Any, ...]:
    return result.args, result.returncode, result.stdout, result.stderr


async def same(command: Any, **options: Any) -> Any:
    """The result, which must be that of subprocess.run."""
    options = {"stdout": PIPE, "stderr": PIPE, "check": False} | options
    ours = await run_process(command, **options)
    theirs = subprocess.run(command, **{"shell": isinstance(command, str), **options})
    assert type(ours) is type(theirs) is subprocess.CompletedProcess
    assert facts(ours) == facts(theirs)
    return ours


# What it returns


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["echo", "x"], {}),
        (("echo", "x"), {}),
        ("echo out; echo err >&2; exit 3", {}),
        ("kill -9 $$", {}),
        ("cat; echo err >&2", {"input": b"data"}),
        ("cat", {"input": b""}),
        ("cat", {"stdin": DEVNULL}),
        ("echo out; echo err >&2", {"stderr": STDOUT}),
        ("echo out; echo err >&2", {"stdout": DEVNULL}),
        ("echo out; echo err >&2", {"stderr": DEVNULL}),
        ("printf 'a\\r\\nb\\rc'", {"text": True}),
        ("cat", {"text": True, "input": "dös\n"}),
        ("cat", {"text": True, "input": ""}),
        ("cat", {"encoding": "utf-16", "input": "dös"}),
        ("printf '\\377x'", {"encoding": "utf-8", "errors": "replace"}),
        ("printf '\\377x'", {"errors": "surrogateescape"}),
        (["echo $0 $1", "zero", "one"], {"shell": True}),
        ("echo $A", {"env": {"A": "1"}}),
        ("pwd", {"cwd": "/"}),
        ("no-such-program", {}),
        ("umask", {"umask": 0o12}),
        ("echo $0", {"executable": "/bin/bash"}),
    ],
    ids=str,
)
async def test_results_are_those_of_subprocess(command: Any, options: dict[str, Any]) -> None:
    await same(command, **options)


async def test_much_in_both_directions() -> None:
    data = os.urandom(3_000_000)
    result = await same("tee /dev/stderr", input=data)
    assert result.stdout == result.stderr == data


async def test_output_is_captured_by_default() -> None:
    result = await run_process("echo out; echo err >&2")
    assert facts(result)[1:] == (0, b"out\n", b"err\n")


async def test_output_goes_where_it_is_sent(tmp_path: Path, capfd: Any) -> None:
    with (tmp_path / "out").open("wb") as file:
        result = await run_process("echo out; echo err >&2", stdout=file, stderr=None)
    assert (result.stdout, result.stderr) == (None, None)
    assert (tmp_path / "out").read_bytes() == b"out\n"
    assert capfd.readouterr() == ("", "err\n")


async def test_a_sequence_runs_a_program_and_a_string_the_shell() -> None:
    assert (await run_process(["echo", "$0", "; exit 3"])).stdout == b"$0 ; exit 3\n"
    assert (await run_process("echo $0")).stdout == b"/bin/sh\n"
    assert (await run_process(b"echo $0")).stdout == b"/bin/sh\n"
    assert (await run_process(Path("/bin/pwd"), cwd="/")).stdout == b"/\n"
    with pytest.raises(FileNotFoundError):
        await run_process("echo $0", shell=False)


async def test_without_input_stdin_is_inherited() -> None:
    # A file, so that the test is not about pytest's own stdin.
    read, write = os.pipe()
    saved = os.dup(0)
    try:
        os.write(write, b"inherited")
        os.close(write)
        os.dup2(read, 0)
        result = await run_process("cat")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)
    assert result.stdout == b"inherited"


async def test_a_pipe_as_stdin_without_input_is_closed() -> None:
    assert (await run_process("cat", stdin=PIPE)).stdout == b""


async def test_input_that_the_program_does_not_read() -> None:
    result = await same("exec 0<&-; echo done", input=bytes(1_000_000))
    assert result.stdout == b"done\n"


async def test_many_at_once() -> None:
    results = await asyncio.gather(
        *(run_process(f"cat; exit {n}", input=b"%d" % n, check=False) for n in range(50))
    )
    assert [(r.returncode, r.stdout) for r in results] == [(n, b"%d" % n) for n in range(50)]


# check


async def test_check_is_the_default() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await run_process("echo out; echo err >&2; exit 3")
    error = caught.value
    assert (error.returncode, error.cmd) == (3, "echo out; echo err >&2; exit 3")
    assert (error.stdout, error.stderr, error.output) == (b"out\n", b"err\n", b"out\n")


async def test_check_with_text_and_a_signal() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await run_process("echo ö; kill -TERM $$", encoding="utf-8")
    assert (caught.value.returncode, caught.value.stdout) == (-15, "ö\n")
    assert "SIGTERM" in str(caught.value)


async def test_check_equals_that_of_subprocess() -> None:
    command = ["sh", "-c", "echo out; exit 3"]
    with pytest.raises(subprocess.CalledProcessError) as theirs:
        subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(subprocess.CalledProcessError) as ours:
        await run_process(command)
    assert vars(ours.value) == vars(theirs.value)
    assert str(ours.value) == str(theirs.value)


# Mistakes


async def test_stdin_and_input_exclude_each_other() -> None:
    for stdin in (PIPE, DEVNULL, 0):
        with pytest.raises(ValueError, match="stdin and input arguments may not both be used"):
            await run_process("cat", stdin=stdin, input=b"x")
        with pytest.raises(ValueError, match="stdin and input arguments may not both be used"):
            subprocess.run("cat", stdin=stdin, input=b"x")


@pytest.mark.parametrize(
    ("input", "options"),
    [("text", {}), (b"bytes", {"text": True}), (3, {}), (b"bytes", {"encoding": "utf-8"})],
)
async def test_input_of_the_wrong_type_is_told_before_anything_starts(
    input: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):  # and not FileNotFoundError, which the start would raise
        await run_process(["/no/such/program"], input=input, **options)


async def test_an_unknown_option() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        await run_process("true", nonsense=1)  # type: ignore[call-arg]


async def test_output_that_cannot_be_decoded() -> None:
    with pytest.raises(UnicodeDecodeError):
        await run_process("printf '\\377'", encoding="utf-8")


# timeout


async def expired(command: str, said: bytes, **options: Any) -> subprocess.TimeoutExpired:
    """The TimeoutExpired of a program that had got as far as to say that.

    A short timeout is enough, but on a busy machine.
    """
    for timeout in (0.3, 1, 3, 9):
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            await run_process(command, timeout=timeout, **options)
        assert (caught.value.cmd, caught.value.timeout) == (command, timeout)
        if (caught.value.stdout or b"").startswith(said):
            break
    return caught.value


async def test_timeout_with_output_as_subprocess() -> None:
    command = "echo err >&2; echo out; exec sleep 600"
    ours = await expired(command, b"out\n")
    with pytest.raises(subprocess.TimeoutExpired) as theirs:
        subprocess.run(command, shell=True, capture_output=True, timeout=ours.timeout)
    assert vars(ours) == vars(theirs.value)
    assert (ours.stdout, ours.stderr) == (b"out\n", b"err\n")


async def test_timeout_carries_bytes_even_with_text() -> None:
    """As subprocess on POSIX (cpython#87597)."""
    said = "é".encode() + b"\xc3"
    error = await expired("printf 'é\\303'; exec sleep 600", said, encoding="utf-8")
    assert (error.stdout, error.stderr) == (said, None)


async def test_timeout_asks_first_and_kills_then(tmp_path: Path) -> None:
    """The program is asked, says so, goes on, and is killed after the grace."""
    command = f"echo $$ > {tmp_path}/pid; {TRAPS_TERM}"
    error = await expired(command, b"ready\n", grace=0.2)
    assert error.stdout == b"ready\nterm\n"
    assert not exists(int((tmp_path / "pid").read_text()))


async def test_timeout_of_a_program_that_ends_when_asked(tmp_path: Path) -> None:
    """It has its grace and uses it: were it killed, the file would not be there."""
    trap = f'trap "echo bye; touch {tmp_path}/tidied; exit" TERM; echo ready; '
    error = await expired(trap + "while :; do sleep 0.02; done", b"ready\n", grace=600)
    assert (tmp_path / "tidied").exists()
    assert error.stdout == b"ready\nbye\n"


async def test_timeout_without_grace_kills_at_once() -> None:
    error = await expired(TRAPS_TERM, b"ready\n", grace=0)
    assert error.stdout == b"ready\n"


async def test_timeout_that_does_not_come() -> None:
    result = await run_process("echo x", timeout=600)
    assert result.stdout == b"x\n"


@pytest.mark.parametrize("timeout", [0, -1])
async def test_timeout_of_nothing(timeout: float, tmp_path: Path) -> None:
    """Whether the program was started or not, it is not there afterwards."""
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        await run_process(f"echo $$ > {tmp_path}/pid; exec sleep 600", timeout=timeout)
    assert caught.value.timeout == timeout
    if (tmp_path / "pid").exists() and (text := (tmp_path / "pid").read_text()):
        assert not exists(int(text))


async def test_timeout_while_input_is_not_read() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        await run_process("exec sleep 600", input=bytes(1_000_000), timeout=0.1)


async def test_timeout_although_a_grandchild_holds_the_pipe() -> None:
    with gate() as (read, _, _):
        command = HOLD_STDOUT + "echo here; exec sleep 600"
        error = await expired(command, b"here\n", stdin=read, drain=None)
    assert error.stdout == b"here\n"


async def test_a_timeout_of_the_callers_own_is_not_ours() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await run_process("exec sleep 600", timeout=600)


async def test_errors_of_the_start_are_no_timeout() -> None:
    with pytest.raises(FileNotFoundError):
        await run_process(["/no/such/program"], timeout=600)


# Cancellation


async def running(script: str, tmp_path: Path, **options: Any) -> tuple[asyncio.Task[Any], int]:
    """A run under way, and the program's pid."""
    file = tmp_path / "pid"
    command = f"echo $$ > {file}.new; mv {file}.new {file}; " + script
    task = asyncio.create_task(run_process(command, **options))
    await until(file.exists)
    await turns()  # so that the loop, too, has seen that it started
    return task, int(file.read_text())


async def test_a_cancelled_program_is_dead_and_reaped(tmp_path: Path) -> None:
    task, pid = await running("exec sleep 600", tmp_path)
    assert exists(pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not exists(pid)


async def test_a_cancelled_program_is_asked_first(tmp_path: Path) -> None:
    script = f'trap "touch {tmp_path}/tidied; exit" TERM; touch {tmp_path}/ready; '
    task, pid = await running(script + "while :; do sleep 0.02; done", tmp_path, grace=600)
    await until((tmp_path / "ready").exists)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert not exists(pid)
    assert (tmp_path / "tidied").exists()
    assert caught.value.args == ("why",)


async def test_what_a_cancelled_program_writes_does_not_block_it(tmp_path: Path) -> None:
    """More than a pipe and a reader hold, in its handler of SIGTERM."""
    trap = f"trap 'head -c 1000000 /dev/zero; touch {tmp_path}/done; exit' TERM; "
    task, _ = await running(
        trap + f"touch {tmp_path}/ready; while :; do sleep 0.02; done", tmp_path, grace=600
    )
    await until((tmp_path / "ready").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "done").exists()


async def test_a_program_whose_start_the_loop_has_not_seen_yet_is_asked_too(
    tmp_path: Path,
) -> None:
    """The loop was busy while the program got under way: that is no reason to kill it unasked."""
    trap = f'trap "touch {tmp_path}/tidied; exit" TERM; touch {tmp_path}/ready; '
    task = asyncio.create_task(run_process(trap + "while :; do sleep 0.02; done", grace=600))
    await asyncio.sleep(0)
    for _ in range(3000):
        if (tmp_path / "ready").exists():
            break
        time.sleep(0.01)  # the loop stands still
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "tidied").exists()


async def test_a_cancelled_program_that_ignores_it_is_killed(tmp_path: Path) -> None:
    task, pid = await running('trap "" TERM; exec sleep 600', tmp_path, grace=0.1)
    await until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not exists(pid)


async def test_a_second_cancel_kills_at_once(tmp_path: Path) -> None:
    """The grace is ten minutes; the hang guard is less."""
    task, pid = await running('trap "" TERM; exec sleep 600', tmp_path, grace=600)
    await until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    task.cancel()
    await turns()
    assert not task.done()
    assert exists(pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not exists(pid)


@pytest.mark.heavy
async def test_a_cancel_during_the_grace_of_a_timeout_kills_at_once(tmp_path: Path) -> None:
    script = f'trap "touch {tmp_path}/asked" TERM; while :; do sleep 0.02; done'
    with hang_guard(60):
        task, pid = await running(script, tmp_path, grace=600, timeout=3)
        await until((tmp_path / "asked").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not exists(pid)


@pytest.mark.parametrize("count", range(12))
async def test_cancelled_at_any_turn_of_the_start(count: int) -> None:
    """Before, while and after the exec; the fixture looks for what might be left."""
    task = asyncio.create_task(run_process(["sleep", "600"], input=b"x", grace=0))
    await turns(count)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_many_at_once(tmp_path: Path) -> None:
    tasks = [
        asyncio.create_task(run_process(f"touch {tmp_path}/{n}; exec sleep 600")) for n in range(20)
    ]
    await until(lambda: len(os.listdir(tmp_path)) > 5)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}


async def test_a_task_group_ends_the_others() -> None:
    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_process("exec sleep 600"))
            group.create_task(run_process("exit 3"))

    with pytest.raises(ExceptionGroup) as caught:
        await together()
    (error,) = caught.value.exceptions
    assert isinstance(error, subprocess.CalledProcessError)


async def test_a_coroutine_that_is_thrown_away(tmp_path: Path) -> None:
    """As when its loop goes down in the middle: the program shall not run on."""
    pid_file = tmp_path / "pid"
    coroutine = run_process(f"echo $$ > {pid_file}; exec sleep 600", grace=600)
    task = asyncio.create_task(coroutine)
    await until(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    with warnings_given() as given:
        coroutine.close()
        await until(lambda: not exists(pid))
    assert given in ([], [(ResourceWarning, f"subprocess {pid} is still running")])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# A grandchild that holds the pipe


async def test_a_grandchild_does_not_hold_us() -> None:
    with gate() as (read, _, _):
        result = await run_process(HOLD_STDOUT + "echo here", stdin=read, drain=0.05)
    assert result.stdout == b"here\n"


@pytest.mark.heavy
async def test_a_grandchild_does_not_hold_us_by_default() -> None:
    with gate() as (read, _, _):
        result = await run_process(HOLD_STDOUT + "echo here", stdin=read)
    assert result.stdout == b"here\n"


async def test_the_grandchild_has_lost_its_reader_afterwards() -> None:
    """Our end is closed when run_process returns, so its next write fails."""
    read, write = os.pipe()
    try:
        result = await run_process(
            # It ends by SIGPIPE; the pipe that it holds open for reading is then broken, too.
            HOLD_STDOUT + "echo here",
            stdin=read,
            drain=0,
        )
        assert result.stdout == b"here\n"
        os.close(read)
        read = -1
        os.write(write, b"x")

        def broken() -> bool:
            try:
                os.write(write, b"x")
            except BrokenPipeError:
                return True
            return False

        await until(broken)
    finally:
        os.close(write)
        if read >= 0:
            os.close(read)


@pytest.mark.heavy
async def test_drain_none_waits_for_the_grandchild() -> None:
    with gate() as (read, release, write):
        task = asyncio.create_task(run_process(HOLD_STDOUT + "echo here", stdin=read, drain=None))
        await asyncio.sleep(1.3)  # longer than it would wait otherwise
        assert not task.done()
        os.write(write, b"late\n")
        release()
        assert (await task).stdout == b"here\nlate\n"


# What a program sees


async def test_the_program_may_end_before_it_is_looked_at() -> None:
    for _ in range(50):
        assert (await run_process(["/bin/true"])).returncode == 0


async def test_a_program_that_closes_its_output_goes_on() -> None:
    result = await run_process("echo out; exec >&- 2>&-; sleep 0.1; exit 4", check=False)
    assert (result.returncode, result.stdout) == (4, b"out\n")


async def test_output_of_a_killed_program() -> None:
    result = await run_process("echo out; kill -KILL $$", check=False)
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, b"out\n")


async def test_a_python_program() -> None:
    code = "import sys; print(sys.stdin.read()[::-1]); sys.exit('message')"
    result = await run_process([sys.executable, "-c", code], input="abc", text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (1, "cba\n", "message\n")


def test_the_types_are_those_of_subprocess() -> None:
    async def main() -> Any:
        return await run_process(["/bin/true"])

    assert type(asyncio.run(main())) is aiopidfd.CompletedProcess is subprocess.CompletedProcess


# Durations

BAD_SECONDS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "text": ({"timeout": "3"}, TypeError, "timeout must be a number of seconds, not str"),
    "grace": ({"grace": "x"}, TypeError, "grace must be a number of seconds, not str"),
    "no grace": ({"grace": None}, TypeError, "grace must be a number of seconds, not NoneType"),
    "negative": ({"grace": -1}, ValueError, "grace must not be negative: -1"),
    "drain": ({"drain": b""}, TypeError, "drain must be a number of seconds, not bytes"),
    "NaN": ({"timeout": float("nan")}, ValueError, "timeout must be a number of seconds, not NaN"),
}


@pytest.mark.parametrize("case", BAD_SECONDS)
async def test_a_duration_that_is_none_is_refused_before_the_start(
    case: str, tmp_path: Path
) -> None:
    options, error, message = BAD_SECONDS[case]
    started = tmp_path / "started"
    with pytest.raises(error, match=message):
        await aiopidfd.run_process(["touch", started], **options)
    if "timeout" not in options:
        with pytest.raises(error, match=message):
            await aiopidfd.anyio.run_process(["touch", started], **options)
        with pytest.raises(error, match=message):
            await aiopidfd.anyio.supervise(["touch", started], **options)
    assert not started.exists()


async def test_a_bad_grace_of_aclose() -> None:
    async with await aiopidfd.create_subprocess_exec("sleep", "60") as process:
        bad: Any = "x"
        with pytest.raises(TypeError, match="grace must be"):
            await process.aclose(grace=bad)
        assert process.returncode is None


def test_on_trio() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"on trio use aiopidfd\.anyio"):
            await aiopidfd.create_subprocess_exec("true")

    trio.run(main)
