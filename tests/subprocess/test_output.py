"""`aiopidfd.subprocess`: output that is bounded, shown or told by line, by a call that blocks."""

import asyncio
import io
import re
import signal
import subprocess as standard
import sys
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest

import aiopidfd
from aiopidfd import BoundedProcess, OutputLimitError, subprocess

from .. import fresh
from ..census import child_pids, open_fds
from ..output_support import Collector
from ..support import exists, gate, room_for, sh

# --- output_limit


@pytest.mark.parametrize("on_limit", ["raise", "head", "tail"])
def test_output_within_the_limit(on_limit: Any) -> None:
    result = subprocess.run(
        sh("printf 12345; printf 123 >&2"),
        capture_output=True,
        output_limit=5,
        on_limit=on_limit,
    )
    assert type(result) is BoundedProcess
    assert (result.stdout, result.stderr) == (b"12345", b"123")
    assert (result.stdout_dropped, result.stderr_dropped) == (0, 0)


@pytest.mark.parametrize(("on_limit", "out"), [("head", b"12345"), ("tail", b"56789")])
def test_the_first_or_the_last_bytes(on_limit: Any, out: bytes) -> None:
    options: dict[str, Any] = {"output_limit": 5, "on_limit": on_limit}
    script = sh("printf 1234; printf 56789; printf abc >&2; exit 3")
    result = subprocess.run(script, capture_output=True, **options)
    assert (result.returncode, result.stdout, result.stderr) == (3, out, b"abc")
    assert (result.stdout_dropped, result.stderr_dropped) == (4, 0)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        subprocess.check_output(script, stderr=DEVNULL, **options)
    assert caught.value.stdout == out
    assert caught.value.__notes__ == ["4 bytes of its stdout were not kept"]
    assert subprocess.check_output(["printf", "123456789"], **options) == out


def test_of_very_much_the_rest_is_read_and_dropped() -> None:
    script = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2; echo end; echo end >&2"
    for on_limit, kept in (("head", bytes(1000)), ("tail", bytes(996) + b"end\n")):
        result: Any = subprocess.run(
            sh(script), capture_output=True, output_limit=1000, on_limit=on_limit
        )
        assert result.stdout == result.stderr == kept
        assert (result.stdout_dropped, result.stderr_dropped) == (2_999_004, 1_999_004)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_beyond_the_limit_the_tree_is_ended(stream: str, tmp_path: Path) -> None:
    redirection = "" if stream == "stdout" else ">&2"
    script = f"echo $$ >{tmp_path}/pid; printf out; printf err >&2; sleep 600 & exec yes "
    with pytest.raises(OutputLimitError) as caught:
        subprocess.run(script + redirection, shell=True, capture_output=True, output_limit=1000)
    error = caught.value
    assert (error.cmd, error.stream, error.limit) == (script + redirection, stream, 1000)
    start = {"stdout": b"out", "stderr": b"err"}
    start[stream] = (start[stream] + b"y\n" * 500)[:1000]
    assert (error.stdout, error.stderr) == (start["stdout"], start["stderr"])
    assert not exists(int((tmp_path / "pid").read_text()))


def test_both_outputs_beyond_the_limit_are_one_error() -> None:
    for _ in range(10):
        with pytest.raises(OutputLimitError) as caught:
            subprocess.run(sh("yes & yes >&2"), capture_output=True, output_limit=5)
        assert len(caught.value.stdout or b"") <= 5
        assert len(caught.value.stderr or b"") <= 5


def test_a_limit_of_nothing() -> None:
    assert subprocess.run(["true"], stdout=PIPE, output_limit=0).stdout == b""
    with pytest.raises(OutputLimitError):
        subprocess.run(["echo", "x"], stdout=PIPE, output_limit=0)


def test_text_is_cut_between_characters() -> None:
    def run(on_limit: Any) -> Any:
        return subprocess.run(
            ["cat"],
            input="é" * 10,
            stdout=PIPE,
            encoding="utf-8",
            output_limit=5,
            on_limit=on_limit,
        )

    for on_limit in ("head", "tail"):
        assert (run(on_limit).stdout, run(on_limit).stdout_dropped) == ("éé", 16)
    with pytest.raises(OutputLimitError) as caught:
        run("raise")
    assert caught.value.stdout == ("é" * 10).encode()[:5]


def test_stdout_that_is_given_by_its_place() -> None:
    """`Popen` has it as its fifth."""
    place: Any = ([*sh("echo abc")], -1, None, None, PIPE)
    result = subprocess.run(*place, output_limit=2, on_limit="head")
    assert (result.stdout, result.stdout_dropped) == (b"ab", 2)


MEMORY = """
    from aiopidfd import subprocess

    LIMIT = 32 << 20

    def peak():
        lines = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
        return int(lines["VmHWM"].split()[0]) << 10

    def run(limit):
        # `yes` alone never ends: for what goes on it is cut.
        command = "yes" if {on_limit!r} == "raise" else "yes | head -c %d" % (8 * LIMIT)
        try:
            return subprocess.run(
                command, shell=True, stdout=-1, output_limit=limit, on_limit={on_limit!r})
        except aiopidfd.OutputLimitError as exc:
            return exc

    run(10)
    before = peak()
    assert len(run(LIMIT).stdout) == LIMIT
    print((peak() - before) / LIMIT)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("on_limit", ["raise", "head", "tail"])
def test_memory_is_within_twice_the_limit(on_limit: str) -> None:
    assert float(fresh.run(MEMORY.format(on_limit=on_limit))) < 2.1  # some buffers beside


# --- communicate()


def test_communicate_with_a_limit() -> None:
    pipes: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
    for on_limit, out in (("head", b"01234"), ("tail", b"56789")):
        with subprocess.Popen(sh("cat; printf err >&2"), **pipes) as process:
            said = process.communicate(b"0123456789", output_limit=5, on_limit=on_limit)
            assert said == (out, b"err")
            assert process.dropped == (5, 0)
            assert process.returncode == 0
            assert process.communicate() == said
    with subprocess.Popen(["cat"], text=True, encoding="utf-8", **pipes) as text:
        assert text.communicate("aéé", output_limit=4, on_limit="head") == ("aé", "")


def test_communicate_with_a_limit_of_what_is_not_captured() -> None:
    with (
        subprocess.Popen("cat", stdin=subprocess.PIPE, text=True) as process,
        pytest.raises(ValueError, match="output_limit needs an output that is captured"),
    ):
        process.communicate("", output_limit=10)


def test_communicate_beyond_the_limit_ends_it() -> None:
    with subprocess.Popen(["yes"], stdout=PIPE) as process:
        with pytest.raises(OutputLimitError) as caught:
            process.communicate(output_limit=4)
        error = caught.value
        assert (error.cmd, error.stdout, error.stderr) == (["yes"], b"y\ny\n", None)
        assert process.returncode == -signal.SIGKILL


def test_communicate_beyond_the_limit_called_again() -> None:
    process = subprocess.Popen("echo 123456; exec sleep 600", shell=True, stdout=PIPE)
    for _ in range(2):
        with pytest.raises(OutputLimitError) as caught:
            process.communicate(output_limit=4)
        assert caught.value.stdout == b"1234"


def test_communicate_with_a_limit_that_timed_out_goes_on() -> None:
    with (
        gate() as (read, release, _),
        subprocess.Popen(
            sh("printf 12; read x; printf 3456; exit 7"), stdin=read, stdout=PIPE
        ) as process,
    ):
        for _ in range(3):
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=0.05, output_limit=5, on_limit="tail")
        assert process.poll() is None
        with pytest.raises(ValueError, match="with another limit"):
            process.communicate(output_limit=6)
        with pytest.raises(ValueError, match="Cannot send input after"):
            process.communicate(b"x")
        release()
        assert process.communicate() == (b"23456", None)
        assert (process.dropped, process.returncode) == ((1, 0), 7)


def test_a_limit_after_communicate_without_one_is_refused() -> None:
    with subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0)
        with pytest.raises(ValueError, match="before without a limit"):
            process.communicate(output_limit=5)
        process.kill()
        assert process.communicate() == (b"", None)


def test_a_process_that_was_bounded_is_freed_at_once() -> None:
    with subprocess.Popen(["echo"], stdout=PIPE) as process:
        process.communicate(output_limit=5)
    freed = weakref.ref(process)
    del process
    assert freed() is None


# --- Sinks


def test_lines_to_a_function_and_captured() -> None:
    out, err = Collector(), Collector()
    script = "echo a; echo b; printf c; echo d >&2"
    result = subprocess.run(sh(script), stdout=[PIPE, out], stderr=err)
    assert (out, err) == ([b"a", b"b", b"c"], [b"d"])
    assert (result.stdout, result.stderr) == (b"a\nb\nc", None)
    assert type(result) is subprocess.CompletedProcess


def test_in_text() -> None:
    lines = Collector()
    result = subprocess.run(["cat"], input="é\r\nb\rc", encoding="utf-8", stdout=[PIPE, lines])
    assert (lines, result.stdout) == (["é", "b", "c"], "é\nb\nc")


def test_tee_to_files(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    text = io.StringIO()
    with (tmp_path / "log").open("wb") as log:
        result = subprocess.run(
            sh("echo a; echo b >&2"), stdout=[PIPE, sys.stdout, log, text], stderr=STDOUT
        )
    assert result.stdout == b"a\nb\n" == (tmp_path / "log").read_bytes()
    assert text.getvalue() == "a\nb\n"
    assert capfdbinary.readouterr().out == b"a\nb\n"


def test_sinks_and_a_limit() -> None:
    lines = Collector()
    result = subprocess.run(["seq", "100"], stdout=[lines, PIPE], output_limit=4, on_limit="tail")
    assert [int(line) for line in lines] == [*range(1, 101)]
    assert (result.stdout, result.stdout_dropped) == (b"100\n", 288)


def test_check_output_with_a_sink_for_stderr() -> None:
    errors = Collector()
    script = sh("echo out; echo err >&2")
    assert subprocess.check_output(script, stderr=errors) == b"out\n"
    assert errors == [b"err"]


def test_much_input_and_much_output() -> None:
    lines = Collector()
    data = b"".join(b"%d\n" % number for number in range(100_000))
    result = subprocess.run(["cat"], input=data, stdout=[PIPE, lines])
    assert result.stdout == data
    assert b"\n".join([*lines, b""]) == data


def test_a_program_that_does_not_read_its_input() -> None:
    result = subprocess.run(sh("exec <&-; echo x"), input=bytes(1 << 20), stdout=[PIPE])
    assert result.stdout == b"x\n"


async def coroutine_function(line: bytes) -> None: ...


class Callable:
    async def __call__(self, line: bytes) -> None: ...


@pytest.mark.parametrize(
    "function",
    [coroutine_function, partial(coroutine_function), Callable(), [PIPE, coroutine_function]],
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_coroutine_functions_are_refused(name: str, function: Any, tmp_path: Path) -> None:
    message = f"{name} must be a plain function, not a coroutine function: a call that blocks"
    with pytest.raises(TypeError, match=message):
        subprocess.run(["touch", str(tmp_path / "it")], **{name: function})
    assert not any(tmp_path.iterdir())


def test_a_function_that_turns_out_to_be_one_ends_the_program() -> None:
    with pytest.raises(TypeError, match="returned an awaitable, a coroutine, which a call that"):
        subprocess.run(["yes"], stdout=lambda line: coroutine_function(line))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stdout": object()}, TypeError, "or a list of PIPE, functions and files; not object"),
        ({"stdout": [object()]}, TypeError, "functions and files; not a list with object"),
        ({"stderr": []}, ValueError, "stderr is an empty list"),
        ({"stdout": [PIPE, aiopidfd.PTY]}, ValueError, "makes no terminals"),
        ({"stdout": print, "capture_output": True}, ValueError, "may not be used with capture"),
        ({"stdout": print, "input": "x"}, TypeError, "input must be bytes-like, not str"),
        ({"stdout": print, "input": b"x", "text": True}, TypeError, "input must be str, not bytes"),
        ({"output_limit": "5"}, TypeError, "output_limit must be a number of bytes, not str"),
        ({"output_limit": -1}, ValueError, "output_limit must not be negative: -1"),
        ({"on_limit": "tail"}, ValueError, "on_limit='tail' needs an output_limit"),
        ({"output_limit": 5, "on_limit": "x"}, ValueError, "must be 'raise', 'head' or 'tail'"),
    ],
)
def test_what_is_refused_starts_nothing(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        subprocess.run(["touch", str(tmp_path / "it")], **options)
    assert not any(tmp_path.iterdir())


async def test_a_stream_of_a_loop_is_refused() -> None:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE)
    async with process:
        with pytest.raises(TypeError, match="stdout cannot be a stream of a loop: this call bl"):
            subprocess.run(["echo"], stdout=process.stdin)  # type: ignore[call-overload]


@pytest.mark.parametrize("end", ["", "exec yes", "sleep 600 & yes >&2"])
def test_a_function_that_raises_ends_the_tree(end: str) -> None:
    def bad(line: bytes) -> None:
        raise ZeroDivisionError

    told = Collector()
    with pytest.raises(ZeroDivisionError):
        subprocess.run(sh(f"printf err >&2; echo x; {end}"), stdout=bad, stderr=told)
    assert told[0].startswith(b"err")  # the other output is told to its end
    assert not child_pids()


def test_two_that_raise_are_a_group() -> None:
    def bad(line: bytes) -> None:
        raise ZeroDivisionError(line)

    with pytest.raises(ExceptionGroup) as caught:
        subprocess.run(sh("printf a; printf b >&2"), stdout=bad, stderr=bad)
    assert {str(exc) for exc in caught.value.exceptions} == {"b'a'", "b'b'"}


def test_ctrl_c_in_a_function_ends_the_program() -> None:
    def interrupted(line: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subprocess.run(["yes"], stdout=[PIPE, interrupted])


# --- A call that blocks


def test_a_timeout_ends_the_tree_and_all_that_was_written_is_told() -> None:
    lines = Collector()
    script = "echo a; printf b; (trap '' TERM; sleep 600) & sleep 600"
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        subprocess.run(script, shell=True, stdout=[PIPE, lines], stderr=PIPE, timeout=0.5)
    error = caught.value
    assert (error.cmd, error.timeout, error.stdout, error.stderr) == (script, 0.5, b"a\nb", None)
    assert lines == [b"a", b"b"]


def test_a_slow_function_does_not_hold_up_a_timeout() -> None:
    """A chunk has so many lines that a function may need minutes for it: 32,768 here."""
    told = Collector()

    def slow(line: bytes) -> None:
        told(line)
        time.sleep(0.0003)

    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["yes"], stdout=slow, timeout=0.1)
    assert 0 < len(told) < 16_000
    told.clear()
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run("yes >&2", shell=True, stdout=[PIPE, told], stderr=slow, timeout=0.1)
    assert 0 < len(told) < 16_000


@pytest.mark.parametrize("where", [(), (-1, None, None, DEVNULL)])
@pytest.mark.parametrize("options", [{}, {"stdout": print}, {"stderr": [print]}], ids=str)
def test_a_limit_where_nothing_is_captured(
    where: tuple[Any, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    options = {} if where else options
    with pytest.raises(ValueError, match="output_limit needs an output that is captured"):
        subprocess.run(["touch", tmp_path / "started"], *where, output_limit=5, **options)
    assert not (tmp_path / "started").exists()


def test_a_timeout_says_what_was_dropped() -> None:
    script = "printf 123456; exec sleep 600"
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        subprocess.run(
            sh(script), capture_output=True, output_limit=4, on_limit="head", timeout=0.3
        )
    assert caught.value.output == b"1234"
    assert caught.value.__notes__ == ["2 bytes of its stdout were not kept"]


def test_a_timeout_while_the_outputs_are_closed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(sh("exec >&-; sleep 600"), stdout=[PIPE], timeout=0.2)


def test_the_gil_is_free_and_there_is_no_thread() -> None:
    with gate() as (read, release, _):
        started = threading.Event()
        threads: list[int] = []

        def line(line: bytes) -> None:
            threads.append(threading.get_ident())
            started.set()

        def other() -> None:
            started.wait()
            release()

        thread = threading.Thread(target=other)
        thread.start()
        result = subprocess.run(sh("echo a; read x; echo b"), stdin=read, stdout=[PIPE, line])
        thread.join()
    assert result.stdout == b"a\nb\n"
    assert threads == [threading.get_ident()] * 2


def test_ctrl_c_that_does_not_interrupt_the_sleep_is_seen() -> None:
    """The kernel gives the signal to another thread."""
    fresh.run(
        """
        from aiopidfd import subprocess
        told = threading.Event()

        def interrupt():
            told.wait()
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            subprocess.run("echo; exec sleep 60", shell=True, stdout=lambda line: told.set())
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        thread.join()
        """
    )


def test_where_no_descriptor_is_left_for_the_wait() -> None:
    before = open_fds()
    for room in range(7):
        with room_for(room):
            try:
                result = subprocess.run(["echo", "x"], stdout=[PIPE])
            except OSError:
                pass
            else:
                assert result.stdout == b"x\n"
    assert not child_pids()
    assert {*open_fds()} == {*before}


def test_in_a_thread_of_a_loop_that_runs() -> None:
    """The loop itself is not used: what a function gets, it gets before `run` returns."""
    lines = Collector()

    async def main() -> None:
        subprocess.run(["echo", "x"], stdout=lines)
        assert lines == [b"x"]

    asyncio.run(main())


def test_input_for_a_stdin_that_was_closed() -> None:
    """What the standard module of this Python does; with a limit, the error that it has had."""

    def outcome(module: Any, **options: Any) -> str:
        with module.Popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            process.stdin.close()
            try:
                return str(process.communicate(b"data", **options))
            except ValueError as exc:
                return str(exc)

    flush = "flush of closed file"
    assert outcome(subprocess) == outcome(standard)
    assert outcome(standard) in (flush, str((b"", b"")))  # the latter in 3.13.15 and 3.15
    assert outcome(subprocess, output_limit=100) == flush


@pytest.mark.parametrize("closed", [[1], [0, 1], [1, 2], [0, 1, 2]])
def test_stderr_into_a_stdout_that_is_closed(closed: list[int]) -> None:
    """By then a pipe to the program has the number of stdout."""
    fresh.run(
        f"""
        from aiopidfd import subprocess

        saved = [os.dup(fd) for fd in range(3)]
        for fd in {closed}:
            os.close(fd)
        before = set(open_fds())
        try:
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as exc:
            error = exc
        left = set(open_fds()) - before
        for fd in {closed}:
            os.dup2(saved[fd], fd)
        assert error.errno == errno.EBADF
        assert "stderr" in str(error)
        assert not left
        """
    )
