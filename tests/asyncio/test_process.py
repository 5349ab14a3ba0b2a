"""`Process` against asyncio's own: one body of tests for both, wherever they must agree."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import aiopidfd
from aiopidfd import DEVNULL, PIPE, STDOUT

from ..support import exists, gate, hang_guard, python, sh, turns, until

SUBJECTS = {
    "aiopidfd": SimpleNamespace(
        ours=True,
        exec=aiopidfd.create_subprocess_exec,
        shell=aiopidfd.create_subprocess_shell,
    ),
    "asyncio": SimpleNamespace(
        ours=False,
        exec=asyncio.create_subprocess_exec,
        shell=asyncio.create_subprocess_shell,
    ),
}


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


@pytest.fixture(params=SUBJECTS)
async def subject(request: pytest.FixtureRequest) -> Any:
    if request.param == "asyncio" and not isinstance(
        asyncio.get_running_loop(), asyncio.SelectorEventLoop
    ):
        pytest.skip("asyncio's own is what we compare with; uvloop's has semantics of its own")
    return SUBJECTS[request.param]


# Standard streams


async def test_three_pipes(subject: Any) -> None:
    process = await subject.exec(*sh("cat; echo err >&2"), stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await process.communicate(b"in\n") == (b"in\n", b"err\n")
    assert process.returncode == 0


async def test_no_pipes(subject: Any) -> None:
    process = await subject.exec("/bin/true")
    assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
    assert await process.communicate() == (None, None)


async def test_devnull(subject: Any) -> None:
    script = "readlink /proc/self/fd/0 /proc/self/fd/2 && cat && echo nothing >&2"
    process = await subject.exec(*sh(script), stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    assert await process.communicate() == (b"/dev/null\n" * 2, None)
    process = await subject.exec(
        *sh("exec 3>&1; readlink /proc/self/fd/3 >&2"), stdout=DEVNULL, stderr=PIPE
    )
    assert await process.communicate() == (None, b"/dev/null\n")


async def test_stderr_to_the_stdout_pipe_keeps_the_order(subject: Any) -> None:
    process = await subject.exec(*sh("echo 1; echo 2 >&2; echo 3"), stdout=PIPE, stderr=STDOUT)
    assert process.stderr is None
    assert await process.communicate() == (b"1\n2\n3\n", None)


async def test_stderr_to_an_inherited_stdout(subject: Any, capfd: Any) -> None:
    process = await subject.exec(*sh("echo 1; echo 2 >&2"), stderr=STDOUT)
    assert await process.wait() == 0
    assert capfd.readouterr() == ("1\n2\n", "")


async def test_stderr_to_a_stdout_that_is_a_file(subject: Any, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        process = await subject.exec(*sh("echo 1; echo 2 >&2"), stdout=file, stderr=STDOUT)
        assert await process.wait() == 0
    assert (tmp_path / "out").read_bytes() == b"1\n2\n"


async def test_descriptors_and_file_objects(subject: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file\n")
    with (
        (tmp_path / "in").open("rb") as stdin,
        (tmp_path / "out").open("wb") as stdout,
        (tmp_path / "err").open("wb") as stderr,
    ):
        process = await subject.exec(
            *sh("cat; echo err >&2"), stdin=stdin, stdout=stdout.fileno(), stderr=stderr
        )
        assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
        assert await process.wait() == 0
        assert not stdin.closed
        os.fstat(stdout.fileno())  # still open, and ours
    assert (tmp_path / "out").read_bytes() == b"from a file\n"
    assert (tmp_path / "err").read_bytes() == b"err\n"


async def test_a_file_may_be_all_three(subject: Any, tmp_path: Path) -> None:
    with (tmp_path / "all").open("wb+") as file:
        file.write(b"line\n")
        file.flush()
        file.seek(0)
        process = await subject.exec(
            *sh("read x; echo got $x; echo err >&2"), stdin=file, stdout=file, stderr=file
        )
        assert await process.wait() == 0
    assert (tmp_path / "all").read_bytes() == b"line\ngot line\nerr\n"


async def test_none_inherits(subject: Any, tmp_path: Path) -> None:
    # Through 3, because the shell redirects its own stdout for the loop.
    script = f"exec 3>&1; for n in 0 3 2; do stat -L -c %d:%i /proc/$$/fd/$n; done > {tmp_path}/ids"
    process = await subject.exec(*sh(script))
    assert await process.wait() == 0
    ours = [os.fstat(fd) for fd in range(3)]
    expected = [f"{stat.st_dev}:{stat.st_ino}" for stat in ours]
    assert (tmp_path / "ids").read_text().split() == expected


async def test_inherited_stdout_and_stderr(subject: Any, capfd: Any) -> None:
    process = await subject.exec(*sh("echo out; echo err >&2"))
    assert await process.wait() == 0
    assert capfd.readouterr() == ("out\n", "err\n")


# Reading


async def test_readline(subject: Any) -> None:
    process = await subject.exec("printf", r"one\n\ntwo\r\nlast", stdout=PIPE)
    lines = [await process.stdout.readline() for _ in range(6)]
    assert lines == [b"one\n", b"\n", b"two\r\n", b"last", b"", b""]
    assert await process.wait() == 0


async def test_async_for(subject: Any) -> None:
    process = await subject.exec("printf", r"one\n\ntwo\nlast", stdout=PIPE)
    assert [line async for line in process.stdout] == [b"one\n", b"\n", b"two\n", b"last"]
    assert await process.wait() == 0


async def test_readexactly(subject: Any) -> None:
    process = await subject.exec("printf", "0123456789", stdout=PIPE)
    assert await process.stdout.readexactly(0) == b""
    assert await process.stdout.readexactly(4) == b"0123"
    with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
        await process.stdout.readexactly(-1)
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await process.stdout.readexactly(7)
    assert (caught.value.partial, caught.value.expected) == (b"456789", 7)
    assert await process.wait() == 0


async def test_readexactly_of_more_than_the_limit(subject: Any) -> None:
    script = "head -c 1000000 /dev/zero; echo end"
    process = await subject.exec(*sh(script), stdout=PIPE, limit=100)
    assert await process.stdout.readexactly(1_000_000) == bytes(1_000_000)
    assert await process.stdout.read() == b"end\n"
    assert await process.wait() == 0


async def test_readuntil(subject: Any) -> None:
    process = await subject.exec("printf", "a::b::::c", stdout=PIPE)
    assert await process.stdout.readuntil(b"::") == b"a::"
    assert await process.stdout.readuntil(b"::") == b"b::"
    assert await process.stdout.readuntil(b"::") == b"::"
    with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
        await process.stdout.readuntil(b"")
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await process.stdout.readuntil(b"::")
    assert caught.value.partial == b"c"
    assert await process.wait() == 0


async def test_read_some(subject: Any) -> None:
    process = await subject.exec(*sh("printf 0123456789; cat"), stdin=PIPE, stdout=PIPE)
    assert await process.stdout.read(0) == b""
    assert await process.stdout.read(4) == b"0123"
    assert await process.stdout.read(1000) == b"456789"  # what there is, not 1,000 bytes
    assert not process.stdout.at_eof()
    process.stdin.close()
    assert await process.stdout.read(1) == b""
    assert process.stdout.at_eof()
    assert await process.stdout.read(1) == b""
    assert await process.wait() == 0


async def test_read_all(subject: Any) -> None:
    process = await subject.exec(*sh("head -c 3000000 /dev/zero; printf end"), stdout=PIPE)
    assert await process.stdout.read(3) == bytes(3)
    data = await process.stdout.read()
    assert len(data) == 3_000_000
    assert data[-4:] == b"\0end"
    assert process.stdout.at_eof()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_a_line_over_the_limit_is_a_valueerror_and_is_skipped(subject: Any) -> None:
    # One write, so one chunk: the separator is found beyond the limit.
    process = await subject.exec("printf", "%0100d\\nnext\\n", "0", stdout=PIPE, limit=30)
    with pytest.raises(ValueError, match="limit") as caught:
        await process.stdout.readline()
    assert not isinstance(caught.value, asyncio.LimitOverrunError)
    assert await process.stdout.readline() == b"next\n"
    assert await process.wait() == 0


async def test_a_line_without_end_over_the_limit(subject: Any) -> None:
    process = await subject.exec(
        *sh("head -c 1000 /dev/zero; cat"), stdin=PIPE, stdout=PIPE, limit=100
    )
    with pytest.raises(ValueError, match="limit"):
        await process.stdout.readline()
    assert await process.communicate(b"") == (b"", None)


async def test_readuntil_over_the_limit_keeps_the_data(subject: Any) -> None:
    process = await subject.exec("printf", "0123456789;rest", stdout=PIPE, limit=5)
    with pytest.raises(asyncio.LimitOverrunError) as caught:
        await process.stdout.readuntil(b";")
    assert caught.value.consumed == 10
    assert await process.stdout.readexactly(11) == b"0123456789;"
    assert await process.stdout.read() == b"rest"
    assert await process.wait() == 0


async def test_two_readers_of_one_stream_are_refused(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE, stdout=PIPE)
    first = asyncio.create_task(process.stdout.readline())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another coroutine is already waiting"):
        await process.stdout.readline()
    process.stdin.write(b"line\n")
    assert await first == b"line\n"
    process.stdin.close()
    assert await process.wait() == 0


async def test_a_cancelled_readline_loses_nothing(subject: Any) -> None:
    process = await subject.exec(
        *sh("printf abc; echo >&2; cat"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    task = asyncio.create_task(process.stdout.readline())
    await process.stderr.readline()
    await until(lambda: len(process.stdout._buffer) == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    process.stdin.write(b"def\n")
    process.stdin.close()
    assert await process.stdout.readline() == b"abcdef\n"
    assert await process.stdout.read() == b""
    assert await process.stderr.read() == b""
    assert await process.wait() == 0


# Writing


async def test_a_conversation(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE, stdout=PIPE)
    for word in (b"one\n", b"two\n", b"three\n"):
        process.stdin.write(word)
        await process.stdin.drain()
        assert await process.stdout.readline() == word
    process.stdin.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    process.stdin.write(b"")
    assert not process.stdin.is_closing()
    process.stdin.close()
    assert process.stdin.is_closing()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b"abc"
    assert await process.wait() == 0


async def test_write_eof(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin.can_write_eof()
    process.stdin.write(b"all")
    process.stdin.write_eof()
    assert process.stdin.is_closing()
    assert await process.stdout.read() == b"all"
    await process.stdin.wait_closed()
    assert await process.wait() == 0


async def test_close_sends_what_is_buffered(subject: Any) -> None:
    data = os.urandom(1_000_000)
    process = await subject.exec("cat", stdin=PIPE, stdout=PIPE)
    process.stdin.write(data)
    assert process.stdin.transport.get_write_buffer_size() > 0
    process.stdin.close()
    process.stdin.close()  # once more does nothing
    assert await process.stdout.read() == data
    assert await process.wait() == 0


async def test_write_after_close_goes_nowhere(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE, stdout=PIPE)
    process.stdin.close()
    process.stdin.write(b"too late")
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_drain_after_the_reader_is_gone(subject: Any) -> None:
    process = await subject.exec(
        *sh("exec 0<&-; echo closed; exec sleep 60"), stdin=PIPE, stdout=PIPE
    )
    assert await process.stdout.readline() == b"closed\n"

    async def write_on() -> None:
        for _ in range(1000):
            process.stdin.write(b"x" * 1000)
            await process.stdin.drain()

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await write_on()
    assert process.stdin.is_closing()
    assert process.returncode is None
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert await process.stdout.read() == b""


async def test_drain_that_waits_while_the_reader_goes(subject: Any) -> None:
    process = await subject.exec("sleep", "60", stdin=PIPE)
    process.stdin.write(bytes(1_000_000))
    drain = asyncio.create_task(process.stdin.drain())
    await asyncio.sleep(0)
    process.kill()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await drain
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await process.stdin.wait_closed()
    assert await process.wait() == -signal.SIGKILL


async def test_wait_closed_without_loss_is_no_error(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE, stdout=DEVNULL)
    process.stdin.write(b"data")
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.wait() == 0
    await process.stdin.wait_closed()


async def test_write_takes_only_bytes(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE)
    with pytest.raises((TypeError, AssertionError)):
        process.stdin.write("text")
    process.stdin.close()
    assert await process.wait() == 0


async def test_write_buffer_limits(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE)
    transport = process.stdin.transport
    seen = [transport.get_write_buffer_limits()]
    for limits in ({"high": 1000}, {"low": 50}, {"high": 10, "low": 10}, {"high": 0}, {}):
        transport.set_write_buffer_limits(**limits)
        seen.append(transport.get_write_buffer_limits())
    assert seen == [(16384, 65536), (250, 1000), (50, 200), (10, 10), (0, 0), (16384, 65536)]
    with pytest.raises(ValueError, match="must be >= low"):
        transport.set_write_buffer_limits(high=1, low=2)
    process.stdin.close()
    assert await process.wait() == 0


# communicate()


async def test_communicate_much_in_all_directions(subject: Any) -> None:
    data = os.urandom(3_000_000)
    process = await subject.exec(*sh("tee /dev/stderr"), stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate(data)
    assert out == data
    assert err == data
    assert process.returncode == 0


async def test_communicate_after_some_was_read(subject: Any) -> None:
    process = await subject.exec("printf", r"one\ntwo\n", stdout=PIPE)
    assert await process.stdout.readline() == b"one\n"
    assert await process.communicate() == (b"two\n", None)


async def test_communicate_empty_input_closes_stdin(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"") == (b"", None)


async def test_communicate_without_input_closes_stdin(subject: Any) -> None:
    if not subject.ours and sys.version_info < (3, 12):
        pytest.skip("asyncio before 3.12 leaves stdin open here")
    process = await subject.exec("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate() == (b"", None)


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_communicate_swallows_a_broken_pipe(subject: Any, size: int) -> None:
    process = await subject.exec(*sh("exec 0<&-; echo done"), stdin=PIPE, stdout=PIPE)
    assert await process.communicate(bytes(size)) == (b"done\n", None)
    assert process.returncode == 0


async def test_communicate_with_a_program_that_reads_half(subject: Any) -> None:
    process = await subject.exec("head", "-c", "100000", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"x" * 1_000_000) == (b"x" * 100_000, None)


async def test_communicate_after_the_exit(subject: Any) -> None:
    process = await subject.exec(*sh("echo out; echo err >&2"), stdout=PIPE, stderr=PIPE)
    assert await process.wait() == 0
    assert await process.communicate() == (b"out\n", b"err\n")


# The exit


async def test_returncode_updates_itself(subject: Any) -> None:
    process = await subject.exec(*sh("read x; exit 7"), stdin=PIPE)
    assert process.returncode is None
    process.stdin.close()
    await until(lambda: process.returncode is not None)
    assert process.returncode == 7


@pytest.mark.parametrize("code", [0, 1, 127, 255])
async def test_exit_codes(subject: Any, code: int) -> None:
    process = await subject.exec(*sh(f"exit {code}"))
    assert await process.wait() == process.returncode == code


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT, signal.SIGRTMIN + 3]
)
async def test_killed_by_a_signal_is_negative(subject: Any, number: int) -> None:
    process = await subject.exec(*sh(f"ulimit -c 0; kill -{int(number)} $$"))
    assert await process.wait() == process.returncode == -number


async def test_wait_after_the_exit(subject: Any) -> None:
    process = await subject.exec(*sh("exit 3"))
    assert [await process.wait() for _ in range(3)] == [3, 3, 3]


async def test_many_waiters(subject: Any) -> None:
    process = await subject.exec(*sh("read x; exit 5"), stdin=PIPE)
    waiters = [asyncio.create_task(process.wait()) for _ in range(50)]
    await asyncio.sleep(0)
    process.stdin.close()
    assert await asyncio.gather(*waiters) == [5] * 50


async def test_a_cancelled_wait_leaves_the_program_alone(subject: Any) -> None:
    process = await subject.exec(*sh("read x; exit 6"), stdin=PIPE)
    waiters = [asyncio.create_task(process.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiters[1]
    assert process.returncode is None
    process.stdin.close()
    assert [await waiters[0], await waiters[2]] == [6, 6]


async def test_many_at_once(subject: Any) -> None:
    async def one(number: int) -> tuple[bytes, int]:
        process = await subject.exec(*sh(f"echo {number}; exit {number}"), stdout=PIPE)
        out, _ = await process.communicate()
        return out, process.returncode

    results = await asyncio.gather(*(one(number) for number in range(40)))
    assert results == [(f"{number}\n".encode(), number) for number in range(40)]


# Signals


async def test_send_signal(subject: Any) -> None:
    script = 'trap "echo caught; exit 5" USR1; echo ready; while :; do sleep 0.01; done'
    process = await subject.exec(*sh(script), stdout=PIPE)
    assert await process.stdout.readline() == b"ready\n"
    process.send_signal(0)  # no signal: only whether one could be sent
    process.send_signal(signal.SIGUSR1)
    assert await process.communicate() == (b"caught\n", None)
    assert process.returncode == 5


async def test_terminate(subject: Any) -> None:
    process = await subject.exec("sleep", "60")
    process.terminate()
    assert await process.wait() == -signal.SIGTERM


async def test_kill(subject: Any) -> None:
    process = await subject.exec(*sh('trap "" TERM; echo ready; exec sleep 60'), stdout=PIPE)
    assert await process.stdout.readline() == b"ready\n"
    process.terminate()
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert await process.stdout.read() == b""


async def test_an_invalid_signal(subject: Any) -> None:
    process = await subject.exec("sleep", "60")
    with pytest.raises(OSError, match="Invalid argument") as caught:
        process.send_signal(1000)
    assert type(caught.value) is OSError
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_signals_after_the_exit_was_collected(subject: Any) -> None:
    process = await subject.exec("/bin/true")
    await process.wait()
    await turns()  # asyncio wakes the waiters a turn before it forgets the child
    for send in (lambda: process.send_signal(signal.SIGTERM), process.terminate, process.kill):
        with pytest.raises(ProcessLookupError):
            send()


async def test_signals_before_the_exit_is_known() -> None:
    """The guardian has reaped it, but the loop has had no turn: as a zombie it takes them."""
    with gate() as (held, release, _):
        process = await aiopidfd.create_subprocess_exec(*sh("read x"), stdin=held)
        release()
        while exists(process.pid):
            time.sleep(0.001)
    assert process.returncode is None
    for send in (lambda: process.send_signal(signal.SIGTERM), process.terminate, process.kill):
        send()
    assert await process.wait() == 1  # of read, at the end of its input


# The object


async def test_types_and_attributes(subject: Any) -> None:
    process = await subject.exec(*sh("echo $$"), stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert isinstance(process, asyncio.subprocess.Process)
    assert isinstance(process.stdin, asyncio.StreamWriter)
    assert isinstance(process.stdout, asyncio.StreamReader)
    assert isinstance(process.stderr, asyncio.StreamReader)
    assert repr(process).startswith((f"<Process {process.pid}>", f"<Process pid={process.pid} "))
    assert await process.communicate() == (f"{process.pid}\n".encode(), b"")
    assert await process.wait() == 0


async def test_stdin_transport_is_a_write_pipe(subject: Any) -> None:
    process = await subject.exec("cat", stdin=PIPE)
    transport = process.stdin.transport
    assert isinstance(transport, asyncio.WriteTransport)
    pipe = process.stdin.get_extra_info("pipe")
    assert os.fstat(pipe if isinstance(pipe, int) else pipe.fileno()).st_mode & 0o010000
    assert process.stdin.get_extra_info("nonsense", "default") == "default"
    process.stdin.close()
    assert await process.wait() == 0


# Shell


async def test_shell(subject: Any) -> None:
    process = await subject.shell(
        'read x; echo "got $x" | tr a-z A-Z; exit 4', stdin=PIPE, stdout=PIPE
    )
    assert await process.communicate(b"it\n") == (b"GOT IT\n", None)
    assert process.returncode == 4


async def test_shell_bytes(subject: Any) -> None:
    process = await subject.shell(b"printf '\xff'", stdout=PIPE)
    assert await process.communicate() == (b"\xff", None)


async def test_shell_command_not_found(subject: Any) -> None:
    process = await subject.shell("no-such-program-at-all", stderr=PIPE)
    _, err = await process.communicate()
    assert process.returncode == 127
    assert b"not found" in err


@pytest.mark.parametrize("cmd", [["echo", "x"], ("echo",), Path("/bin/true"), 3, None])
async def test_shell_command_must_be_a_string(subject: Any, cmd: Any) -> None:
    with pytest.raises(ValueError, match=r"^cmd must be a string$"):
        await subject.shell(cmd)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("exec", {"shell": True}, "shell must be False"),
        ("shell", {"shell": False}, "shell must be True"),
        ("exec", {"bufsize": 1}, "bufsize must be 0"),
        ("shell", {"bufsize": -1}, "bufsize must be 0"),
    ],
)
async def test_refused_parameters(
    subject: Any, kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        await getattr(subject, kind)("/bin/true", **options)


async def test_accepted_parameters(subject: Any) -> None:
    """The values that asyncio lets pass, in code written for it."""
    process = await subject.exec(
        "/bin/true",
        shell=False,
        bufsize=0,
        universal_newlines=False,
        text=False,
        encoding=None,
        errors=None,
    )
    assert await process.wait() == 0
    process = await subject.shell("true", shell=True, bufsize=0)
    assert await process.wait() == 0


async def test_unknown_option(subject: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        await subject.exec("/bin/true", nonsense=1)


@pytest.mark.parametrize("argument", [3, None, 1.5, ["x"]])
async def test_arguments_must_be_strings(subject: Any, argument: Any) -> None:
    with pytest.raises(TypeError):
        await subject.exec("/bin/echo", argument)


async def test_missing_program(subject: Any) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await subject.exec("/no/such/program", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert caught.value.filename == "/no/such/program"


async def test_environment_and_cwd(subject: Any, tmp_path: Path) -> None:
    process = await subject.exec(
        *sh("pwd -P; echo $A"), stdout=PIPE, cwd=tmp_path, env={"A": "value"}
    )
    assert await process.communicate() == (f"{tmp_path.resolve()}\nvalue\n".encode(), None)


async def test_large_argument(subject: Any) -> None:
    word = "x" * 100_000
    process = await subject.exec("printf", "%s", word, stdout=PIPE)
    assert await process.communicate() == (word.encode(), None)


async def test_an_argument_beyond_what_the_kernel_takes(subject: Any) -> None:
    with pytest.raises(OSError, match="Argument list too long") as caught:
        await subject.exec("/bin/echo", "x" * 200_000)
    assert caught.value.filename == "/bin/echo"


# What only ours has


@pytest.mark.parametrize("limit", [0, -1])
async def test_limit_must_be_positive(limit: int) -> None:
    with pytest.raises(ValueError, match=r"^Limit cannot be <= 0$"):
        await aiopidfd.create_subprocess_exec("/bin/true", stdout=PIPE, limit=limit)


async def test_repr_tells_the_returncode() -> None:
    process = await aiopidfd.create_subprocess_exec(*sh("read x; exit 1"), stdin=PIPE)
    pipe = process.stdin.transport
    assert repr(process) == f"<Process pid={process.pid} running stdin={pipe!r}>"
    await process.communicate()
    said = f"<Process pid={process.pid} returncode=1 stdin=<WritePipe closed>>"
    assert repr(process) == said


async def test_args_are_kept() -> None:
    process = await aiopidfd.create_subprocess_exec("/bin/echo", b"x", stdout=DEVNULL)
    assert process.args == ["/bin/echo", b"x"]
    await process.wait()
    process = await aiopidfd.create_subprocess_shell("true")
    assert process.args == ["/bin/sh", "-c", "true"]
    await process.wait()


async def test_pidfd_can_be_polled_while_it_runs() -> None:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    info = Path(f"/proc/self/fdinfo/{process.pidfd}").read_text()
    assert f"Pid:\t{process.pid}\n" in info
    process.stdin.close()
    assert await process.wait() == 0
    assert process.pidfd == -1


async def test_the_parent_is_the_guardian_and_that_is_our_child() -> None:
    process = await aiopidfd.create_subprocess_exec(*sh("echo $PPID"), stdout=PIPE)
    assert await process.communicate() == (f"{process.guardian_pid}\n".encode(), None)
    assert process.guardian_pid not in (process.pid, os.getpid())


async def test_rusage_is_that_of_this_child_alone() -> None:
    script = "import time\nwhile time.process_time() < 0.2: pass"
    busy = await aiopidfd.create_subprocess_exec(*python(script))
    idle = await aiopidfd.create_subprocess_exec("/bin/true")
    assert busy.rusage is None
    await asyncio.gather(busy.wait(), idle.wait())
    assert busy.rusage is not None
    assert idle.rusage is not None
    assert busy.rusage.ru_utime + busy.rusage.ru_stime >= 0.2
    assert idle.rusage.ru_utime + idle.rusage.ru_stime < 0.2
    assert busy.rusage.ru_maxrss > 0


async def test_async_with_ends_the_program() -> None:
    async with await aiopidfd.create_subprocess_exec(
        "sleep", "60", stdin=PIPE, stdout=PIPE
    ) as process:
        assert process.returncode is None
    assert process.returncode == -signal.SIGTERM
    assert process.stdin.is_closing()
    assert process.stdout.is_closing()


async def test_async_with_a_program_that_has_ended() -> None:
    async with await aiopidfd.create_subprocess_exec(*sh("exit 9"), stdout=PIPE) as process:
        await process.wait()
    assert process.returncode == 9


async def test_async_with_ends_the_program_when_the_body_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        async with await aiopidfd.create_subprocess_exec("sleep", "60") as process:
            raise ZeroDivisionError
    assert process.returncode == -signal.SIGTERM


async def test_aclose_kills_what_does_not_end() -> None:
    process = await aiopidfd.create_subprocess_exec(
        *sh('trap "" TERM; echo ready; exec sleep 60'), stdout=PIPE
    )
    await process.stdout.readline()
    await process.aclose(grace=0.05)
    assert process.returncode == -signal.SIGKILL


async def test_aclose_without_grace_kills() -> None:
    process = await aiopidfd.create_subprocess_exec("sleep", "60")
    await process.aclose(grace=0)
    assert process.returncode == -signal.SIGKILL


async def test_a_cancelled_aclose_kills_at_once() -> None:
    process = await aiopidfd.create_subprocess_exec(
        *sh('trap "" TERM; echo ready; exec sleep 600'), stdout=PIPE
    )
    await process.stdout.readline()
    task = asyncio.create_task(process.aclose(grace=600))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process.returncode == -signal.SIGKILL
    assert process.stdout.is_closing()


async def test_a_dropped_handle_warns_and_is_reaped() -> None:
    process = await aiopidfd.create_subprocess_exec(*sh("read x; exit 3"), stdin=PIPE)
    pid, watch = process.pid, process._watch
    stdin = process.stdin
    with pytest.warns(ResourceWarning, match=f"subprocess {pid} is still running"):
        del process
    stdin.close()
    await watch.exited()
    assert watch.program.returncode == 3


async def test_communicate_input_without_a_pipe() -> None:
    process = await aiopidfd.create_subprocess_exec("/bin/true")
    with pytest.raises(ValueError, match="neither PIPE nor PTY"):
        await process.communicate(b"x")
    assert await process.wait() == 0


async def test_communicate_input_must_be_bytes() -> None:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    with pytest.raises(TypeError, match="bytes-like"):
        await process.communicate("text")
    await process.communicate()


async def test_stdout_for_the_wrong_stream() -> None:
    for wrong in ({"stdin": STDOUT}, {"stdout": STDOUT}):
        with pytest.raises(ValueError, match="STDOUT can only be used for stderr"):
            await aiopidfd.create_subprocess_exec("/bin/true", **wrong)


async def test_constants_are_those_of_subprocess() -> None:
    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)
    assert aiopidfd.TimeoutExpired is subprocess.TimeoutExpired
    assert aiopidfd.CalledProcessError is subprocess.CalledProcessError


@pytest.mark.parametrize("grace", [False, "", [], -1, float("nan")], ids=repr)
async def test_a_grace_that_is_none_starts_nothing(grace: Any, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match="grace must"):
        await aiopidfd.create_subprocess_exec("touch", tmp_path / "started", grace=grace)
    assert not (tmp_path / "started").exists()
