"""Output that is bounded, shown, told line by line, or missing for too long: run_process."""

import asyncio
import contextlib
import functools
import gc
import io
import os
import pickle
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError
from typing import Any

import anyio
import pytest

import aiopidfd
from aiopidfd import PTY, BoundedProcess, IdleTimeoutError, OutputLimitError, TimeoutExpired
from aiopidfd._spawn.output_limit import Capture

from .. import fresh
from ..anyio_support import until
from ..census import childless, open_fds
from ..output_support import HOSTS, Collector, Host, on_all_hosts
from ..support import HOLD_STDOUT, gate, hang_guard

# --- What is kept


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 2, 7, 64])
def test_a_capture_keeps_the_first_or_the_last_bytes(limit: int, tail: bool) -> None:
    rng = random.Random(limit)
    for _ in range(300):
        capture, said = Capture(limit, tail=tail), b""
        for _ in range(rng.randrange(8)):
            chunk = rng.randbytes(rng.randrange(3 * limit + 3))
            capture.feed(chunk)
            said += chunk
            kept = said[max(len(said) - limit, 0) :] if tail else said[:limit]
            assert capture.value() == kept
            assert capture.dropped == len(said) - len(kept)


def test_a_capture_without_a_limit() -> None:
    capture = Capture()
    capture.feed(b"a" * 100_000)
    capture.feed(b"b")
    assert capture.value() == b"a" * 100_000 + b"b"
    assert capture.dropped == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-le", "shift_jis", "latin-1"])
def test_a_character_that_the_limit_cuts_is_dropped(encoding: str) -> None:
    text = "aé漢b" if encoding not in ("latin-1", "shift_jis") else "aéb"
    text = "a漢字b" if encoding == "shift_jis" else text
    data = text.encode(encoding)
    for limit in range(len(data)):
        capture = Capture(limit)
        capture.feed(data)
        assert text.startswith(capture.value(encoding).decode(encoding))


def test_a_character_that_the_limit_cuts_at_the_start() -> None:
    text = "aé漢😀b"
    data = text.encode()
    for limit in range(len(data)):
        capture = Capture(limit, tail=True)
        capture.feed(data)
        assert text.endswith(capture.value("utf-8").decode())


# --- output_limit


@on_all_hosts
@pytest.mark.parametrize("on_limit", ["raise", "head", "tail"])
def test_output_within_the_limit(host: Host, on_limit: str) -> None:
    async def body() -> None:
        result = await host.run_process(
            "printf 12345; printf 123 >&2", output_limit=5, on_limit=on_limit
        )
        assert type(result) is BoundedProcess
        assert (result.stdout, result.stderr) == (b"12345", b"123")
        assert (result.stdout_dropped, result.stderr_dropped) == (0, 0)

    host.run(body)


@on_all_hosts
def test_without_a_limit_the_result_is_subprocess_s_own(host: Host) -> None:
    async def body() -> None:
        assert type(await host.run_process("true")) is subprocess.CompletedProcess
        lines = Collector()
        result = await host.run_process("echo x", stdout=[PIPE, lines])
        assert type(result) is subprocess.CompletedProcess

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize(
    ("on_limit", "out", "err"), [("head", b"12345", b"abc"), ("tail", b"56789", b"abc")]
)
def test_the_first_or_the_last_bytes(host: Host, on_limit: str, out: bytes, err: bytes) -> None:
    async def body() -> None:
        result = await host.run_process(
            "printf 1234; sleep 0.05; printf 56789; printf abc >&2; exit 3",
            output_limit=5,
            on_limit=on_limit,
            check=False,
        )
        assert (result.returncode, result.stdout, result.stderr) == (3, out, err)
        assert (result.stdout_dropped, result.stderr_dropped) == (4, 0)
        assert repr(result).endswith(", stdout_dropped=4, stderr_dropped=0)")

    host.run(body)


@on_all_hosts
def test_of_very_much_the_rest_is_read_and_dropped(host: Host) -> None:
    """Both outputs, at once: the program runs to its end."""

    async def body() -> None:
        script = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2; echo end; echo end >&2"
        for on_limit, kept in (("head", bytes(1000)), ("tail", bytes(996) + b"end\n")):
            result = await host.run_process(script, output_limit=1000, on_limit=on_limit)
            assert result.stdout == result.stderr == kept
            assert (result.stdout_dropped, result.stderr_dropped) == (2_999_004, 1_999_004)

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_beyond_the_limit_the_tree_is_ended(host: Host, stream: str, tmp_path: Path) -> None:
    redirection = "" if stream == "stdout" else ">&2"
    script = f"echo $$ >{tmp_path}/pid; printf out; printf err >&2; sleep 600 & exec yes "

    async def body() -> None:
        with pytest.raises(OutputLimitError) as caught:
            await host.run_process(script + redirection, output_limit=1000)
        error = caught.value
        assert isinstance(error, subprocess.SubprocessError)
        assert (error.cmd, error.stream, error.limit) == (script + redirection, stream, 1000)
        start = {"stdout": b"out", "stderr": b"err"}
        start[stream] = (start[stream] + b"y\n" * 500)[:1000]
        assert (error.stdout, error.stderr) == (start["stdout"], start["stderr"])
        assert f"wrote more than 1000 bytes to its {stream}" in str(error)
        assert childless()
        copy = pickle.loads(pickle.dumps(error))
        assert vars(copy) == vars(error)

    host.run(body)
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


@on_all_hosts
def test_both_outputs_beyond_the_limit_are_one_error(host: Host) -> None:
    async def body() -> None:
        for _ in range(10):
            with pytest.raises(OutputLimitError) as caught:
                await host.run_process("yes & yes >&2", output_limit=5, grace=0)
            assert len(caught.value.stdout or b"") <= 5
            assert len(caught.value.stderr or b"") <= 5

    host.run(body)


@on_all_hosts
def test_the_limit_is_passed_when_it_has_already_exited(host: Host) -> None:
    async def body() -> None:
        with pytest.raises(OutputLimitError) as caught:
            await host.run_process(["printf", "123456"], output_limit=5)
        assert caught.value.stdout == b"12345"

    host.run(body)


@on_all_hosts
def test_check_says_what_was_dropped(host: Host) -> None:
    async def body() -> None:
        with pytest.raises(CalledProcessError) as caught:
            await host.run_process("printf 123456; exit 3", output_limit=5, on_limit="head")
        assert (caught.value.returncode, caught.value.stdout) == (3, b"12345")
        assert caught.value.__notes__ == ["1 bytes of its stdout were not kept"]

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize("options", [{"timeout": 0.3}, {"idle_timeout": 0.3}], ids=str)
def test_a_timeout_says_what_was_dropped(host: Host, options: dict[str, Any]) -> None:
    async def body() -> None:
        with pytest.raises(TimeoutExpired) as caught:
            await host.run_process(
                "printf 123456; exec sleep 600", output_limit=4, on_limit="head", **options
            )
        assert caught.value.output == b"1234"
        assert caught.value.__notes__ == ["2 bytes of its stdout were not kept"]

    host.run(body)


@on_all_hosts
def test_what_was_kept_and_what_was_dropped_is_all(host: Host) -> None:
    """A piece of a character is in neither half of the text."""

    async def body() -> None:
        for on_limit in ("head", "tail"):
            result = await host.run_process(
                ["printf", "漢" * 7], text=True, output_limit=10, on_limit=on_limit
            )
            assert result.stdout == "漢" * 3
            assert result.stdout_dropped == 4 * 3

    host.run(body)


def test_the_error_of_a_limit_has_output_too() -> None:
    assert OutputLimitError("x", "stdout", 1, b"out", b"err").output == b"out"


@on_all_hosts
def test_a_limit_of_nothing(host: Host) -> None:
    async def body() -> None:
        result = await host.run_process("true", output_limit=0)
        assert result.stdout == b""
        result = await host.run_process("echo x", output_limit=0, on_limit="tail")
        assert (result.stdout, result.stdout_dropped) == (b"", 2)
        with pytest.raises(OutputLimitError):
            await host.run_process("echo x", output_limit=0)

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output_limit": "5"}, TypeError, "output_limit must be a number of bytes, not str"),
        ({"output_limit": 1.5}, TypeError, "output_limit must be a number of bytes, not float"),
        ({"output_limit": True}, TypeError, "output_limit must be a number of bytes, not bool"),
        ({"output_limit": -1}, ValueError, "output_limit must not be negative: -1"),
        ({"on_limit": "tail"}, ValueError, "on_limit='tail' needs an output_limit"),
        (
            {"output_limit": 5, "stdout": print, "stderr": DEVNULL},
            ValueError,
            "output_limit needs an output that is captured: PIPE",
        ),
        ({"output_limit": 5, "on_limit": "x"}, ValueError, "must be 'raise', 'head' or 'tail'"),
        ({"idle_timeout": "x"}, TypeError, "idle_timeout must be a number of seconds, not str"),
    ],
)
def test_limits_that_are_none(
    host: Host, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    async def body() -> None:
        with pytest.raises(error, match=re.escape(message)):
            await host.run_process(["touch", tmp_path / "started"], **options)
        with pytest.raises(error, match=re.escape(message)):
            await host.run_pipeline(["touch", tmp_path / "started"], **options)

    host.run(body)
    assert not (tmp_path / "started").exists()


MEMORY = """
    import tracemalloc
    from tests.output_support import Host

    LIMIT = 32 << 20

    def peak():
        # What the process has ever held (proc_pid_status(5)), beside what it is itself.
        lines = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
        return int(lines["VmHWM"].split()[0]) << 10

    async def body():
        await host.run_process("yes | head -c 10000000", output_limit=10, on_limit="tail")
        before = peak()
        try:
            result = await host.run_process(
                "yes | head -c %d" % (8 * LIMIT), output_limit=LIMIT, on_limit={on_limit!r})
        except aiopidfd.OutputLimitError as exc:
            result = exc
        assert len(result.stdout) == LIMIT
        del result
        print((peak() - before) / LIMIT)

    host = Host({name!r}, {for_anyio!r})
    host.run(body)
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    "host", [param for param in HOSTS if param.id in ("asyncio", "trio-anyio")]
)
@pytest.mark.parametrize("on_limit", ["raise", "head", "tail"])
def test_memory_is_within_twice_the_limit(host: Host, on_limit: str) -> None:
    code = MEMORY.format(name=host.name, for_anyio=host.for_anyio, on_limit=on_limit)
    assert float(fresh.run(code)) < 2.1  # some buffers beside


# --- output_limit, text and communicate()


@on_all_hosts
def test_text_is_cut_between_characters(host: Host) -> None:
    async def body() -> None:
        command = ["printf", "é" * 10]
        options: dict[str, Any] = {"encoding": "utf-8", "output_limit": 5}
        for on_limit in ("head", "tail"):
            result = await host.run_process(command, on_limit=on_limit, **options)
            assert (result.stdout, result.stdout_dropped) == ("éé", 16)
            result = await host.run_pipeline(command, on_limit=on_limit, **options)
            assert (result.stdout, result.stdout_dropped) == ("éé", 16)
        with pytest.raises(OutputLimitError) as caught:
            await host.run_process(command, **options)
        assert caught.value.stdout == ("é" * 10).encode()[:5]

    host.run(body)


@on_all_hosts
def test_text_in_and_out(host: Host) -> None:
    async def body() -> None:
        for options in ({"text": True}, {"encoding": "utf-8"}, {"errors": "replace"}):
            result = await host.run_process(["cat"], input="a\r\nb", **options)
            assert (result.stdout, result.stderr) == ("a\nb", "")
            result = await host.run_pipeline(["cat"], ["cat"], input="a\r\nb", **options)
            assert (result.stdout, result.stderrs) == ("a\nb", ("", ""))
        for call in (host.run_process, host.run_pipeline):
            assert (await call(["echo", "x"], text=False)).stdout == b"x\n"
            with pytest.raises(TypeError, match="input must be str, not bytes"):
                await call(["cat"], input=b"", text=True)
            with pytest.raises(LookupError):
                await call(["/nonexistent"], encoding="nonsense")
            with pytest.raises(CalledProcessError) as caught:
                await call("echo out; echo err >&2; exit 3", text=True)
            assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")

    host.run(body)


async def test_communicate_with_a_limit() -> None:
    script = "cat; printf err >&2"
    for on_limit, out in (("head", b"01234"), ("tail", b"56789")):
        process = await aiopidfd.create_subprocess_shell(
            script, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        said = await process.communicate(b"0123456789", output_limit=5, on_limit=on_limit)
        assert said == (out, b"err")
        assert process.dropped == (5, 0)
        assert process.returncode == 0


async def test_communicate_with_a_limit_in_text() -> None:
    process = await aiopidfd.create_subprocess_shell("cat", stdin=PIPE, stdout=PIPE, text=True)
    said = await process.communicate("aéé", output_limit=4, on_limit="head")
    assert said == ("aé", None)
    assert process.dropped == (2, 0)


async def test_communicate_beyond_the_limit_ends_it() -> None:
    process = await aiopidfd.create_subprocess_exec("yes", stdout=PIPE)
    with pytest.raises(OutputLimitError) as caught:
        await process.communicate(output_limit=4)
    assert (caught.value.cmd, caught.value.stdout, caught.value.stderr) == (
        ["yes"],
        b"y\ny\n",
        None,
    )
    assert process.returncode == -signal.SIGTERM


async def test_communicate_beyond_the_limit_cancelled_and_called_again() -> None:
    """The rest of what was written is gone: that is no success."""
    deaf = "trap '' TERM; echo 123456; while :; do sleep 0.02; done"
    process = await aiopidfd.create_subprocess_shell(deaf, stdout=PIPE)
    task = asyncio.ensure_future(process.communicate(output_limit=4))
    await until(lambda: process.dropped[0])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await process.aclose(grace=0)
    for _ in range(2):
        with pytest.raises(OutputLimitError) as caught:
            await process.communicate()
        assert (caught.value.stdout, caught.value.limit) == (b"1234", 4)


async def test_communicate_with_a_limit_of_what_is_not_captured() -> None:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    with pytest.raises(ValueError, match="output_limit needs an output that is captured"):
        await process.communicate(output_limit=10)
    assert await process.communicate() == (None, None)


async def test_communicate_with_a_limit_cancelled_loses_nothing() -> None:
    """And leaves the program alone; the next call goes on, with the same limit."""
    script = "printf 12; read x; printf 3456; exit 7"
    process = await aiopidfd.create_subprocess_shell(script, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    stdin = process.stdin
    process._streams = process._streams._replace(stdin=None)  # it stays open
    before = [*process._watch._exit]
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await process.communicate(output_limit=5, on_limit="tail")
    assert process.returncode is None
    assert process._watch._exit == before
    with pytest.raises(ValueError, match="with another limit"):
        await process.communicate(output_limit=6)
    stdin.write(b"\n")
    assert await process.communicate() == (b"23456", None)
    assert process.dropped == (1, 0)
    assert process.returncode == 7
    stdin.close()


@pytest.mark.parametrize("second", [None, 5])
async def test_communicate_with_a_limit_twice_in_one_turn(second: int | None) -> None:
    """The second is refused, and the first goes on."""
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    first = asyncio.create_task(process.communicate(b"12345", output_limit=5))
    refused = asyncio.create_task(process.communicate(output_limit=second))
    with pytest.raises(RuntimeError, match="already waiting for incoming data"):
        await refused
    assert await first == (b"12345", None)
    assert await process.communicate() == (b"12345", None)
    assert process.returncode == 0


async def test_communicate_with_a_limit_while_somebody_reads_leaves_the_program_alone() -> None:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    reading = asyncio.create_task(process.stdout.readline())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already waiting for incoming data"):
        await process.communicate(output_limit=5)
    assert process.returncode is None
    assert process.stdin is not None
    process.stdin.write(b"x\nyz")
    assert await reading == b"x\n"
    assert await process.communicate(output_limit=5) == (b"yz", None)


@pytest.mark.parametrize("turns", range(1, 40, 3))
async def test_communicate_with_a_limit_cancelled_at_any_turn(turns: int) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo $i; done"
    process = await aiopidfd.create_subprocess_shell(script, stdout=PIPE)
    task = asyncio.create_task(process.communicate(output_limit=4, on_limit="tail"))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await process.communicate() == (b"8\n9\n", None)
    assert process.dropped == (14, 0)


# --- Sinks


@on_all_hosts
def test_lines_to_a_function_and_captured(host: Host) -> None:
    async def body() -> None:
        out, err = Collector(), Collector()
        result = await host.run_process(
            "echo a; echo b; printf c; echo d >&2", stdout=[PIPE, out], stderr=err
        )
        assert (out, err) == ([b"a", b"b", b"c"], [b"d"])
        assert (result.stdout, result.stderr) == (b"a\nb\nc", None)

    host.run(body)


@on_all_hosts
def test_a_coroutine_function(host: Host) -> None:
    async def body() -> None:
        got: list[bytes] = []

        async def slow(line: bytes) -> None:
            await anyio.sleep(0.01)
            got.append(line)

        result = await host.run_process("seq 1 20", stdout=[slow, PIPE])
        assert got == [b"%d" % number for number in range(1, 21)]
        assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 21))

    host.run(body)


@on_all_hosts
def test_several_sinks_of_one_output(host: Host, tmp_path: Path) -> None:
    async def body() -> None:
        text, lines = io.StringIO(), Collector()
        with (tmp_path / "out").open("wb") as file:
            await host.run_process("printf 'a\\r\\nb\\303\\244'", stdout=[file, text, lines])
        assert (tmp_path / "out").read_bytes() == b"a\r\nb\xc3\xa4"
        assert text.getvalue() == "a\r\nbä"  # as the program has said it
        assert lines == [b"a\r", b"b\xc3\xa4"]

    host.run(body)


@on_all_hosts
def test_a_tee_to_our_own_stdout(host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    """In the right order with what we print ourselves, and bytes as they are."""

    async def body() -> None:
        with os.fdopen(os.dup(1), "w") as stdout:  # as a sys.stdout that is a file: it is buffered
            print("before", file=stdout)
            result = await host.run_process("printf 'a\\377'", stdout=[PIPE, stdout])
            print("after", file=stdout)
        assert result.stdout == b"a\xff"

    host.run(body)
    assert capfd.readouterr().out.encode("utf-8", "surrogateescape").startswith(b"before\na")


@on_all_hosts
def test_a_file_without_a_buffer(host: Host) -> None:
    async def body() -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            await host.run_process("head -c 300000 /dev/zero", stdout=[file])
            assert file.tell() == 300_000

    host.run(body)


@on_all_hosts
def test_a_file_that_takes_no_more_ends_the_program(host: Host) -> None:
    async def body() -> None:
        read, write = os.pipe()
        os.set_blocking(write, False)
        with (
            open(read, "rb"),
            open(write, "wb", buffering=0) as file,
            pytest.raises(BlockingIOError),
        ):
            await host.run_process("yes", stdout=[file])
        with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            await host.run_process("yes", stdout=[file])
        assert childless()

    host.run(body)


@on_all_hosts
def test_a_sink_that_raises_ends_the_tree(host: Host) -> None:
    async def bad_later(line: bytes) -> None:
        await anyio.sleep(0)
        raise ZeroDivisionError

    def bad(line: bytes) -> None:
        raise ZeroDivisionError

    async def body() -> None:
        for sink in (bad, bad_later, [PIPE, bad], [bad, PIPE]):
            with pytest.raises(ZeroDivisionError):
                await host.run_process("sleep 600 & yes", stdout=sink)
            with pytest.raises(ZeroDivisionError):
                await host.run_process(["echo", "once"], stdout=sink)
        assert childless()

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize("error", [pytest.fail.Exception, BaseExceptionGroup])
def test_a_sink_that_raises_no_exception_ends_the_tree(
    host: Host, error: type[BaseException]
) -> None:
    """What pytest.fail(), pytest.skip() and gevent.Timeout raise is no `Exception`."""
    given = [pytest.skip.Exception("x")] if error is BaseExceptionGroup else []

    def bad(line: bytes) -> None:
        raise error("bad line", *[given] if given else [])

    async def bad_later(line: bytes) -> None:
        await anyio.sleep(0)
        bad(line)

    async def body() -> None:
        for sink in (bad, bad_later, [PIPE, bad]):
            with pytest.raises(error, match="bad line"):
                await host.run_process("sleep 600 & yes", stdout=sink)
            with pytest.raises(error, match="bad line"):
                await host.run_process(["echo", "once"], stdout=sink)
            with pytest.raises(error, match="bad line"):
                await host.run_pipeline(["yes"], ["cat"], stdout=sink)
            with pytest.raises(error, match="bad line"):
                await host.supervise(["yes"], stdout=sink if callable(sink) else bad)
        assert childless()

    host.run(body)


@on_all_hosts
def test_a_sink_raises_and_the_program_still_writes_a_lot(host: Host, tmp_path: Path) -> None:
    """Nobody takes it any more, but the program ends in its own way."""

    async def body() -> None:
        def bad(line: bytes) -> None:
            raise ZeroDivisionError

        done = tmp_path / "done"
        handler = f"seq 1 100000; echo done >{done}; exit 0"
        script = f"trap '{handler}' TERM; echo; while :; do sleep 0.02; done"
        with pytest.raises(ZeroDivisionError):
            await host.run_process(script, stdout=[bad], grace=50)
        assert done.read_text() == "done\n"

    host.run(body)


@on_all_hosts
def test_a_sink_whose_own_wait_is_cancelled_ends_the_program(host: Host) -> None:
    """Nobody would read what it goes on writing."""
    if host.is_trio:
        pytest.skip("there is no such thing")

    async def body() -> None:
        async def cancelled(line: bytes) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        with pytest.raises(RuntimeError, match=r"what a sink .* awaited was cancelled"):
            await host.run_process("yes", stdout=cancelled)
        assert childless()

    host.run(body)


@on_all_hosts
def test_a_slow_sink_makes_the_program_wait(host: Host, tmp_path: Path) -> None:
    """It cannot have written all of it while the first line is being dealt with."""

    async def body() -> None:
        done = tmp_path / "done"
        early: list[bool] = []

        async def slow(line: bytes) -> None:
            if not early:
                await anyio.sleep(0.2)
            early.append(done.exists())

        script = f"for i in $(seq 50); do printf '%0100000d\\n' $i; done; touch {done}"
        await host.run_process(script, stdout=slow)
        assert len(early) == 50
        assert not early[0]

    host.run(body)


LINES_IN_A_CHUNK = 32_768  # of `yes`, in a pipe


@on_all_hosts
def test_a_slow_function_holds_up_neither_a_timeout_nor_the_loop(host: Host) -> None:
    """A chunk has so many lines that a function may need minutes for it."""

    async def body() -> None:
        told: list[int] = []  # how often the loop had turned
        turns = 0

        def slow(line: bytes) -> None:
            told.append(turns)
            time.sleep(0.0003)

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.sleep(0)

        async with anyio.create_task_group() as group:
            group.start_soon(turn)
            with pytest.raises(TimeoutExpired):
                await host.run_process(["yes"], stdout=slow, timeout=0.1)
            assert 0 < len(told) < LINES_IN_A_CHUNK / 2
            assert len(set(told)) > 10
            told.clear()
            with anyio.move_on_after(0.1):
                await host.run_process(["yes"], stdout=slow)
            assert 0 < len(told) < LINES_IN_A_CHUNK / 2
            group.cancel_scope.cancel()

    host.run(body)


@on_all_hosts
def test_what_the_program_wrote_is_not_lost_to_a_slow_sink_and_a_grandchild(host: Host) -> None:
    """The pipe and our buffers are full, and somebody else holds the other end."""

    async def body() -> None:
        with gate() as (read, _, _):
            got: list[int] = []

            async def slow(line: bytes) -> None:
                await anyio.sleep(0.01)
                got.append(len(line))

            script = (
                HOLD_STDOUT + "for i in $(seq 30); do printf '%010000d\\n' $i; done; printf end"
            )
            result = await host.run_process(script, stdin=read, stdout=[PIPE, slow], drain=0)
            assert got == [10_000] * 30 + [3]
            assert len(result.stdout) == 300_033

    host.run(body)


@on_all_hosts
def test_lines_to_a_function_beyond_the_limit(host: Host) -> None:
    """The limit is for what is kept; who is told is told all of it, if it is dropped only."""

    async def body() -> None:
        lines = Collector()
        result = await host.run_process(
            "seq 1 1000", stdout=[PIPE, lines], output_limit=4, on_limit="tail"
        )
        assert len(lines) == 1000
        assert result.stdout == b"000\n"

    host.run(body)


@on_all_hosts
def test_stderr_into_a_list(host: Host) -> None:
    async def body() -> None:
        lines = Collector()
        result = await host.run_process(
            "echo a; echo b >&2; echo c", stdout=[PIPE, lines], stderr=STDOUT
        )
        assert lines == [b"a", b"b", b"c"]
        assert (result.stdout, result.stderr) == (b"a\nb\nc\n", None)

    host.run(body)


@on_all_hosts
def test_a_terminal_in_a_list(host: Host) -> None:
    async def body() -> None:
        lines = Collector()
        result = await host.run_process(
            "test -t 1 && echo yes", stdin=DEVNULL, stdout=[PTY, lines], stderr=PTY
        )
        assert (result.stdout, result.stderr) == (b"yes\r\n", None)
        assert lines == [b"yes\r"]
        with pytest.raises(ValueError, match="one terminal: its sinks are those of stdout"):
            await host.run_process("true", stdout=PTY, stderr=[PTY, lines])

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ([], ValueError, "stdout is an empty list"),
        (["file"], TypeError, "stdout must be PIPE, .* not a list with str"),
        ([PIPE, DEVNULL], TypeError, "not a list with -3"),
        ([PIPE, None], TypeError, "a list with NoneType"),
        ("file", TypeError, "stdout must be PIPE, .* not str"),
        (1.5, TypeError, "not float"),
    ],
)
def test_what_is_no_output(host: Host, choice: Any, error: Any, message: str) -> None:
    async def body() -> None:
        for call in (host.run_process, host.supervise, host.run_pipeline):
            with pytest.raises(error, match=message):
                await call(["/nonexistent"], stdout=choice)

    host.run(body)


@on_all_hosts
def test_an_async_generator_is_no_sink(host: Host) -> None:
    async def generator(line: str) -> AsyncIterator[str]:
        yield line

    async def body() -> None:
        for choice in (generator, [PIPE, generator]):
            with pytest.raises(TypeError, match="stdout must be a function, not an async gen"):
                await host.run_process(["true"], stdout=choice)
        with pytest.raises(TypeError, match="on_output must be a function"):
            await host.run_process(["true"], on_output=generator)

    host.run(body)


@on_all_hosts
def test_text_for_functions(host: Host) -> None:
    async def body() -> None:
        lines, file = Collector(), io.StringIO()
        result = await host.run_process(
            "printf 'a\\r\\nb\\303\\244'", stdout=[PIPE, lines, file], encoding="utf-8"
        )
        assert lines == ["a", "bä"]
        assert result.stdout == "a\nbä"
        assert file.getvalue() == "a\r\nbä"
        with pytest.raises(UnicodeDecodeError):
            await host.run_process("printf '\\377'; exec sleep 600", stdout=lines, encoding="utf-8")

    host.run(body)


# --- Streams of asyncio


async def test_a_stream_writer_gets_it_and_is_closed() -> None:
    with hang_guard():
        second = await aiopidfd.create_subprocess_exec("wc", "-c", stdin=PIPE, stdout=PIPE)
        await aiopidfd.run_process("head -c 1000000 /dev/zero", stdout=second.stdin)
        assert await second.communicate() == (b"1000000\n", None)


async def test_a_text_writer_gets_text() -> None:
    with hang_guard():
        second = await aiopidfd.create_subprocess_exec(
            "cat", stdin=PIPE, stdout=PIPE, encoding="utf-16-le"
        )
        await aiopidfd.run_process(["printf", "aé"], stdout=[PIPE, second.stdin], encoding="utf-8")
        assert await second.communicate() == ("aé", None)


async def test_a_stream_that_breaks_ends_the_program() -> None:
    with hang_guard():
        second = await aiopidfd.create_subprocess_shell("read x", stdin=PIPE)
        with pytest.raises(ConnectionError):
            await aiopidfd.run_process("yes", stdout=second.stdin)
        assert await second.wait() == 0


async def test_one_stream_for_both_is_refused() -> None:
    second = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    with pytest.raises(ValueError, match="cannot share a stream"):
        await aiopidfd.run_process(["true"], stdout=second.stdin, stderr=[PIPE, second.stdin])
    async with second:
        pass


async def test_a_stream_of_a_program_that_did_not_start_is_let_go() -> None:
    with hang_guard():
        second = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
        with pytest.raises(FileNotFoundError):
            await aiopidfd.run_process(["/nonexistent"], stdout=second.stdin)
        assert await second.wait() == 0


# --- One function for both


@pytest.mark.heavy
@on_all_hosts
def test_one_function_for_both_in_the_order_of_arrival(host: Host) -> None:
    async def body() -> None:
        script = "echo 1; sleep 0.1; echo 2 >&2; sleep 0.1; echo 3; sleep 0.1; printf 4 >&2"
        got = Collector()
        result = await host.run_process(script, on_output=got)
        expected = [("stdout", b"1"), ("stderr", b"2"), ("stdout", b"3"), ("stderr", b"4")]
        assert got == expected
        assert (result.stdout, result.stderr) == (b"1\n3\n", b"2\n4")

        again: list[Any] = []

        async def slowly(name: str, line: bytes) -> None:
            await anyio.sleep(0.15)
            again.append((name, line))

        await host.supervise(script, on_output=slowly)
        assert again == expected

    host.run(body)


@on_all_hosts
def test_a_chunk_of_one_output_is_not_mixed_with_the_other_s(host: Host) -> None:
    async def body() -> None:
        busy = 0
        names: list[str] = []

        async def one_at_a_time(name: str, line: bytes) -> None:
            nonlocal busy
            busy += 1
            assert busy == 1
            await anyio.sleep(0)
            busy -= 1
            names.append(name)

        script = "seq 1 2000 & seq 1 2000 >&2; wait"
        await host.run_process(script, stdout=None, stderr=DEVNULL, on_output=one_at_a_time)
        assert names == ["stdout"] * 2000
        names.clear()
        await host.run_process(script, on_output=one_at_a_time)
        assert sorted(names) == ["stderr"] * 2000 + ["stdout"] * 2000

    host.run(body)


@on_all_hosts
def test_one_function_that_raises(host: Host) -> None:
    async def body() -> None:
        def bad(name: str, line: bytes) -> None:
            raise KeyError(name)

        with pytest.raises(KeyError, match="stderr"):
            await host.run_process("yes >&2", on_output=bad)
        with pytest.raises(ValueError, match="on_output needs an output"):
            await host.run_process("true", stdout=DEVNULL, stderr=DEVNULL, on_output=bad)
        with pytest.raises(TypeError, match="on_output must be a function"):
            await host.run_process("true", on_output=3)
        with pytest.raises(ValueError, match="cannot go with stdout=PIPE, which you read"):
            await host.supervise("true", stdout=PIPE, on_output=bad)
        with pytest.raises(ValueError, match="cannot hold PIPE here: nothing is captured"):
            await host.supervise("true", stdout=[PIPE, print])

    host.run(body)


# --- Silence


@pytest.mark.heavy
@on_all_hosts
def test_silence_ends_the_tree(host: Host, tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid; echo out; echo err >&2; sleep 600 & exec sleep 600"

    async def body() -> None:
        options = {} if host.for_anyio else {"timeout": 300}
        with pytest.raises(IdleTimeoutError) as caught:
            await host.run_process(script, idle_timeout=1, **options)
        error = caught.value
        assert isinstance(error, TimeoutExpired)
        assert (error.cmd, error.timeout) == (script, 1)
        assert (error.stdout, error.stderr) == (b"out\n", b"err\n")
        assert str(error).endswith("wrote nothing for 1 seconds")
        assert childless()

    host.run(body)


@on_all_hosts
def test_a_timeout_ends_the_tree_and_tells_what_was_read(host: Host, tmp_path: Path) -> None:
    async def body() -> None:
        script = f"echo $$ >{tmp_path}/pid; echo x; (trap '' TERM; sleep 600) & sleep 600"
        for call in (host.run_process, host.run_pipeline):
            for timeout in (0.3, 1, 3, 9):  # a short one is enough, but on a busy machine
                lines = Collector()
                with pytest.raises(TimeoutExpired) as caught:
                    await call(script, stdout=[PIPE, lines], text=True, timeout=timeout, grace=0.1)
                error = caught.value
                assert type(error) is TimeoutExpired
                assert error.timeout == timeout
                assert error.cmd == (script if call == host.run_process else [script])
                assert childless()
                if error.stdout:
                    break
            assert (error.stdout, error.stderr, lines) == (b"x\n", None, ["x"])
            assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()

    host.run(body)


@on_all_hosts
def test_a_timeout_asks_first_and_hears_the_answer(host: Host) -> None:
    """More than a pipe and a reader hold, in its handler of SIGTERM: it does not block."""

    async def body() -> None:
        script = "trap 'seq 1 100000; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
        for call in (host.run_process, host.run_pipeline):
            for timeout in (0.3, 1, 3, 9):
                with pytest.raises(TimeoutExpired) as caught:
                    await call(script, timeout=timeout, grace=50)
                if caught.value.stdout:
                    break
            assert caught.value.stdout.split()[1:] == [b"%d" % each for each in range(1, 100_001)]

    host.run(body)


@on_all_hosts
def test_what_it_writes_in_its_grace_is_told_even_without_a_drain(host: Host) -> None:
    """`drain` is for what others write after its exit."""

    async def body() -> None:
        script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
        for call in (host.run_process, host.run_pipeline):
            for timeout in (0.3, 1, 3, 9):
                lines = Collector()
                with pytest.raises(TimeoutExpired) as caught:
                    await call(script, stdout=[PIPE, lines], timeout=timeout, grace=50, drain=0)
                if caught.value.stdout:
                    break
            assert (caught.value.stdout, lines) == (b"ready\nbye\n", [b"ready", b"bye"])

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_of_nothing(host: Host, timeout: float) -> None:
    """Whether a program was started or not, it is not there afterwards."""

    async def body() -> None:
        for call in (host.run_process, host.run_pipeline):
            with pytest.raises(TimeoutExpired) as caught:
                await call("exec sleep 600", timeout=timeout)
            assert caught.value.timeout == timeout
            assert childless()

    host.run(body)


@on_all_hosts
def test_timeouts_that_do_not_come_or_are_none(host: Host) -> None:
    async def body() -> None:
        for call in (host.run_process, host.run_pipeline):
            for timeout in (None, 600, float("inf")):
                assert (await call(["echo", "x"], timeout=timeout)).stdout == b"x\n"
            with pytest.raises(TypeError, match="timeout must be a number of seconds, not str"):
                await call(["/nonexistent"], timeout="1")
            with pytest.raises(FileNotFoundError):
                await call(["/nonexistent"], timeout=600)
            with pytest.raises(TimeoutError), anyio.fail_after(0.2):
                await call(["sleep", "600"], timeout=600)

    host.run(body)


@pytest.mark.heavy
async def test_the_other_timeout_is_no_silence() -> None:
    with pytest.raises(TimeoutExpired) as caught:
        await aiopidfd.run_process("exec sleep 600", timeout=0.1, idle_timeout=300)
    assert type(caught.value) is TimeoutExpired
    assert caught.value.timeout == 0.1
    with pytest.raises(TimeoutExpired) as caught:
        await aiopidfd.run_process(
            "echo x; exec sleep 600", timeout=1, output_limit=100, idle_timeout=300
        )
    assert type(caught.value) is TimeoutExpired
    assert (caught.value.stdout, caught.value.stderr) == (b"x\n", None)


@pytest.mark.heavy
@on_all_hosts
def test_a_program_that_says_something_is_not_silent(host: Host) -> None:
    """Either output counts, though the whole takes longer than the silence that is allowed."""

    async def body() -> None:
        script = "for i in 1 2 3 4 5 6 7 8; do sleep 0.3; echo >&$((i % 2 + 1)); done"
        result = await host.run_process(script, idle_timeout=2.2)
        assert len(result.stdout + result.stderr) == 8

    host.run(body)


@pytest.mark.heavy
@on_all_hosts
def test_a_busy_sink_is_no_silence(host: Host) -> None:
    """The program cannot be heard while we do not listen."""

    async def body() -> None:
        async def busy(line: bytes) -> None:
            await anyio.sleep(0.6)

        assert (await host.run_process("echo 1; echo 2", stdout=busy, idle_timeout=0.5)) is not None

    host.run(body)


@on_all_hosts
def test_silence_of_what_cannot_be_heard(host: Host) -> None:
    async def body() -> None:
        for call in (host.run_process, host.supervise):
            with pytest.raises(ValueError, match="idle_timeout needs an output"):
                await call(["/nonexistent"], stdout=None, stderr=DEVNULL, idle_timeout=1)
        result = await host.run_process("echo x", idle_timeout=float("inf"))
        assert result.stdout == b"x\n"

    host.run(body)


@on_all_hosts
def test_silence_after_the_outputs_were_closed(host: Host) -> None:
    async def body() -> None:
        with pytest.raises(IdleTimeoutError):
            await host.run_process("exec >&- 2>&-; exec sleep 600", idle_timeout=0.2)

    host.run(body)


# --- Cancelled


async def at_every_turn(call: Callable[[], Awaitable[object]]) -> int:
    """Cancel it after more and more turns of the loop; how often that came in time."""
    for turns in range(2000):
        task = asyncio.ensure_future(call())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert childless()
        if not isinstance(result, asyncio.CancelledError):
            assert not isinstance(result, BaseException), result
            return turns
    raise AssertionError


@pytest.mark.heavy
@pytest.mark.parametrize("on_limit", ["raise", "tail"])
async def test_cancelled_at_every_turn(on_limit: Any) -> None:
    async def nothing(name: str, line: bytes) -> None:
        await asyncio.sleep(0)

    call = functools.partial(
        aiopidfd.run_process,
        "cat; echo err >&2",
        input=b"x\n" * 3,
        on_output=nothing,
        output_limit=1000,
        on_limit=on_limit,
        idle_timeout=100,
        grace=0,
    )
    assert await at_every_turn(call) > 3


@on_all_hosts
def test_cancelled_with_a_sink_that_blocks_for_ever(host: Host) -> None:
    async def body() -> None:
        async def block(line: bytes) -> None:
            await anyio.sleep_forever()

        with anyio.move_on_after(0.3) as scope:
            await host.run_process("yes", stdout=[PIPE, block], grace=0.1, drain=0.1)
        assert scope.cancelled_caught
        assert childless()

    host.run(body)


@on_all_hosts
def test_cancelled_and_it_still_writes_a_lot(host: Host) -> None:
    """More than a pipe holds, in its handler of SIGTERM: it does not block, nothing is lost."""

    async def body() -> None:
        got = Collector()
        script = "trap 'seq 1 100000; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
        call = functools.partial(host.run_process, script, stdout=got, grace=50)
        if host.for_anyio:
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await until(lambda: got)
                group.cancel_scope.cancel()
        else:  # a scope of anyio's cancels again and again, and the second time kills
            task = asyncio.create_task(call())
            await until(lambda: got)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert got[0] == b"ready"
        assert [int(line) for line in got[1:]] == [*range(1, 100001)]

    host.run(body)


@on_all_hosts
@pytest.mark.parametrize("call", ["run_process", "run_pipeline", "supervise"])
def test_a_shutdown_returns_when_the_sinks_have_got_all(host: Host, call: str) -> None:
    """Who ends the process then, as a web server does, loses no line of a log."""

    async def body() -> None:
        lines: list[bytes] = []

        async def slow(line: bytes) -> None:
            await anyio.sleep(0.002)
            lines.append(line)

        script = "trap 'seq 1 20; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
        async with anyio.create_task_group() as group:
            run = functools.partial(getattr(host, call), script, stdout=slow, check=False)
            group.start_soon(run)
            await until(lambda: lines)
            assert await aiopidfd.shutdown(grace=50)
            assert [int(line) for line in lines[1:]] == [*range(1, 21)]

    host.run(body)


@pytest.mark.heavy
@on_all_hosts
def test_a_shutdown_does_not_wait_for_a_sink_that_blocks_for_ever(host: Host) -> None:
    async def body() -> None:
        blocked = anyio.Event()

        async def block(line: bytes) -> None:
            blocked.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(host.run_process, "yes", stdout=block))
            await blocked.wait()
            assert await aiopidfd.shutdown(grace=0)
            assert not aiopidfd.running()
            group.cancel_scope.cancel()

    host.run(body)


@pytest.mark.heavy
@on_all_hosts
def test_a_shutdown_by_a_sink(host: Host) -> None:
    """It does not wait for itself for ever."""

    async def body() -> None:
        over: list[bool] = []

        async def end(line: bytes) -> None:
            over.append(await aiopidfd.shutdown(grace=0))

        result = await host.run_process("echo; exec sleep 600", stdout=end, check=False)
        assert (result.returncode, over) == (-9, [True])

    host.run(body)


@on_all_hosts
def test_nothing_is_left_of_many(host: Host) -> None:
    async def body() -> None:
        before: Any = None
        for number in range(4):
            with pytest.raises(OutputLimitError):
                await host.run_process("yes", output_limit=10)
            await host.run_process("yes | head -c 1000", output_limit=10, on_limit="head")
            if number == 0:
                before = open_fds()
        assert open_fds() == before

    host.run(body)


async def test_a_coroutine_that_is_thrown_away(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; exec sleep 600"
    coroutine = aiopidfd.run_process(script, on_output=Collector(), grace=600)
    task = asyncio.create_task(coroutine)
    await until(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    coroutine.close()
    await until(lambda: not Path(f"/proc/{pid}").exists())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_stream_that_we_read_is_no_stdin() -> None:
    first = await aiopidfd.create_subprocess_exec("echo", stdout=PIPE)
    for choice in (first.stdout, first.stdin):
        if choice is not None:
            with pytest.raises(TypeError, match="stdin cannot be a stream that we read"):
                await aiopidfd.create_subprocess_exec("cat", stdin=choice)
    await first.communicate()


def test_a_stream_of_anyio_is_no_stdin() -> None:
    async def body() -> None:
        async with await aiopidfd.anyio.open_process(["echo"], stdin=DEVNULL) as first:
            with pytest.raises(TypeError, match=r"stdin cannot be .* \(ReceivePipe\): run"):
                await aiopidfd.anyio.open_process(["cat"], stdin=first.stdout)

    for param in HOSTS:
        host = param.values[0]
        if isinstance(host, Host) and host.for_anyio:
            host.run(body)


async def over_the_limit() -> None:
    with contextlib.suppress(OutputLimitError):
        await aiopidfd.run_process("yes", output_limit=10)


async def silent() -> None:
    with contextlib.suppress(IdleTimeoutError):
        await aiopidfd.run_process("exec sleep 600", idle_timeout=0.02)


async def well() -> None:
    await aiopidfd.run_process("echo x", stdout=[PIPE, Collector()], on_output=Collector())


async def piped() -> None:
    await aiopidfd.run_pipeline(["echo", "x"], ["cat"], stdout=Collector())


async def badly_piped() -> None:
    with contextlib.suppress(aiopidfd.PipelineError):
        await aiopidfd.run_pipeline(["echo", "x"], ["false"])


async def cancelled_twice() -> None:
    for sink in (PIPE, Collector()):
        call = aiopidfd.run_process("trap '' TERM; echo; sleep 600", stdout=sink, grace=600)
        task = asyncio.ensure_future(call)
        for _ in range(2):
            await asyncio.sleep(0.05)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task  # what a task keeps is a cycle of asyncio's own from Python 3.15 on


async def closed_and_cancelled() -> None:
    process = await aiopidfd.create_subprocess_exec("sh", "-c", "trap '' TERM; sleep 600")
    task = asyncio.ensure_future(process.aclose(grace=600))
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def cancelled_in_a_sink() -> None:
    async def wait(line: bytes) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    for call in (aiopidfd.run_process, aiopidfd.anyio.run_process):
        with contextlib.suppress(RuntimeError):
            await call("echo; exec sleep 600", stdout=wait)


async def failed_in_a_fork() -> None:
    with contextlib.suppress(FileNotFoundError):
        await aiopidfd.run_in_fork(os.stat, "/nonexistent")


ALL_CALLS = [
    cancelled_in_a_sink,
    failed_in_a_fork,
    over_the_limit,
    silent,
    well,
    piped,
    badly_piped,
    cancelled_twice,
    closed_and_cancelled,
]


@pytest.mark.parametrize("call", ALL_CALLS)
async def test_it_is_no_reference_cycle(call: Callable[[], Awaitable[None]]) -> None:
    await call()
    gc.collect()
    gc.disable()
    try:
        await call()
        await asyncio.sleep(0)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = {"Outputs", "PipeReader", "Process", "frame", "FileNotFoundError"}
        ours = {type(thing).__name__ for thing in gc.garbage} & kinds
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not ours
