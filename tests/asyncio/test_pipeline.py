"""run_pipeline: programs that read what the one before them writes, on asyncio, uvloop and trio."""

import asyncio
import functools
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError
from typing import Any

import anyio
import pytest

import aiopidfd
from aiopidfd import (
    PTY,
    CompletedPipeline,
    IdleTimeoutError,
    OutputLimitError,
    PipelineError,
    TimeoutExpired,
    run_pipeline,
)

from ..anyio_support import until
from ..census import childless, open_fds
from ..output_support import Collector, Host, on_all_hosts
from ..support import capacity, hang_guard, room_for
from .test_output import at_every_turn

# --- What it returns


@on_all_hosts
def test_three_programs(host: Host) -> None:
    async def body() -> None:
        commands = ["seq", "100"], ["grep", "1"], "wc -l; echo err >&2"
        result = await host.run_pipeline(*commands)
        assert result == CompletedPipeline(
            commands, (0, 0, 0), b"20\n", (b"", b"", b"err\n"), 0, (0, 0, 0)
        )
        assert result.returncode == 0

    host.run(body)


@on_all_hosts
def test_one_program(host: Host) -> None:
    async def body() -> None:
        result = await host.run_pipeline(["cat"], input=b"x")
        assert (result.returncodes, result.stdout, result.stderrs) == ((0,), b"x", (b"",))

    host.run(body)


@on_all_hosts
def test_much_goes_through_and_input_is_fed(host: Host) -> None:
    async def body() -> None:
        data = os.urandom(3_000_000)
        result = await host.run_pipeline(["cat"], ["tee", "/dev/stderr"], ["cat"], input=data)
        assert result.stdout == data
        assert result.stderrs == (b"", data, b"")

    host.run(body)


@on_all_hosts
def test_a_producer_whose_reader_has_enough_has_not_failed(host: Host) -> None:
    async def body() -> None:
        result = await host.run_pipeline(["yes"], ["cat"], ["head", "-n", "1"])
        assert result.returncodes == (-signal.SIGPIPE, -signal.SIGPIPE, 0)
        assert (result.returncode, result.stdout) == (0, b"y\n")
        # As a shell tells of its own program that ended so.
        result = await host.run_pipeline("(yes); exit $?", ["head", "-n", "1"])
        assert result.returncodes == (128 + signal.SIGPIPE, 0)
        assert result.returncode == 0

    host.run(body)


@on_all_hosts
def test_the_last_one_that_dies_of_sigpipe_has_failed(host: Host) -> None:
    async def body() -> None:
        result = await host.run_pipeline(["true"], "kill -PIPE $$", check=False)
        assert result.returncode == -signal.SIGPIPE

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize(
    ("codes", "expected", "at"),
    [
        ((0, 0, 0), 0, None),
        ((3, 0, 0), 3, 0),
        ((3, 4, 0), 4, 1),
        ((3, 4, 5), 5, 2),
        ((0, 4, 0), 4, 1),
    ],
)
def test_the_return_code_is_that_of_a_shell_with_pipefail(
    host: Host, codes: tuple[int, ...], expected: int, at: int | None
) -> None:
    async def body() -> None:
        commands = [f"cat >/dev/null; echo {code} >&2; exit {code}" for code in codes]
        result = await host.run_pipeline(*commands, stdin=DEVNULL, check=False)
        assert result.returncodes == codes
        assert result.returncode == expected
        script = f"set -o pipefail; {' | '.join(f'({command})' for command in commands)}"
        shell = subprocess.run(["bash", "-c", script], stdin=DEVNULL, stderr=DEVNULL, check=False)
        assert shell.returncode == expected
        if at is None:
            result.check_returncode()
            return
        with pytest.raises(PipelineError) as caught:
            await host.run_pipeline(*commands, stdin=DEVNULL)
        error = caught.value
        assert isinstance(error, CalledProcessError)
        assert (error.returncode, error.cmd) == (expected, commands[at])
        assert (error.stdout, error.stderr) == (b"", b"%d\n" % expected)
        assert error.result == result
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)

    host.run(body)


@on_all_hosts
def test_a_program_in_the_middle_that_fails_leaves_the_others_to_their_end(host: Host) -> None:
    async def body() -> None:
        result = await host.run_pipeline(["yes"], "exit 7", ["wc", "-c"], check=False)
        assert result.returncodes[1:] == (7, 0)
        assert result.returncodes[0] == -signal.SIGPIPE
        assert result.stdout == b"0\n"
        assert result.returncode == 7

    host.run(body)


@on_all_hosts
def test_where_the_outputs_go(host: Host, tmp_path: Path) -> None:
    async def body() -> None:
        lines, errors = Collector(), Collector()
        result = await host.run_pipeline(
            "echo a; echo one >&2", "cat; echo two >&2", stdout=[PIPE, lines], stderr=errors
        )
        assert (result.stdout, result.stderrs) == (b"a\n", (None, None))
        assert lines == [b"a"]
        assert sorted(errors) == [b"one", b"two"]
        with (tmp_path / "out").open("wb") as file:
            result = await host.run_pipeline(["echo", "x"], ["cat"], stdout=file, stderr=None)
        assert (result.stdout, result.stderrs) == (None, (None, None))
        assert (tmp_path / "out").read_bytes() == b"x\n"
        # What the first says of its mistakes goes to the second.
        result = await host.run_pipeline("echo bad >&2", ["cat"], stderr=STDOUT)
        assert (result.stdout, result.stderrs) == (b"bad\n", (None, None))

    host.run(body)


@on_all_hosts
def test_options_are_for_each(host: Host) -> None:
    async def body() -> None:
        result = await host.run_pipeline(
            "echo $A; pwd", "cat; echo $A; pwd", env={"A": "1"}, cwd="/"
        )
        assert result.stdout == b"1\n/\n1\n/\n"
        with pytest.raises(TypeError, match=r"run_pipeline\(\) got an unexpected .* 'nonsense'"):
            await host.run_pipeline(["true"], ["true"], nonsense=1)

    host.run(body)


async def test_text() -> None:
    result = await run_pipeline(["cat"], ["tr", "a-z", "A-Z"], input="grün\r\n", encoding="utf-8")
    assert (result.stdout, result.stderrs) == ("GRüN\n", ("", ""))


async def test_pipesize_is_for_the_pipes_between_too() -> None:
    size = "import fcntl, sys; print(fcntl.fcntl({}, 1032), file=sys.stderr)"
    first = [sys.executable, "-c", size.format(1)]
    result = await run_pipeline(first, ["cat"], pipesize=4096)
    assert result.stderrs[0] == b"4096\n"
    read, write = os.pipe()
    os.close(read)
    assert capacity(write) > 4096
    os.close(write)


# --- Mistakes


@on_all_hosts
def test_mistakes(host: Host) -> None:
    async def body() -> None:
        with pytest.raises(ValueError, match="a pipeline needs a command"):
            await host.run_pipeline()
        for choice in (PTY, [PTY, print]):
            with pytest.raises(ValueError, match="a pipeline has no terminal"):
                await host.run_pipeline(["true"], stderr=choice)
        with pytest.raises(ValueError, match="a pipeline has no terminal"):
            await host.run_pipeline(["true"], stdin=PTY)
        with pytest.raises(ValueError, match="input"):
            await host.run_pipeline(["true"], stdin=DEVNULL, input=b"")
        with pytest.raises(ValueError, match="idle_timeout needs an output"):
            await host.run_pipeline(["true"], stdout=None, stderr=None, idle_timeout=1)

    host.run(body)


async def test_a_stream_is_the_stderr_of_one_program_only() -> None:
    second = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    with pytest.raises(ValueError, match="several programs cannot share a stream for stderr"):
        await run_pipeline(["true"], ["true"], stderr=second.stdin)
    async with second:
        pass


@on_all_hosts
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_that_cannot_be_started_ends_those_before_it(host: Host, at: int) -> None:
    async def body() -> None:
        commands: list[Any] = ["sleep 600 & exec sleep 600"] * 3
        commands[at] = ["/nonexistent"]
        with pytest.raises(FileNotFoundError) as caught:
            await host.run_pipeline(*commands)
        assert caught.value.filename == "/nonexistent"
        assert childless()

    host.run(body)


async def test_no_descriptor_is_left() -> None:
    await run_pipeline(["true"], ["true"])
    for room in range(0, 40, 3):
        before = open_fds()
        try:
            with room_for(room):
                await run_pipeline(["true"], ["cat"], ["cat"])
        except OSError:
            assert childless()
        with hang_guard():  # a guardian may take a moment to end
            await until(lambda before=before: {*open_fds()} <= {*before})


# --- Ended together


@on_all_hosts
def test_cancelled_all_are_asked_to_end(host: Host, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(3)]

    async def body() -> None:
        ready = Collector()
        script = "trap 'touch {}; exit' TERM; echo ready >&2; while :; do sleep 0.02; done"
        scripts = [script.format(file) for file in files]
        call = functools.partial(host.run_pipeline, *scripts, stderr=ready, grace=50)
        if host.for_anyio:
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await until(lambda: len(ready) == 3)
                group.cancel_scope.cancel()
        else:  # a scope of anyio's cancels again and again, and the second time kills
            task = asyncio.create_task(call())
            await until(lambda: len(ready) == 3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert all(file.exists() for file in files)
        assert childless()

    host.run(body)


@on_all_hosts
def test_they_are_asked_together(host: Host, tmp_path: Path) -> None:
    """Each ends when all have been asked."""
    count = 5
    wait = f"while [ $(ls {tmp_path} | grep -c asked) -lt {count} ]; do sleep 0.02; done"
    script = "trap 'touch {0}/asked{1}; {2}; touch {0}/done{1}; exit' TERM; " + "echo {1} >&2; "
    commands = [
        script.format(tmp_path, number, wait) + "while :; do sleep 0.02; done"
        for number in range(count)
    ]

    async def body() -> None:
        heard: list[bytes] = []

        def fail_when_all_run(line: bytes) -> None:
            heard.append(line)
            if len(heard) == count:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await host.run_pipeline(*commands, stderr=fail_when_all_run, grace=50)
        assert len([*tmp_path.glob("done*")]) == count
        assert childless()

    host.run(body)


@pytest.mark.heavy
@on_all_hosts
def test_several_sinks_that_fail_are_a_group(host: Host) -> None:
    """And programs that ignore SIGTERM are killed, all of them."""

    async def body() -> None:
        heard: list[bytes] = []

        async def bad(line: bytes) -> None:
            heard.append(line)
            await until(lambda: len(heard) == 3)
            raise ZeroDivisionError

        stubborn = "trap '' TERM; echo x >&2; while :; do sleep 0.1; done"
        with pytest.raises(ExceptionGroup) as caught:
            await host.run_pipeline(*[stubborn] * 3, stderr=bad, grace=1)
        assert {type(exc) for exc in caught.value.exceptions} == {ZeroDivisionError}
        assert childless()

    host.run(body)


async def test_a_second_cancellation_kills_at_once(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; touch {}; while :; do sleep 0.1; done"
    files = [tmp_path / str(number) for number in range(2)]
    with hang_guard():
        call = run_pipeline(*(stubborn.format(file) for file in files), grace=600)
        task = asyncio.create_task(call)
        await until(lambda: all(file.exists() for file in files))
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert childless()


async def test_one_timeout_for_all() -> None:
    commands = ["echo err >&2; sleep 600", "echo out; cat", "cat; sleep 600"]
    for timeout in (0.3, 1, 3, 9):
        with pytest.raises(TimeoutExpired) as caught:
            await run_pipeline(*commands, timeout=timeout)
        assert type(caught.value) is TimeoutExpired
        assert (caught.value.cmd, caught.value.timeout) == (commands, timeout)
        assert childless()
        if caught.value.stdout and caught.value.stderr:
            break
    assert (caught.value.stdout, caught.value.stderr) == (b"out\n", b"err\n")


@pytest.mark.heavy
@on_all_hosts
def test_silence_of_all(host: Host) -> None:
    async def body() -> None:
        commands = ["echo err >&2; sleep 600", "echo out; cat"]
        with pytest.raises(IdleTimeoutError) as caught:
            await host.run_pipeline(*commands, idle_timeout=0.7)
        assert (caught.value.cmd, caught.value.timeout) == (commands, 0.7)
        assert (caught.value.stdout, caught.value.stderr) == (b"out\n", b"err\n")
        # One that speaks is enough.
        speaks = "for i in 1 2 3 4 5 6 7 8; do sleep 0.3; echo >&2; done"
        assert (await host.run_pipeline(speaks, ["cat"], idle_timeout=2.2)).returncode == 0

    host.run(body)


@on_all_hosts
def test_bounded(host: Host) -> None:
    async def body() -> None:
        with pytest.raises(OutputLimitError) as caught:
            await host.run_pipeline(["yes"], ["cat"], output_limit=4)
        error = caught.value
        assert (error.cmd, error.stream, error.stdout) == (["cat"], "stdout", b"y\ny\n")
        with pytest.raises(OutputLimitError) as caught:
            await host.run_pipeline("yes >&2", ["sleep", "600"], output_limit=4)
        error = caught.value
        assert (error.cmd, error.stream, error.stdout, error.stderr) == (
            "yes >&2",
            "stderr",
            None,
            b"y\ny\n",
        )
        result = await host.run_pipeline("echo 12345 >&2", "seq 9", output_limit=4, on_limit="tail")
        assert (result.stdout, result.stdout_dropped) == (b"8\n9\n", 14)
        assert (result.stderrs, result.stderrs_dropped) == ((b"345\n", b""), (2, 0))
        assert childless()

    host.run(body)


@pytest.mark.heavy
async def test_cancelled_at_every_turn() -> None:
    call = functools.partial(run_pipeline, ["cat"], "cat; echo err >&2", input=b"x", grace=0)
    assert await at_every_turn(call) > 3


async def test_a_coroutine_that_is_thrown_away(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(2)]
    coroutine = run_pipeline(*(f"echo $$ >{file}; exec sleep 600" for file in files), grace=600)
    task = asyncio.create_task(coroutine)
    await until(lambda: all(file.exists() and file.read_text() for file in files))
    pids = [int(file.read_text()) for file in files]
    coroutine.close()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@on_all_hosts
def test_options_that_can_be_read_once(host: Host) -> None:
    """They hold for each of the programs."""

    async def body() -> None:
        read, write = os.pipe()
        try:
            has = f"[ -e /proc/self/fd/{read} ] && echo yes >&2; cat"
            result = await host.run_pipeline(has, has, has, input=b"", pass_fds=iter([read]))
            assert result.stderrs == (b"yes\n",) * 3
        finally:
            os.close(read)
            os.close(write)
        cpu = min(os.sched_getaffinity(0))
        result = await host.run_pipeline(
            "nproc >&2", "nproc >&2", "nproc", cpu_affinity=(number for number in [cpu])
        )
        assert (result.stdout, *result.stderrs[:2]) == (b"1\n",) * 3

    host.run(body)
