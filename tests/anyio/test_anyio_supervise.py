"""supervise: a program as a member of a task group, on asyncio, uvloop and trio."""

import functools
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError
from typing import Any

import anyio
import anyio.abc
import pytest

import aiopidfd.anyio
from aiopidfd.anyio import Process, supervise

from .. import fresh
from ..anyio_support import BACKENDS, Backend, until
from ..census import childless
from ..spawn.test_errors import as_root
from ..support import HOLD_STDOUT

partial = functools.partial


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


class Collector(list[Any]):
    """A function that keeps what it is called with. It is false while it is empty."""

    def __call__(self, item: Any) -> None:
        self.append(item)


class Stream(anyio.abc.ByteSendStream):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.data: list[Any] = []
        self.closed = 0

    async def send(self, item: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.data.append(item)

    async def aclose(self) -> None:
        self.closed += 1


# --- Start and end


def test_start_returns_the_running_program(backend: Backend) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as tg:
            process = await tg.start(partial(supervise, ["cat"], stdin=PIPE))
            assert isinstance(process, Process)
            assert process.returncode is None
            await until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "cat\n")
            await process.stdin.aclose()
        assert process.returncode == 0

    backend.run(body)


def test_start_raises_what_the_exec_raised(backend: Backend) -> None:
    async def body() -> None:
        stream = Stream()
        async with anyio.create_task_group() as tg:
            with pytest.raises(FileNotFoundError) as caught:
                await tg.start(partial(supervise, ["/nonexistent"], stdout=stream))
            assert caught.value.filename == "/nonexistent"
            with pytest.raises(PermissionError):
                await tg.start(supervise, ["/"])
            with pytest.raises(TypeError, match="nonsense"):
                await tg.start(partial(supervise, ["true"], nonsense=1))
        assert stream.data == []
        assert stream.closed  # who reads at its other end learns of it

    backend.run(body)


def test_who_waits_for_the_start_fails_and_the_program_is_ended(backend: Backend) -> None:
    async def body() -> None:
        nobody: Any = 5
        with pytest.raises(AttributeError, match="started"):
            await supervise(["sleep", "1000"], task_status=nobody, grace=0)
        assert childless()

    backend.run(body)


def test_without_a_group(backend: Backend) -> None:
    async def body() -> None:
        assert await supervise(["true"]) == 0
        assert await supervise("exit 3", check=False) == 3
        with pytest.raises(CalledProcessError) as caught:
            await supervise("exit 3")
        assert (caught.value.returncode, caught.value.cmd) == (3, "exit 3")

    backend.run(body)


@pytest.mark.parametrize("script", ["exit 3", "kill -KILL $$"])
def test_failure_cancels_the_group(backend: Backend, script: str) -> None:
    async def body() -> None:
        others: list[str] = []

        async def other() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                others.append("cancelled")

        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with anyio.create_task_group() as tg:
                tg.start_soon(other)
                tg.start_soon(supervise, ["sleep", "1000"])
                tg.start_soon(partial(supervise, ["cat", "/dev/zero"], stdout=DEVNULL))
                tg.start_soon(supervise, "sleep 0.1; " + script)
        (error,) = caught.value.exceptions
        assert isinstance(error, CalledProcessError)  # flat: in no group of its own
        assert error.returncode == (3 if script == "exit 3" else -9)
        assert others == ["cancelled"]
        assert childless()

    backend.run(body)


def test_failure_that_is_not_checked_does_not(backend: Backend) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as tg:
            for code in range(5):
                tg.start_soon(partial(supervise, f"exit {code}", check=False))

    backend.run(body)


def test_failure_closes_the_pipes_that_the_user_was_given(backend: Backend) -> None:
    async def body() -> None:
        with pytest.raises(ExceptionGroup):
            async with anyio.create_task_group() as tg:
                process = await tg.start(
                    partial(supervise, "sleep 0.05; exit 3", stdin=PIPE, stdout=PIPE, stderr=PIPE)
                )
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream.fileno() == -1

    backend.run(body)


def test_what_a_failed_program_has_said_can_still_be_received(backend: Backend) -> None:
    async def body() -> None:
        with pytest.raises(ExceptionGroup):
            async with anyio.create_task_group() as tg:
                process = await tg.start(partial(supervise, "echo oops >&2; exit 3", stderr=PIPE))
        assert b"".join([chunk async for chunk in process.stderr]) == b"oops\n"

    backend.run(body)


def test_a_pipe_for_the_user_outlives_the_program(backend: Backend) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as tg:
            process = await tg.start(partial(supervise, "echo out", stdout=PIPE))
        assert b"".join([chunk async for chunk in process.stdout]) == b"out\n"

    backend.run(body)


# --- Cancelled


def trapping(ready: Path, handler: str) -> str:
    return f"trap '{handler}' TERM; echo ready >{ready}; while :; do sleep 0.02; done"


def ready_in(path: Path) -> Callable[[], bool]:
    return lambda: path.exists() and path.read_text() == "ready\n"


@pytest.mark.parametrize("grace", [5, 0])
def test_cancelled_it_is_asked_to_end(backend: Backend, grace: float) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as tg:
            process = await tg.start(partial(supervise, ["sleep", "1000"], grace=grace))
            tg.cancel_scope.cancel()
        assert process.returncode == -(signal.SIGTERM if grace else signal.SIGKILL)
        assert childless()

    backend.run(body)


def test_cancelled_and_it_ignores_sigterm(backend: Backend, tmp_path: Path) -> None:
    async def body() -> None:
        ready = tmp_path / "ready"
        async with anyio.create_task_group() as tg:
            process = await tg.start(partial(supervise, trapping(ready, ""), grace=0.2))
            await until(ready_in(ready))
            tg.cancel_scope.cancel()
        assert process.returncode == -signal.SIGKILL
        assert childless()

    backend.run(body)


@pytest.mark.parametrize("text", [False, True])
def test_cancelled_and_it_still_writes_a_lot(backend: Backend, tmp_path: Path, text: bool) -> None:
    """More than a pipe holds, in its handler of SIGTERM: it does not block, nothing is lost."""

    async def body() -> None:
        ready = tmp_path / "ready"
        handler = "seq 1 100000; echo bye >&2; exit 0"
        out, err = Collector(), Collector()
        async with anyio.create_task_group() as tg:
            process = await tg.start(
                partial(
                    supervise,
                    trapping(ready, handler),
                    stdout=out,
                    stderr=err,
                    encoding="utf-8" if text else None,
                    grace=50,
                )
            )
            await until(ready_in(ready))
            tg.cancel_scope.cancel()
        assert process.returncode == 0
        assert [int(line) for line in out] == [*range(1, 100001)]
        # The shell may tell first that the sleep which it waited for was terminated, too.
        assert err[-1] == ("bye" if text else b"bye")

    backend.run(body)


@pytest.mark.heavy
@pytest.mark.parametrize("drain", [0.1, None])
def test_cancelled_with_a_sink_that_blocks(backend: Backend, drain: float | None) -> None:
    """For ever. The group is left all the same."""

    async def body() -> None:
        async def block(line: bytes) -> None:
            await anyio.sleep_forever()

        send, receive = anyio.create_memory_object_stream[bytes](0)
        async with anyio.create_task_group() as tg:
            process = await tg.start(
                partial(supervise, ["yes"], stdout=block, stderr=send, drain=drain, grace=0.1)
            )
            await anyio.sleep(0.1)
            tg.cancel_scope.cancel()
        assert process.returncode is not None
        with pytest.raises(anyio.EndOfStream):
            await receive.receive()
        receive.close()
        assert childless()

    backend.run(body)


def test_cancelled_with_a_grandchild_that_holds_stdout(backend: Backend) -> None:
    async def body() -> None:
        read, write = os.pipe()
        try:
            lines = Collector()
            async with anyio.create_task_group() as tg:
                script = HOLD_STDOUT + "echo out; exec sleep 1000"
                await tg.start(partial(supervise, script, stdin=read, stdout=lines, drain=None))
                await until(lambda: lines)
                tg.cancel_scope.cancel()
            assert lines == [b"out"]
        finally:
            os.close(read)
            os.close(write)

    backend.run(body)


@pytest.mark.heavy
def test_a_sink_whose_closing_blocks_does_not_hold_a_cancelled_group(backend: Backend) -> None:
    class NeverClosed(Stream):
        async def aclose(self) -> None:
            self.closed += 1
            await anyio.sleep_forever()

    async def body() -> None:
        out, err = NeverClosed(), NeverClosed()
        async with anyio.create_task_group() as tg:
            await tg.start(partial(supervise, ["cat"], stdin=PIPE, stdout=out, stderr=err))
            tg.cancel_scope.cancel()
        assert out.closed
        assert err.closed

    backend.run(body)


def test_a_scope_around_it(backend: Backend) -> None:
    async def body() -> None:
        with anyio.move_on_after(0.1) as scope:
            await supervise(["sleep", "1000"])
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.1):
            await supervise(["sleep", "1000"])
        assert childless()

    backend.run(body)


# --- Sinks


def collected(backend: Backend, script: str, **options: Any) -> list[Any]:
    got = Collector()

    async def body() -> None:
        await supervise(script, stdout=got, **options)

    backend.run(body)
    return list(got)


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (":", []),
        ("echo a; echo b", [b"a", b"b"]),
        ("printf 'a\\nb'", [b"a", b"b"]),
        ("printf '\\n\\na\\n\\n'", [b"", b"", b"a", b""]),
        ("printf 'a\\r\\nb\\r'", [b"a\r", b"b\r"]),
        ("printf a; sleep 0.05; printf 'b\\nc'; sleep 0.05; printf d", [b"ab", b"cd"]),
        ("head -c 3000000 /dev/zero; echo; echo z", [bytes(3_000_000), b"z"]),
        ("head -c 3000000 /dev/zero", [bytes(3_000_000)]),
    ],
)
def test_lines(backend: Backend, script: str, lines: list[bytes]) -> None:
    assert collected(backend, script) == lines


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (":", []),
        ("printf 'a\\r\\nb\\rc'", ["a", "b", "c"]),
        ("printf 'a\\r'; sleep 0.05; printf '\\nb\\r'", ["a", "b"]),
        (
            "printf '\\303'; sleep 0.05; printf '\\244\\n\\342\\202'; sleep 0.05; printf '\\254'",
            ["ä", "€"],
        ),
    ],
)
def test_lines_of_text(backend: Backend, script: str, lines: list[str]) -> None:
    assert collected(backend, script, encoding="utf-8") == lines


def test_text_that_is_none(backend: Backend) -> None:
    script = "printf 'a\\377\\nb\\303'"
    assert collected(backend, script, encoding="utf-8", errors="replace") == ["a�", "b�"]
    with pytest.raises(UnicodeDecodeError):
        collected(backend, script, encoding="utf-8")


@pytest.mark.parametrize(
    "options", [{"encoding": "nonsense"}, {"encoding": "hex"}, {"errors": "x"}]
)
def test_an_encoding_that_is_none_starts_nothing(backend: Backend, options: Any) -> None:
    with pytest.raises(LookupError):
        collected(backend, "touch /nonexistent", **options)


def test_a_stream_of_bytes(backend: Backend) -> None:
    """Gets bytes, also where the other sink gets text; and is closed at the end."""

    async def body() -> None:
        out, err = Stream(), Collector()
        await supervise(
            "cat; echo err >&2", input="x" * 500_000, stdout=out, stderr=err, encoding="utf-8"
        )
        assert b"".join(out.data) == b"x" * 500_000
        assert out.closed == 1
        assert err == ["err"]

    backend.run(body)


def test_a_stream_of_objects(backend: Backend) -> None:
    async def body() -> None:
        send, receive = anyio.create_memory_object_stream[str](0)
        got: list[str] = []

        async def take() -> None:
            async with receive:
                got.extend([chunk async for chunk in receive])

        async with anyio.create_task_group() as tg:
            tg.start_soon(take)
            tg.start_soon(partial(supervise, "seq 1 30000", stdout=send, encoding="ascii"))
        assert "".join(got) == "".join(f"{n}\n" for n in range(1, 30001))

    backend.run(body)


def test_one_stream_for_both_is_refused(backend: Backend) -> None:
    async def body() -> None:
        stream = Stream()
        with pytest.raises(ValueError, match="cannot share a stream"):
            await supervise("echo out; echo err >&2", stdout=stream, stderr=stream)
        send, receive = anyio.create_memory_object_stream[bytes](10)
        await supervise("echo out; echo err >&2", stdout=send, stderr=send.clone())
        with receive:
            assert sorted([chunk async for chunk in receive]) == [b"err\n", b"out\n"]

    backend.run(body)


def test_one_function_for_both(backend: Backend) -> None:
    async def body() -> None:
        got = Collector()
        await supervise("echo out; echo err >&2", stdout=got, stderr=got)
        assert sorted(got) == [b"err", b"out"]
        got.clear()
        await supervise("echo out; echo err >&2", stdout=got, stderr=STDOUT)
        assert got == [b"out", b"err"]

    backend.run(body)


def test_another_program_s_stdin_is_a_sink(backend: Backend) -> None:
    """Not a descriptor for the program: ours does not block, and it would be told EAGAIN."""

    async def body() -> None:
        got = Collector()
        async with anyio.create_task_group() as tg:
            second = await tg.start(
                partial(supervise, "sleep 0.2; exec wc -c", stdin=PIPE, stdout=got)
            )
            tg.start_soon(
                partial(supervise, ["head", "-c", "1000000", "/dev/zero"], stdout=second.stdin)
            )
        assert got == [b"1000000"]

    backend.run(body)


def test_files_are_no_sinks(backend: Backend, tmp_path: Path) -> None:
    async def body() -> None:
        with (tmp_path / "out").open("wb") as file:
            await supervise("echo out", stdout=file, stderr=DEVNULL)
        assert (tmp_path / "out").read_bytes() == b"out\n"
        with pytest.raises(TypeError, match="stdout must be"):
            await supervise("echo out", stdout="file")  # type: ignore[arg-type]

    backend.run(body)


def test_a_sink_that_raises(backend: Backend) -> None:
    class BadError(Exception):
        pass

    async def bad(line: bytes) -> None:
        raise BadError(line)

    def bad_at_once(line: bytes) -> None:
        raise BadError(line)

    async def body() -> None:
        for sink in (bad, bad_at_once):
            with pytest.raises(BadError):
                await supervise(["yes"], stdout=sink)
            with pytest.raises(ExceptionGroup) as caught:
                async with anyio.create_task_group() as tg:
                    process = await tg.start(partial(supervise, ["yes"], stdout=sink))
            assert [type(exc) for exc in caught.value.exceptions] == [BadError]
            assert process.returncode == -signal.SIGTERM
        with pytest.raises(BadError):
            await supervise("echo once", stdout=bad)

    backend.run(body)


class Broken(Stream):
    """Nothing can be sent to it, and it cannot be closed."""

    async def send(self, item: Any) -> None:
        await anyio.lowlevel.checkpoint()
        raise BrokenPipeError

    async def aclose(self) -> None:
        raise RuntimeError("cannot be closed")


@pytest.mark.parametrize("call", ["supervise", "run_process", "run_pipeline"])
def test_a_sink_that_cannot_be_closed_hides_no_error(
    backend: Backend, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What has ended the call is raised, and that the sink cannot be closed goes to the log."""
    carry = getattr(aiopidfd.anyio, call)

    class Quiet(Broken):
        async def send(self, item: Any) -> None:
            await anyio.lowlevel.checkpoint()

    async def body() -> None:
        with pytest.raises(FileNotFoundError):
            await carry(["/nonexistent"], stdout=Quiet())
        with pytest.raises(BrokenPipeError):
            await carry("echo x; exec sleep 1000", stdout=Broken(), grace=0)
        with anyio.move_on_after(0.2) as scope:
            await carry(["sleep", "1000"], stdout=Quiet(), grace=0)
        assert scope.cancelled_caught
        if call == "supervise":
            return
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            await carry("echo x; exec sleep 1000", stdout=[PIPE, Quiet()], timeout=0.5, grace=0)
        assert caught.value.stdout == b"x\n"

    backend.run(body)
    said = caplog.text.count("RuntimeError: cannot be closed")
    caplog.clear()  # the records lead to the loop
    assert said == (3 if call == "supervise" else 4)


def test_a_sink_raises_and_the_program_still_writes_a_lot(backend: Backend, tmp_path: Path) -> None:
    """Nobody takes it any more, but the program ends in its own way."""

    async def body() -> None:
        done = tmp_path / "done"

        def bad(line: bytes) -> None:
            raise ZeroDivisionError

        handler = f"seq 1 100000; echo done >{done}; exit 0"
        script = f"trap '{handler}' TERM; echo; while :; do sleep 0.02; done"
        with pytest.raises(ZeroDivisionError):
            await supervise(script, stdout=bad, grace=50, drain=None)
        assert done.read_text() == "done\n"

    backend.run(body)


def test_a_receiver_that_goes_away(backend: Backend) -> None:
    async def body() -> None:
        send, receive = anyio.create_memory_object_stream[bytes](0)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with anyio.create_task_group() as tg:
                process = await tg.start(partial(supervise, ["yes"], stdout=send))
                await receive.receive()
                receive.close()
        assert [type(exc) for exc in caught.value.exceptions] == [anyio.BrokenResourceError]
        assert process.returncode == -signal.SIGTERM

    backend.run(body)


def test_the_user_closes_the_pipe(backend: Backend) -> None:
    """As if the output had ended; the program's next write fails."""

    async def body() -> None:
        got = Collector()
        async with anyio.create_task_group() as tg:
            process = await tg.start(
                partial(supervise, "echo a; exec cat /dev/zero", stdout=got, check=False)
            )
            await until(lambda: got)
            await process.stdout.aclose()
        assert got[0] == b"a"
        assert process.returncode == -signal.SIGPIPE

    backend.run(body)


def test_a_slow_sink_makes_the_program_wait_and_loses_nothing(backend: Backend) -> None:
    async def body() -> None:
        sizes: list[int] = []

        async def slow(line: bytes) -> None:
            await anyio.sleep(0.01)
            sizes.append(len(line))

        line = "x" * 20_000
        await supervise(f"for i in $(seq 30); do echo {line}; done", stdout=slow, drain=0)
        assert sizes == [20_000] * 30

    backend.run(body)


def test_a_grandchild_holds_stdout_and_the_sink_is_slow(backend: Backend) -> None:
    """What the program itself wrote is not lost, though the time to drain is long over."""

    async def body() -> None:
        read, write = os.pipe()
        try:
            got: list[bytes] = []

            async def slow(line: bytes) -> None:
                await anyio.sleep(0.03)
                got.append(line)

            script = HOLD_STDOUT + "for i in $(seq 10); do printf '%06000d\\n' $i; done; printf end"
            await supervise(script, stdin=read, stdout=slow, drain=0.01)
            assert got[:-1] == [b"%06000d" % number for number in range(1, 11)]
            assert got[-1] == b"end"
        finally:
            os.close(read)
            os.close(write)

    backend.run(body)


# --- Input


def test_input(backend: Backend) -> None:
    assert collected(backend, "cat", input=b"a\nb") == [b"a", b"b"]
    assert collected(backend, "cat", input=b"") == []
    assert collected(backend, "wc -c", input=bytes(3_000_000)) == [b"3000000"]
    assert collected(backend, "wc -c", input=bytearray(300_000)) == [b"300000"]


@pytest.mark.parametrize("script", ["exit 0", "exec <&-; sleep 0.1", "sleep 0.1", "head -c 10"])
def test_input_that_is_not_read(backend: Backend, script: str) -> None:
    async def body() -> None:
        assert await supervise(script, input=b"x" * 3_000_000, stdout=DEVNULL) == 0

    backend.run(body)


def test_input_that_is_not_read_and_cancelled(backend: Backend) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as tg:
            await tg.start(partial(supervise, ["sleep", "1000"], input=b"x" * 3_000_000))
            tg.cancel_scope.cancel()
        assert childless()

    backend.run(body)


def test_input_and_stdin(backend: Backend) -> None:
    async def body() -> None:
        with pytest.raises(ValueError, match="only one of stdin and input is allowed"):
            await supervise(["cat"], input=b"x", stdin=DEVNULL)

    backend.run(body)


def test_somebody_else_sends_too(backend: Backend) -> None:
    """A mistake that is told, in no group of its own."""

    async def body() -> None:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with anyio.create_task_group() as tg:
                process = await tg.start(
                    partial(supervise, ["sleep", "1000"], input=bytes(3_000_000))
                )
                await anyio.wait_all_tasks_blocked()
                await process.stdin.send(b"x")
        kinds = {type(exc) for exc in caught.value.exceptions}
        assert kinds == {anyio.BusyResourceError}

    backend.run(body)


# --- Others


def test_guardian_killed(backend: Backend) -> None:
    async def body() -> None:
        got = Collector()
        async with anyio.create_task_group() as tg:
            process = await tg.start(
                partial(supervise, "sleep 0.2; echo out; exit 7", stdout=got, check=False)
            )
            os.kill(process.guardian_pid, signal.SIGKILL)
        known = aiopidfd.kernel().exit_info
        assert process.returncode in ((7,) if known else (7, 255))
        assert got == [b"out"]

    backend.run(body)


NOT_PERMITTED = """
    import anyio, functools, signal
    from aiopidfd.anyio import supervise, run_process
    from tests.anyio_support import Backend

    async def body():
        for failing in (False, True):
            def sink(line):
                if failing:
                    raise ZeroDivisionError
            pid = None
            try:
                async with anyio.create_task_group() as tg:
                    script = "read x; echo; exec sleep 1000"
                    process = await tg.start(functools.partial(
                        supervise, script, stdin=aiopidfd.PIPE, stdout=sink))
                    os.setresuid(65534, 65534, 0)
                    await process.stdin.send(b"x\\n")
                    if not failing:
                        tg.cancel_scope.cancel()
            except ExceptionGroup as group:
                (error,) = group.exceptions
                kinds = [type(exc).__name__ for exc in getattr(error, "exceptions", [error])]
                print(*kinds)
            os.setresuid(0, 0, 0)
            process.kill()
            await process.wait()

    Backend({name!r}).run(body)
"""


@pytest.mark.heavy
@as_root
def test_a_program_that_we_may_not_signal(backend: Backend) -> None:
    """That it runs on is told, also where the group is cancelled."""
    said = fresh.run(NOT_PERMITTED.format(name=backend.name))
    assert said == "PermissionError\nZeroDivisionError PermissionError\n"


def test_text_goes_both_ways(backend: Backend) -> None:
    async def body() -> None:
        lines: list[str] = []
        await supervise(["cat"], input="gr\u00fcn\nrot", stdout=lines.append, text=True)
        assert lines == ["gr\u00fcn", "rot"]

    backend.run(body)


@pytest.mark.parametrize("output", ["file", ["list"], 1.5])
def test_an_output_that_is_none_of_all_that(backend: Backend, output: Any) -> None:
    async def body() -> None:
        with pytest.raises(TypeError, match=r"stderr must be PIPE, .* a function that takes lines"):
            await supervise(["true"], stderr=output)

    backend.run(body)


def test_an_async_generator_is_no_sink(backend: Backend) -> None:
    async def generator(line: str) -> AsyncIterator[str]:
        yield line

    async def body() -> None:
        with pytest.raises(TypeError, match="stdout must be a function, not an async generator"):
            await supervise(["true"], stdout=generator)

    backend.run(body)
