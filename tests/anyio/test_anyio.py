"""open_process, run_process and install on asyncio, uvloop and trio; beside anyio's own."""

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from subprocess import DEVNULL, STDOUT, CalledProcessError
from typing import Any

import anyio
import anyio.abc
import anyio.to_process
import pytest
import trio
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.text import TextReceiveStream

import aiopidfd
import aiopidfd.anyio
from aiopidfd.anyio import Process, ReceivePipe, SendPipe

from .. import fresh
from ..anyio_support import (
    BACKENDS,
    HANG_GUARD,
    ON_ASYNCIO,
    Backend,
    backends,
    gone,
    stepped,
    turns,
    until,
)
from ..census import child_pids, childless
from ..held_exec import HeldExec, held_exec
from ..hosts import HOSTS, Seen
from ..support import HOLD_STDOUT, sh, warnings_given

OURS = aiopidfd.anyio
LIBRARIES: dict[str, Any] = {"aiopidfd": OURS, "anyio": anyio}
both = pytest.mark.parametrize("library", [*LIBRARIES.values()], ids=[*LIBRARIES])


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldExec]:
    with held_exec(tmp_path) as held:
        yield held


async def read_all(stream: anyio.abc.ByteReceiveStream | None) -> bytes:
    assert stream is not None
    return b"".join([chunk async for chunk in stream])


# --- The same on anyio's own functions


def test_signatures_accept_all_that_anyio_s_do() -> None:
    for name in ("open_process", "run_process"):
        theirs = inspect.signature(getattr(anyio, name)).parameters
        ours = inspect.signature(getattr(OURS, name)).parameters
        for parameter in theirs.values():
            if parameter.name in aiopidfd.Options.__annotations__:
                continue
            assert ours[parameter.name].default == parameter.default
            assert ours[parameter.name].kind == parameter.kind


@both
def test_it_is_anyio_s_interface(backend: Backend, library: Any) -> None:
    async def body() -> None:
        async with await library.open_process(["cat"]) as process:
            assert isinstance(process, anyio.abc.Process)
            assert isinstance(process.stdin, anyio.abc.ByteSendStream)
            assert isinstance(process.stdout, anyio.abc.ByteReceiveStream)
            assert isinstance(process.stderr, anyio.abc.ByteReceiveStream)
            assert process.returncode is None
            comm = Path(f"/proc/{process.pid}/comm")
            await until(lambda: comm.read_text() == "cat\n")
        assert process.returncode == await process.wait() == 0

    backend.run(body)


@both
@pytest.mark.parametrize("kind", [str, bytes, Path, list])
def test_kinds_of_command(backend: Backend, library: Any, kind: Any, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho out; echo err >&2; exit 3\n")
    script.chmod(0o755)
    command: Any = {
        str: "echo out; echo err >&2; exit 3",
        bytes: b"echo out; echo err >&2; exit 3",
        Path: script,
        list: [os.fsencode(script)],
    }[kind]

    async def body() -> None:
        result = await library.run_process(command, check=False)
        assert (result.args, result.returncode) == (command, 3)
        assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
        with pytest.raises(CalledProcessError) as caught:
            await library.run_process(command)
        error = caught.value
        assert (error.cmd, error.returncode) == (command, 3)
        assert (error.output, error.stderr) == (b"out\n", b"err\n")

    backend.run(body)


@both
def test_input_of_any_size(backend: Backend, library: Any) -> None:
    async def body() -> None:
        for size in (1, 1 << 16, 3_000_001):
            data = os.urandom(size)
            result = await library.run_process(["cat"], input=data)
            assert result.stdout == data
            assert result.stderr == b""

    backend.run(body)


@both
def test_input_that_is_not_read(backend: Backend, library: Any) -> None:
    """anyio's own raises BrokenResourceError in a group on some backends, or hangs."""
    if library is anyio:
        pytest.skip("anyio's own backends do not agree here")

    async def body() -> None:
        for script in ("exit 0", "exec <&-; sleep 0.1; exit 0", "head -c 10 >&2"):
            result = await library.run_process(script, input=b"x" * 3_000_000)
            assert result.stdout == b""

    backend.run(body)


@both
def test_stdin_and_input(backend: Backend, library: Any) -> None:
    async def body() -> None:
        with pytest.raises(ValueError, match="only one of stdin and input is allowed"):
            await library.run_process(["cat"], input=b"x", stdin=DEVNULL)

    backend.run(body)


@pytest.mark.parametrize("data", ["text", 7, [1]])
def test_input_that_is_no_bytes(backend: Backend, data: Any) -> None:
    """Before anything is started, and not in an exception group."""

    async def body() -> None:
        for function in (OURS.run_process, OURS.supervise):
            with pytest.raises(TypeError, match="input must be bytes-like"):
                await function(["cat"], input=data)

    backend.run(body)


@both
def test_what_cannot_be_started(backend: Backend, library: Any, tmp_path: Path) -> None:
    async def body() -> None:
        for function in (library.open_process, library.run_process):
            with pytest.raises(FileNotFoundError):
                await function(["/nonexistent"])
            with pytest.raises(PermissionError):
                await function([tmp_path])
            with pytest.raises(FileNotFoundError):
                await function(["/bin/true"], cwd="/nonexistent")

    backend.run(body)


@both
def test_options(backend: Backend, library: Any, tmp_path: Path) -> None:
    async def body() -> None:
        read, write = os.pipe()
        script = f"pwd; echo $A; umask; echo passed >/dev/fd/{write}; ps -o sid= -p $$; echo $$"
        result = await library.run_process(
            script,
            cwd=tmp_path,
            env={"A": "b", "PATH": os.environ["PATH"]},
            start_new_session=True,
            pass_fds=(write,),
            umask=0o27,
            user=os.getuid(),
            group=os.getgid(),
            extra_groups=[0],
        )
        os.close(write)
        assert os.read(read, 100) == b"passed\n"
        os.close(read)
        *said, session, pid = result.stdout.decode().split()
        assert said == [str(tmp_path.resolve()), "b", "0027"]
        assert session == pid

    if os.geteuid() != 0:
        pytest.skip("only root may change ids")
    if library is anyio and backend.name == "uvloop":
        pytest.skip("uvloop's own processes know neither user= nor umask=")
    backend.run(body)


@both
def test_where_stdio_goes(backend: Backend, library: Any, tmp_path: Path) -> None:
    async def body() -> None:
        out, both_file = tmp_path / "out", tmp_path / "both"
        with out.open("wb") as file:
            result = await library.run_process("echo o; echo e >&2", stdout=file)
        assert (result.stdout, result.stderr, out.read_bytes()) == (None, b"e\n", b"o\n")
        result = await library.run_process("echo o; echo e >&2", stderr=STDOUT)
        assert (result.stdout, result.stderr) == (b"o\ne\n", None)
        with both_file.open("wb") as file:
            await library.run_process("echo o; echo e >&2", stdout=file.fileno(), stderr=STDOUT)
        assert both_file.read_bytes() == b"o\ne\n"
        async with await library.open_process("cat", stdin=DEVNULL, stderr=DEVNULL) as process:
            assert process.stdin is process.stderr is None
            assert await read_all(process.stdout) == b""

    backend.run(body)


@both
def test_a_dialogue(backend: Backend, library: Any) -> None:
    async def body() -> None:
        async with await library.open_process(["cat"]) as process:
            for number in range(50):
                await process.stdin.send(b"%d\n" % number)
                assert await process.stdout.receive() == b"%d\n" % number
            await process.stdin.send(b"abcdef")
            assert await process.stdout.receive(2) == b"ab"
            assert await process.stdout.receive(3) == b"cde"
            assert await process.stdout.receive(65536) == b"f"
            await process.stdin.aclose()
            for _ in range(3):
                with pytest.raises(anyio.EndOfStream):
                    await process.stdout.receive()
            assert await process.wait() == 0

    backend.run(body)


@both
@pytest.mark.parametrize("max_bytes", [0, -1])
def test_max_bytes_is_checked(backend: Backend, library: Any, max_bytes: int) -> None:
    async def body() -> None:
        async with await library.open_process(["cat"]) as process:
            with pytest.raises(ValueError, match="max_bytes must be a positive integer"):
                await process.stdout.receive(max_bytes)

    backend.run(body)


@both
def test_closed_and_broken_streams(backend: Backend, library: Any) -> None:
    async def body() -> None:
        async with await library.open_process("exit 0") as process:
            await process.wait()
            with pytest.raises(anyio.BrokenResourceError):  # noqa: PT012
                for _ in range(3):  # uvloop's own notices late
                    await process.stdin.send(b"x")
            for stream in (process.stdout, process.stderr):
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await process.stdin.send(b"x")
        for stream in (process.stdout, process.stderr):
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()
        for stream in (process.stdin, process.stdout, process.stderr):
            await stream.aclose()  # again

    backend.run(body)


@both
def test_closed_while_somebody_receives(backend: Backend, library: Any) -> None:
    async def body() -> None:
        async with (
            await library.open_process(["cat"]) as process,
            anyio.create_task_group() as tg,
        ):
            tg.start_soon(process.stdout.aclose)
            with pytest.raises(anyio.ClosedResourceError):
                await process.stdout.receive()

    backend.run(body)


def test_closed_while_somebody_sends(backend: Backend) -> None:
    async def body() -> None:
        async with await OURS.open_process(["sleep", "1000"]) as process:
            stdin = process.stdin
            assert stdin is not None

            async def close() -> None:
                await anyio.wait_all_tasks_blocked()
                await stdin.aclose()

            async with anyio.create_task_group() as tg:
                tg.start_soon(close)
                with pytest.raises(anyio.ClosedResourceError):
                    await stdin.send(b"x" * 3_000_000)
            process.kill()

    backend.run(body)


@both
def test_anyio_s_wrappers_take_the_streams(backend: Backend, library: Any) -> None:
    async def body() -> None:
        script = (
            r"printf 'HEADER 5\nabcde'; printf '\303\244\303' >&2; sleep 0.1; printf '\266' >&2"
        )
        async with await library.open_process(script) as process:
            buffered = BufferedByteReceiveStream(process.stdout)
            assert await buffered.receive_until(b"\n", 50) == b"HEADER 5"
            assert await buffered.receive_exactly(5) == b"abcde"
            text = TextReceiveStream(process.stderr)
            assert "".join([chunk async for chunk in text]) == "äö"

    backend.run(body)


@both
def test_signals(backend: Backend, library: Any) -> None:
    async def body() -> None:
        for send, number in (
            (lambda process: process.terminate(), signal.SIGTERM),
            (lambda process: process.kill(), signal.SIGKILL),
            (lambda process: process.send_signal(signal.SIGUSR1), signal.SIGUSR1),
        ):
            async with await library.open_process(["sleep", "1000"]) as process:
                send(process)
                assert await process.wait() == -number
            assert process.returncode == -number
            # What is over: an error on asyncio and uvloop, silence on trio; in both libraries.
            with contextlib.nullcontext() if backend.is_trio else pytest.raises(ProcessLookupError):
                send(process)

    backend.run(body)


@both
def test_signals_to_one_that_is_not_known_to_be_over(backend: Backend, library: Any) -> None:
    """Silence: whoever saw no returncode may send. anyio's own worker processes rely on it."""

    async def body() -> None:
        for _ in range(10):
            async with await library.open_process(["sleep", "1000"]) as process:
                stat = Path(f"/proc/{process.pid}/stat")
                process.kill()
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    while ") Z" not in stat.read_text():  # blocks the loop: it sees nothing
                        time.sleep(0.001)
                process.kill()
                process.terminate()
                code = await process.wait()
                # asyncio's own loses the status to its own second kill() (subprocess polls).
                assert code == -signal.SIGKILL or (library is anyio and code == 255)

    backend.run(body)


@both
def test_wait_does_not_wait_for_the_pipes(backend: Backend, library: Any) -> None:
    async def body() -> None:
        async with await library.open_process(sh(HOLD_STDOUT)) as process:
            assert await process.wait() == 0
            await process.stdin.send(b"still here")
            assert await process.stdout.receive() == b"still here"

    backend.run(body)


@both
def test_leaving_the_block_unblocks_a_writer(backend: Backend, library: Any) -> None:
    async def body() -> None:
        async with await library.open_process("exec cat /dev/zero") as process:
            pass
        assert process.returncode == -signal.SIGPIPE

    backend.run(body)


@both
def test_leaving_the_block_cancelled_kills(backend: Backend, library: Any) -> None:
    async def body() -> None:
        with anyio.CancelScope() as scope:
            async with await library.open_process(["sleep", "1000"]) as process:
                scope.cancel()
        assert scope.cancelled_caught
        assert process.returncode == -signal.SIGKILL
        with pytest.raises(anyio.ClosedResourceError):
            await process.stdin.send(b"x")

    backend.run(body)


@both
def test_an_exception_in_the_block_comes_out(backend: Backend, library: Any) -> None:
    async def body() -> None:
        with pytest.raises(ZeroDivisionError):
            async with await library.open_process(["cat"]):
                raise ZeroDivisionError

    backend.run(body)


@pytest.mark.heavy
@both
def test_cancelled_run_process_leaves_nothing(backend: Backend, library: Any) -> None:
    async def body() -> None:
        with anyio.move_on_after(0.3) as scope:
            await library.run_process(["sleep", "1000"])
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.3):
            await library.run_process(["sleep", "1000"])
        assert childless()

    backend.run(body)


@both
def test_several_waiters(backend: Backend, library: Any) -> None:
    codes: list[int] = []

    async def body() -> None:
        async with await library.open_process("read x; exit 7") as process:

            async def wait() -> None:
                codes.append(await process.wait())

            with anyio.CancelScope() as early:
                async with anyio.create_task_group() as tg:
                    for _ in range(3):
                        tg.start_soon(wait)
                    await anyio.wait_all_tasks_blocked()
                    early.cancel()
            assert process.returncode is None  # a cancelled wait leaves it alone
            async with anyio.create_task_group() as tg:
                for _ in range(5):
                    tg.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await process.stdin.send(b"\n")
        assert codes == [7] * 5

    backend.run(body)


# --- Ours alone


def test_the_waiter_that_watches_is_cancelled_and_another_takes_over(backend: Backend) -> None:
    async def body() -> None:
        async with await OURS.open_process(["cat"]) as process:
            codes: list[int] = []

            async def wait(scope: anyio.CancelScope) -> None:
                with scope:
                    codes.append(await process.wait())

            scopes = [anyio.CancelScope() for _ in range(4)]
            async with anyio.create_task_group() as tg:
                for scope in scopes:
                    tg.start_soon(wait, scope)
                    await anyio.wait_all_tasks_blocked()
                for scope in scopes[:3]:
                    scope.cancel()
                    await anyio.wait_all_tasks_blocked()
                assert process.stdin is not None
                await process.stdin.aclose()
            assert codes == [0]

    backend.run(body)


@pytest.mark.heavy
def test_asking_for_the_returncode_does_not_rob_a_waiter(backend: Backend) -> None:
    async def body() -> None:
        for _ in range(30):
            async with await OURS.open_process("exit 3") as process:
                async with anyio.create_task_group() as tg:
                    tg.start_soon(process.wait)
                    await anyio.wait_all_tasks_blocked()
                    while process.returncode is None:  # blocks the loop: we see it first
                        time.sleep(0.0005)
                assert await process.wait() == 3

    backend.run(body)


def test_one_receiver_and_one_sender_at_a_time(backend: Backend) -> None:
    async def body() -> None:
        async with await OURS.open_process(["sleep", "1000"]) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            async with anyio.create_task_group() as tg:
                tg.start_soon(process.stdin.send, b"x" * 1_000_000)
                tg.start_soon(process.stdout.receive)
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(anyio.BusyResourceError):
                    await process.stdin.send(b"x")
                with pytest.raises(anyio.BusyResourceError):
                    await process.stdout.receive()
                tg.cancel_scope.cancel()
            process.kill()

    backend.run(body)


def test_what_a_process_has(backend: Backend) -> None:
    async def body() -> None:
        async with await OURS.open_process(["cat"]) as process:
            assert isinstance(process.stdin, SendPipe)
            assert isinstance(process.stdout, ReceivePipe)
            assert process.args == ["cat"]
            assert process.pidfd >= 0
            assert process.guardian_pid in child_pids()
            assert repr(process) == (
                f"<Process pid={process.pid} running "
                f"stdin=<SendPipe open fd={process.stdin.fileno()}> "
                f"stdout=<ReceivePipe open fd={process.stdout.fileno()}> "
                f"stderr=<ReceivePipe open fd={process.stderr.fileno()}>>"
            )
            assert process.rusage is None
        assert f"<Process pid={process.pid} returncode=0 stdin=<SendPipe closed> " in repr(process)
        assert process.rusage is not None
        assert process.pidfd == -1

    backend.run(body)


@pytest.mark.parametrize("host", HOSTS)
def test_statuses_are_right_and_nothing_is_seen(backend: Backend, host: str) -> None:
    seen = Seen()
    commands = {
        "exit 0": 0,
        "exit 3": 3,
        "sleep 0.05; exit 7": 7,
        "kill -TERM $$": -15,
        "kill -KILL $$": -9,
    }

    def expect_no_child() -> None:
        if host != "__WALL reaper":
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)

    async def run(command: str, expected: int, how: Callable[..., Awaitable[Any]]) -> None:
        assert await how(command) == expected

    async def by_run(command: str) -> int:
        return (await OURS.run_process(command, check=False)).returncode

    async def by_open(command: str) -> int:
        async with await OURS.open_process(command) as process:
            return await process.wait()

    by_supervise = functools.partial(OURS.supervise, check=False)

    async def body() -> None:
        for _ in range(3):
            async with anyio.create_task_group() as tg:
                for command, expected in commands.items():
                    for how in (by_run, by_open, by_supervise):
                        tg.start_soon(run, command, expected, how)
                await anyio.lowlevel.checkpoint()
                expect_no_child()
        async with await OURS.open_process(["cat"]):
            expect_no_child()
        expect_no_child()

    with HOSTS[host](seen):
        backend.run(body)
    assert seen.sigchld == 0
    if host != "__WALL reaper":  # that one may take guardians; what they had to say is not lost
        assert not seen.pids


def test_a_hundred_at_once(backend: Backend) -> None:
    async def one(number: int) -> None:
        result = await OURS.run_process(f"cat; exit {number}", input=b"%d" % number, check=False)
        assert (result.returncode, result.stdout) == (number, b"%d" % number)

    async def body() -> None:
        async with anyio.create_task_group() as tg:
            for number in range(100):
                tg.start_soon(one, number)

    backend.run(body)


def test_a_grandchild_that_holds_stdout(backend: Backend) -> None:
    """run_process comes back, with all that the program itself wrote."""
    script = HOLD_STDOUT + "head -c 60000 /dev/zero"

    async def body() -> None:
        read, write = os.pipe()
        try:
            result = await OURS.run_process(script, stdin=read, drain=0.1)
            assert result.stdout == bytes(60000)
            result = await OURS.run_process(script, stdin=read, drain=0)
            assert result.stdout == bytes(60000)
        finally:
            os.close(read)
            os.close(write)

    backend.run(body)


def test_guardian_killed(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    known = aiopidfd.kernel().exit_info

    async def body() -> None:
        for script, code in (("read x; exit 7", 7), ("read x; kill -9 $$", -9)):
            async with (
                await OURS.open_process(script) as process,
                anyio.create_task_group() as tg,
            ):
                for _ in range(3):
                    tg.start_soon(process.wait)
                await anyio.wait_all_tasks_blocked()
                os.kill(process.guardian_pid, signal.SIGKILL)
                await process.stdin.aclose()
            assert await process.wait() in ((code,) if known else (code, 255))
        async with await OURS.open_process(["sleep", "1000"]) as process:
            os.kill(process.guardian_pid, signal.SIGKILL)
            await gone(process.guardian_pid)
            process.terminate()
            assert await process.wait() in ((-15,) if known else (-15, 255))

    backend.run(body)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_guardian_killed_while_it_starts(backend: Backend, held: HeldExec) -> None:
    async def body() -> None:
        async def start() -> None:
            with pytest.raises(ChildProcessError, match="guardian"):
                await OURS.open_process([held.path, "-c", "exit 3"])

        async with anyio.create_task_group() as tg:
            tg.start_soon(start)
            pid = await anyio.to_thread.run_sync(held.wait_until_held)
            for guardian in child_pids():
                os.kill(guardian, signal.SIGKILL)
            await gone(pid)

    backend.run(body)


def test_a_dropped_handle_warns(backend: Backend) -> None:
    async def body() -> None:
        process: Any = await OURS.open_process(
            ["sleep", "0.2"], stdin=None, stdout=None, stderr=None
        )
        with warnings_given() as seen:
            del process
            gc.collect()
        assert [(category, text.split()[-1]) for category, text in seen] == [
            (ResourceWarning, "running")
        ]

    backend.run(body)
    # It lives on, and a later spawn reaps it.
    while child_pids():
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0


def test_a_dropped_stream_warns_and_is_closed(backend: Backend) -> None:
    async def body() -> None:
        process: Any = await OURS.open_process(["cat"], stderr=None)
        pid = process.pid
        with warnings_given() as seen:
            del process
            gc.collect()
        assert {category for category, _ in seen} == {ResourceWarning}
        assert len(seen) in (2, 3)  # it may have gone by the time that the second stream is closed
        await gone(pid)  # its stdin has ended

    backend.run(body)


def test_fork_while_a_program_runs(backend: Backend) -> None:
    async def body() -> None:
        async with await OURS.open_process(["cat"]) as process:
            assert process.stdin is not None
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    process.kill()
                except ChildProcessError:  # it runs, and is not the copy's to signal
                    code = 0
                if process.returncode is None and process.stdin.fileno() == -1:
                    os._exit(code)
                os._exit(2)
            assert await aiopidfd.wait_pid(pid) == 0
            await process.stdin.send(b"x")
            await process.stdin.aclose()  # the copy does not hold it
            assert await read_all(process.stdout) == b"x"
            assert await process.wait() == 0

    backend.run(body)


def test_the_copy_of_a_fork_cannot_wait(backend: Backend) -> None:
    """Nor does it wait for ever, nor touch the program."""

    async def open_it() -> Process:
        return await OURS.open_process(["sleep", "1000"], stdin=None, stdout=None, stderr=None)

    process = backend.run(open_it)
    pid = os.fork()
    if pid == 0:
        try:
            backend.run(process.wait)
        except ChildProcessError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert process.returncode is None
    process.kill()
    assert backend.run(process.wait) == -signal.SIGKILL


# --- Starting does not block, and can be cancelled


def test_other_tasks_go_on_while_exec_hangs(backend: Backend, held: HeldExec) -> None:
    async def body() -> None:
        codes = []

        async def start() -> None:
            async with await OURS.open_process([held.path, "-c", "exit 3"]) as process:
                codes.append(await process.wait())

        async with anyio.create_task_group() as tg:
            tg.start_soon(start)
            await anyio.to_thread.run_sync(held.wait_until_held)
            for _ in range(3):
                assert (await OURS.run_process("exit 5", check=False)).returncode == 5
            await turns(20)
            assert not codes
            held.let_go()
        assert codes == [3]

    backend.run(body)


@pytest.mark.parametrize("function", [OURS.open_process, OURS.run_process, OURS.supervise])
def test_cancelled_while_exec_hangs(
    backend: Backend, held: HeldExec, function: Callable[..., Awaitable[object]]
) -> None:
    """The caller goes on; the program is killed although it has not been let go."""

    async def body() -> int:
        async with anyio.create_task_group() as tg:
            tg.start_soon(function, [held.path, "-c", "sleep 1000"])
            pid: int = await anyio.to_thread.run_sync(held.wait_until_held)
            tg.cancel_scope.cancel()
        await gone(pid)
        return pid

    backend.run(body)


@pytest.mark.parametrize("function", [OURS.open_process, OURS.run_process, OURS.supervise])
@backends(*ON_ASYNCIO)
def test_thrown_away_while_exec_hangs(
    backend: Backend, held: HeldExec, function: Callable[..., Coroutine[Any, Any, object]]
) -> None:
    async def body() -> None:
        coroutine = function([held.path, "-c", "sleep 1000"])
        while not child_pids():
            coroutine.send(None)
            await anyio.lowlevel.checkpoint()
        pid = await anyio.to_thread.run_sync(held.wait_until_held)
        coroutine.close()
        held.let_go()
        await gone(pid)

    backend.run(body)


# --- Cancelled at each await


async def live() -> None:
    async with await OURS.open_process(["cat"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(b"x" * 100_000)
        await process.stdout.receive()
        await process.stdin.aclose()
        await read_all(process.stdout)
        await process.wait()


async def run() -> None:
    await OURS.run_process(["cat"], input=b"x" * 300_000)


async def fail() -> None:
    with pytest.raises(FileNotFoundError):
        await OURS.open_process(["/nonexistent"])


async def supervised() -> None:
    async def slow(line: bytes) -> None:
        await anyio.lowlevel.checkpoint()

    await OURS.supervise("cat; echo >&2", input=b"x\n" * 20_000, stdout=slow, stderr=slow)


CALLS = [live, run, fail, supervised]


@pytest.mark.parametrize("call", CALLS)
def test_cancelled_at_each_await(backend: Backend, call: Callable[[], Any]) -> None:
    async def body() -> None:
        for number in range(200):
            with anyio.CancelScope() as scope:
                actions = {number: scope.cancel}
                await stepped(call(), actions.get)
            assert childless(), f"a child is left by the one cancelled at {number}"
            if not scope.cancel_called:
                assert number >= 1
                return
        raise AssertionError("it never comes to its end")

    backend.run(body)


@pytest.mark.heavy
@pytest.mark.parametrize("again", [None, 1, 2, 3])
@pytest.mark.parametrize("call", CALLS)
@backends(*ON_ASYNCIO)
def test_cancelled_by_asyncio_at_each_await(
    backend: Backend, call: Callable[[], Any], again: int | None
) -> None:
    """Which knows no shield: once, or again at one of the next awaits."""

    async def body() -> None:
        for number in range(200):
            loop = asyncio.get_running_loop()
            task: asyncio.Task[None]
            actions: dict[int, Callable[[], object]] = {}

            async def main(actions: dict[int, Callable[[], object]] = actions) -> None:
                await asyncio.sleep(0)
                await stepped(call(), actions.get)

            task = loop.create_task(main())
            actions[number] = task.cancel
            if again is not None:
                actions[number + again] = task.cancel
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if result is None and number > 2:
                break
            assert result is None or isinstance(result, asyncio.CancelledError), result
            if again is None:
                assert childless(), f"a child is left by the one cancelled at {number}"
        else:
            raise AssertionError("it never comes to its end")

    backend.run(body)


@backends(*ON_ASYNCIO)
def test_receive_cancelled_by_asyncio_loses_nothing(backend: Backend) -> None:
    async def body() -> None:
        for number in range(5):
            async with await OURS.open_process("printf abc; read x; printf def") as process:
                stdin, stdout = process.stdin, process.stdout
                assert stdin is not None
                assert stdout is not None
                await until(functools.partial(os_readable, stdout.fileno()))
                actions: dict[int, Callable[[], object]] = {}
                got: list[bytes] = []

                async def receive(
                    stdout: ReceivePipe = stdout,
                    actions: dict[int, Callable[[], object]] = actions,
                    got: list[bytes] = got,
                ) -> None:
                    await asyncio.sleep(0)
                    got.append(await stepped(stdout.receive(), actions.get))

                task = asyncio.get_running_loop().create_task(receive())
                actions[number] = task.cancel
                await asyncio.gather(task, return_exceptions=True)
                await stdin.send(b"\n")
                got.append(await read_all(stdout))
                assert b"".join(got) == b"abcdef"

    backend.run(body)


def os_readable(fd: int) -> bool:
    import select

    return bool(select.select([fd], [], [], 0)[0])


def test_receive_cancelled_loses_nothing(backend: Backend) -> None:
    async def body() -> None:
        async with await OURS.open_process("seq 1 2000; sleep 0.05; seq 2001 4000") as process:
            assert process.stdout is not None
            got = []
            number = 0
            while True:
                number = (number + 1) % 4
                with anyio.CancelScope() as scope:
                    actions = {number: scope.cancel}
                    try:
                        got.append(await stepped(process.stdout.receive(100), actions.get))
                    except anyio.EndOfStream:
                        break
        assert b"".join(got) == b"".join(b"%d\n" % line for line in range(1, 4001))

    backend.run(body)


@backends(*ON_ASYNCIO)
def test_asyncio_s_own_timeouts_and_groups(backend: Backend) -> None:
    async def body() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await OURS.run_process(["sleep", "1000"])
        assert childless()
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with asyncio.TaskGroup() as group:
                group.create_task(OURS.run_process(["sleep", "1000"]))
                group.create_task(OURS.supervise(["sleep", "1000"]))
                group.create_task(OURS.supervise("sleep 0.1; exit 3"))
        assert [type(exc) for exc in caught.value.exceptions] == [CalledProcessError]
        assert childless()
        async with await OURS.open_process(["cat"]) as process:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await process.wait()
            assert process.returncode is None

    backend.run(body)


@backends(*ON_ASYNCIO)
@pytest.mark.parametrize("function", [OURS.run_process, OURS.supervise])
def test_a_second_cancellation_by_asyncio_kills_and_reaps(
    backend: Backend, tmp_path: Path, function: Callable[..., Coroutine[Any, Any, object]]
) -> None:
    ready = tmp_path / "ready"
    # It gets its input only once we know that it runs: before that a cancellation kills at once.
    stubborn = f"trap '' TERM; read line; touch {ready}; while :; do sleep 0.1; done"

    async def body() -> None:
        task = asyncio.create_task(function(stubborn, input=b"go\n", grace=math.inf))
        await until(ready.exists)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.2)
        assert not done  # it has its grace
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert childless()

    backend.run(body)


@backends(*ON_ASYNCIO)
def test_closing_thrown_away_kills(backend: Backend) -> None:
    """Nobody would end the program any more."""

    async def body() -> None:
        process: Any = await OURS.open_process(["sleep", "1000"])
        pid = process.pid
        coroutine = process.aclose()
        coroutine.send(None)  # the lock's checkpoint
        coroutine.close()
        await gone(pid)
        with warnings_given():  # whether it is known to be over by now is chance
            del process, coroutine
            gc.collect()

    backend.run(body)


# --- install()


@pytest.fixture
def installed() -> Iterator[None]:
    OURS.install()
    try:
        yield
    finally:
        OURS.uninstall()


def invisible_under(backend: Backend) -> bool:
    """Whether the programs of anyio's own functions are, and their statuses right."""
    seen = Seen()
    codes: list[int] = []
    alone: list[bool] = []

    async def body() -> None:
        process = await anyio.open_process("read x; exit 3", stdout=None, stderr=None)
        async with process:
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                alone.append(True)
            assert process.stdin is not None
            await process.stdin.send(b"\n")
            codes.append(await process.wait())
        result = await anyio.run_process("cat; exit 4", input=b"abc", check=False)
        assert result.stdout == b"abc"
        codes.append(result.returncode)

    with HOSTS["polling reaper"](seen):
        backend.run(body)
    return bool(alone and codes == [3, 4] and not seen.pids and not seen.sigchld)


@pytest.mark.usefixtures("installed")
def test_installed_unchanged_code_is_invisible(backend: Backend) -> None:
    assert invisible_under(backend)


def test_installed_twice_and_uninstalled(backend: Backend) -> None:
    from anyio._backends import _asyncio, _trio

    classes = [_asyncio.backend_class, _trio.backend_class]
    before = [vars(each)["open_process"] for each in classes]
    OURS.install()
    OURS.install()
    assert [vars(each)["open_process"] for each in classes] != before
    assert invisible_under(backend)
    OURS.uninstall()
    assert [vars(each)["open_process"] for each in classes] == before
    OURS.uninstall()
    assert [vars(each)["open_process"] for each in classes] == before

    async def body() -> None:
        async with await anyio.open_process(["cat"]) as process:
            assert not isinstance(process, Process)

    backend.run(body)


@pytest.mark.usefixtures("installed")
def test_installed_options_and_errors(backend: Backend, tmp_path: Path) -> None:
    async def body() -> None:
        result = await anyio.run_process("pwd; echo $A", cwd=tmp_path, env={"A": "b"})
        assert result.stdout == f"{tmp_path.resolve()}\nb\n".encode()
        with pytest.raises(FileNotFoundError):
            await anyio.open_process(["/nonexistent"])
        with pytest.raises(CalledProcessError):
            await anyio.run_process(["false"])
        with anyio.CancelScope() as scope:
            async with await anyio.open_process(["sleep", "1000"]) as process:
                scope.cancel()
        assert process.returncode == -signal.SIGKILL

    backend.run(body)


TO_PROCESS = """
    import anyio, anyio.to_process, math, tests.hosts
    import aiopidfd.anyio
    from tests.anyio_support import Backend

    aiopidfd.anyio.install()

    async def body():
        async with anyio.create_task_group() as tg:
            for _ in range(2):
                tg.start_soon(anyio.to_process.run_sync, math.sqrt, 16)
        assert await anyio.to_process.run_sync(math.sqrt, 16) == 4
        try:
            await anyio.to_process.run_sync(math.sqrt, -1)
        except ValueError:
            pass
        else:
            raise AssertionError("no ValueError")
        try:
            await anyio.to_process.run_sync(os._exit, 3)
        except anyio.BrokenWorkerProcess:
            pass
        else:
            raise AssertionError("no BrokenWorkerProcess")
        await anyio.to_process.run_sync(math.sqrt, 16)  # so that one is idle
        with anyio.move_on_after(0.1) as scope:
            await anyio.to_process.run_sync(time.sleep, 1000, cancellable=True)
        assert scope.cancelled_caught
        await anyio.to_process.run_sync(os.getpid)
        assert child_pids()  # the idle worker's guardian

    seen = hosts.Seen()
    with hosts.HOSTS["polling reaper"](seen):
        Backend({name!r}).run(body)
    assert childless()
    assert (seen.pids, seen.sigchld) == ([], 0), (seen.pids, seen.sigchld)
"""


def test_installed_worker_processes(backend: Backend) -> None:
    fresh.run(TO_PROCESS.format(name=backend.name))


@pytest.mark.usefixtures("installed")
def test_installed_the_shutdown_of_idle_workers(backend: Backend) -> None:
    """One that has exited by itself, and is not known to have, is no error there."""

    async def body() -> None:
        pid = await anyio.to_process.run_sync(os.getpid)
        os.kill(pid, signal.SIGKILL)
        await gone(pid)

    backend.run(body)


def test_awaited_first_when_a_trio_run_ends() -> None:
    """Trio has cancelled the task that serves the hub, which may run before or after the caller."""
    ended = []

    async def at_the_end(process: Process) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.fail_after(HANG_GUARD, shield=True):
                process.kill()
                ended.append(await process.wait())

    async def main() -> None:
        process = await aiopidfd.anyio.open_process(["sleep", "1000"], stdin=None, stdout=None)
        trio.lowlevel.spawn_system_task(at_the_end, process)
        await anyio.wait_all_tasks_blocked()

    for _ in range(20):  # trio tosses a coin for the order
        trio.run(main)
    assert ended == [-signal.SIGKILL] * 20


async def ended_by_its_block(ended: list[int | None]) -> AsyncIterator[None]:
    process = await aiopidfd.anyio.open_process(["sleep", "1000"], stdin=None, stdout=None)
    async with process:
        try:
            yield
        finally:
            process.kill()
            with trio.fail_after(HANG_GUARD, shield=True):
                ended.append(await process.wait())


async def ended_by_shutdown(ended: list[int | None]) -> AsyncIterator[None]:
    process = await aiopidfd.anyio.open_process(["sleep", "1000"], stdin=None, stdout=None)
    try:
        yield
    finally:
        with trio.fail_after(HANG_GUARD, shield=True):
            await aiopidfd.shutdown(grace=0)
        ended.append(process.returncode)


async def run_late(ended: list[int | None]) -> AsyncIterator[None]:
    await aiopidfd.anyio.run_process(["true"])
    try:
        yield
    finally:
        with trio.fail_after(HANG_GUARD, shield=True):
            done = await aiopidfd.anyio.run_process(["sh", "-c", "kill -9 $$"], check=False)
        ended.append(done.returncode)


@pytest.mark.parametrize("function", [ended_by_its_block, ended_by_shutdown, run_late])
def test_what_trio_closes_after_its_system_tasks(function: Any) -> None:
    """An async generator that is left at the end of a run: no task can serve the hub as before."""
    ended: list[int | None] = []
    left = []

    async def main() -> None:
        left.append(function(ended))
        await anext(left[0])

    trio.run(main)
    assert ended == [-signal.SIGKILL]
    assert childless()


def test_awaited_on_another_loop(backend: Backend) -> None:
    """One after the other they may. Meanwhile trio would break down, and asyncio say nothing."""

    async def start() -> aiopidfd.anyio.Process:
        return await aiopidfd.anyio.open_process(["cat"], stdout=None, stderr=None)

    async def end(process: aiopidfd.anyio.Process) -> None:
        await process.aclose()
        assert await process.wait() == 0

    async def in_another(process: aiopidfd.anyio.Process) -> None:
        with pytest.raises(RuntimeError, match="is awaited on another event loop; here PidFd"):
            await process.wait()

    async def meanwhile() -> None:
        process = await start()
        async with anyio.create_task_group() as group:
            group.start_soon(process.wait)
            await anyio.wait_all_tasks_blocked()
            for other in ("asyncio", "trio"):
                run = functools.partial(anyio.run, in_another, process, backend=other)
                await anyio.to_thread.run_sync(run)
            await process.aclose()

    for other in ("asyncio", "trio"):
        process = backend.run(start)
        anyio.run(end, process, backend=other)
    backend.run(meanwhile)


def test_awaited_on_two_loops_at_the_same_moment() -> None:
    """One has the program, the other is refused; neither waits for news that the other has."""
    rounds = 100
    processes: list[aiopidfd.anyio.Process] = []
    barrier = threading.Barrier(3, timeout=60)
    told: list[object] = []

    async def awaiting() -> None:
        for number in range(rounds):
            barrier.wait()
            try:
                with anyio.fail_after(60):
                    told.append(await processes[number].wait())
            except RuntimeError:
                told.append("refused")
            barrier.wait()

    async def starting() -> None:
        for _ in range(rounds):
            processes.append(
                await aiopidfd.anyio.open_process(["sleep", "0.01"], stdout=None, stderr=None)
            )
            barrier.wait()
            barrier.wait()
            await processes[-1].aclose()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=asyncio.run, args=(awaiting(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        asyncio.run(starting())
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(told) == 2 * rounds
    assert set(told) <= {0, "refused"}


def test_install_does_not_need_trio() -> None:
    fresh.run(
        """
        import importlib.util
        find_spec = importlib.util.find_spec
        sys.modules["trio"] = None
        importlib.util.find_spec = lambda name: None if name == "trio" else find_spec(name)
        import anyio
        import aiopidfd.anyio

        async def main():
            aiopidfd.anyio.install()
            result = await anyio.run_process("exit 3", check=False)
            assert result.returncode == 3
            result = await aiopidfd.anyio.run_process("exit 4", check=False)
            assert result.returncode == 4

        asyncio.run(main())
        """
    )
