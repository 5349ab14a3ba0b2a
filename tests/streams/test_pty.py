"""PTY: the child's terminal, on asyncio and uvloop; and real interactive programs on it."""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import shutil
import signal
import sys
import termios
import time
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PIPE, PTY, PidFd, run_process
from aiopidfd._spawn.open_terminal import open_terminal
from aiopidfd._streams.terminal import Terminal, TerminalReader, end_of_file, is_hung_up

from .. import fresh
from ..held_exec import held_exec
from ..support import (
    HOLD_STDOUT,
    full_terminal,
    gate,
    hang_guard,
    python,
    room_for,
    sh,
    turns,
    until,
    warnings_given,
)

ALL = {"stdin": PTY, "stdout": PTY, "stderr": PTY}
BOTH = {"stdin": PTY, "stdout": PTY}
RAW = "stty raw -echo <&2; echo go >&2; "  # where stderr is the terminal
PLAIN = {**os.environ, "TERM": "dumb", "PS1": "ready> ", "INPUTRC": "/dev/null", "HISTFILE": ""}

SAYS_ITS_SIZE = r"""
import os, signal
def say(*_):
    columns, rows = os.get_terminal_size(0)
    os.write(1, b"%d %d\n" % (rows, columns))  # a handler may interrupt a print()
signal.signal(signal.SIGWINCH, say)
say()
while True: signal.pause()
"""


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


async def start(*command: str, **options: Any) -> Any:
    return await aiopidfd.create_subprocess_exec(*command, **(options or ALL))


async def until_says(stream: Any, text: str) -> str:
    """Read until it has said so; returns all up to that, and leaves the rest to be read."""
    return (await stream.readuntil(text.encode())).decode()


async def foreground(process: Any, name: str) -> int:
    """Wait until that program has the terminal: before its exec a shell would take the signals.

    Returns its process group.
    """
    fd = process._terminal.fileno()

    def has_it() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{os.tcgetpgrp(fd)}/comm").read_text() == f"{name}\n"
        return False

    await until(has_it)
    return os.tcgetpgrp(fd)


# The child


async def test_it_is_the_child_s_controlling_terminal() -> None:
    script = "tty; ps -o tty=,sid=,tpgid= -p $$; echo $$; echo here > /dev/tty"
    process = await start(*sh(script))
    assert process.stderr is None
    output, error = await process.communicate()
    assert error is None
    name, seen, pid, here = output.decode().split("\r\n")[:4]
    assert re.fullmatch(r"/dev/pts/\d+", name)
    assert seen.split() == [name.removeprefix("/dev/"), pid, pid]
    assert here == "here"
    assert process.returncode == 0


@pytest.mark.parametrize("choices", [ALL, {**BOTH, "stderr": STDOUT}], ids=["PTY", "STDOUT"])
async def test_all_three_are_it(choices: dict[str, Any]) -> None:
    script = (
        "import os; print([os.isatty(fd) for fd in range(3)], len({*map(os.ttyname, range(3))}))"
    )
    process = await start(*python(script + "; os.write(2, b'error')"), **choices)
    assert await process.communicate() == (b"[True, True, True] 1\r\nerror", None)


async def test_nothing_else_of_it_is_open_in_the_child() -> None:
    script = "import os; print(os.listdir('/proc/self/fd'))"
    process = await start(*python(script))
    output, _ = await process.communicate()
    assert output == b"['0', '1', '2', '3']\r\n"  # the last is the listing's own


@pytest.mark.parametrize("session", [False, True])
async def test_one_session_whoever_asks_for_it(session: bool) -> None:
    options = {**ALL, "start_new_session": session}
    process = await start(*sh("ps -o sid= -p $$"), **options)
    assert int((await process.communicate())[0]) == process.pid


async def test_a_shell_command() -> None:
    process = await aiopidfd.create_subprocess_shell("tty && exit 3", **ALL)
    output, _ = await process.communicate()
    assert output.startswith(b"/dev/pts/")
    assert process.returncode == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change ids")
async def test_another_user() -> None:
    options: dict[str, Any] = {**BOTH, "user": 65534, "group": 65534}
    process = await start(*sh("id -u; echo here > /dev/tty"), **options)
    assert (await process.communicate())[0] == b"65534\r\nhere\r\n"


async def test_it_does_not_become_ours() -> None:
    """A daemon has no terminal, and the next that it opens could become it."""
    fresh.run("""
        if os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
        os.setsid()
        result = asyncio.run(aiopidfd.run_process("tty", stdin=aiopidfd.PTY))
        assert result.stdout.startswith(b"/dev/pts/"), result
        try:
            os.open("/dev/tty", os.O_RDWR)
        except OSError as exc:
            assert exc.errno == errno.ENXIO, exc
        else:
            raise AssertionError("we have a controlling terminal")
    """)


# Some of the three


async def test_stdin_alone() -> None:
    process = await start(*sh("cat; test -t 0 && echo yes"), stdin=PTY, stdout=PIPE)
    assert await process.communicate(b"one\ntwo") == (b"one\ntwoyes\n", None)
    assert process.returncode == 0


async def test_stdin_alone_and_much_is_said_to_the_terminal() -> None:
    """Nobody reads that: it is dropped, and the program need not wait."""
    script = "head -c 1000000 /dev/zero | tr '\\0' x > /dev/tty; echo done"
    process = await start(*sh(script), stdin=PTY, stdout=PIPE)
    assert await process.communicate() == (b"done\n", None)


async def test_stdin_alone_and_it_closes_that() -> None:
    process = await start(*sh("exec <&-; echo closed; exec sleep 600"), stdin=PTY, stdout=PIPE)
    assert await process.stdout.readline() == b"closed\n"
    await until(process.stdin.is_closing)
    await process.aclose()


async def test_stdout_and_a_pipe_for_stderr() -> None:
    process = await start(*sh("tty; tty >&2"), **BOTH, stderr=PIPE)
    output, error = await process.communicate()
    assert output == error.replace(b"\n", b"\r\n")


async def test_stderr_alone() -> None:
    process = await start(*sh("echo out; echo error >&2; cat <&2"), stdout=PIPE, stderr=PTY)
    assert process.stdin is None
    assert await process.stderr.readline() == b"error\r\n"
    assert await process.stdout.read(4) == b"out\n"
    process.stderr.close()  # nobody reads, and nobody writes: it is hung up
    assert await process.wait() == -signal.SIGHUP
    assert await process.stdout.read() == b""


async def test_stdin_and_stderr() -> None:
    process = await start(*sh("cat >&2"), stdin=PTY, stderr=PTY, stdout=DEVNULL)
    assert await process.communicate(b"one\n") == (None, b"one\r\none\r\n")


async def test_a_pipe_for_stdin() -> None:
    result = await run_process(["cat"], input=b"one\ntwo", stdout=PTY)
    assert (result.stdout, result.stderr) == (b"one\r\ntwo", b"")


# The window


async def test_the_window_size_is_set_and_changed() -> None:
    process = await start(*python(SAYS_ITS_SIZE), **ALL, window_size=(30, 100))
    assert await process.stdout.readline() == b"30 100\r\n"
    assert process.window_size == (30, 100)
    process.set_window_size(65535, 0)
    assert await process.stdout.readline() == b"65535 0\r\n"
    assert process.window_size == (65535, 0)
    process.terminate()
    await process.communicate()
    for _ in range(2):
        with pytest.raises(OSError, match="its terminal is closed") as caught:
            process.set_window_size(1, 1)
        assert caught.value.errno == errno.ENOTTY
    with pytest.raises(OSError, match="its terminal is closed"):
        _ = process.window_size


async def test_the_window_size_is_the_kernel_s_if_none_is_given() -> None:
    process = await start(*python("import os; print(os.get_terminal_size())"))
    assert b"columns=0, lines=0" in (await process.communicate())[0]


async def test_no_terminal_and_its_window_size() -> None:
    process = await start("cat", stdin=PIPE)
    with pytest.raises(OSError, match="nothing is PTY") as caught:
        process.set_window_size(1, 1)
    assert caught.value.errno == errno.ENOTTY
    with pytest.raises(OSError, match="nothing is PTY"):
        _ = process.window_size
    await process.communicate()


@pytest.mark.parametrize(
    ("size", "error"),
    [
        ((-1, 1), ValueError),
        ((1, 65536), ValueError),
        ((1.0, 1), TypeError),
        ((1, "1"), TypeError),
        ((1,), TypeError),
        ((1, 2, 3), TypeError),
        (3, TypeError),
    ],
    ids=str,
)
async def test_what_is_no_window_size(size: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await start("/bin/true", **ALL, window_size=size)
    if isinstance(size, tuple) and len(size) == 2:
        process = await start("cat", **BOTH)
        with pytest.raises(error):
            process.set_window_size(*size)
        await process.communicate()


# Errors, before anything is started


async def test_python_s_own_terminal_size_is_the_other_way_round() -> None:
    with pytest.raises(TypeError, match=r"os.terminal_size is \(columns, lines\)"):
        await start("/bin/true", **ALL, window_size=os.terminal_size((80, 24)))


async def test_a_window_size_of_no_terminal() -> None:
    with pytest.raises(ValueError, match="window_size needs PTY"):
        await start("/bin/true", stdin=PIPE, window_size=(1, 1))


async def test_a_process_group_of_its_own() -> None:
    with pytest.raises(ValueError, match="process_group cannot go with PTY"):
        await start("/bin/true", **ALL, process_group=0)


async def test_spawn_refuses_it() -> None:
    with pytest.raises(ValueError, match="spawn\\(\\) makes no terminals"):
        aiopidfd.spawn(["/bin/true"], stdout=PTY)


async def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        await start("/no/such/program", **ALL)


async def with_free_descriptors(count: int) -> str | None:
    """The name of the errno with so many descriptors free, or None if there were enough."""
    try:
        with room_for(count):
            process = await start("/bin/true")
            await process.communicate()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return None


async def test_no_descriptor_is_free() -> None:
    said = [await with_free_descriptors(count) for count in range(14)]
    enough = said.index(None)
    assert enough >= 4  # the slave, and three of the master
    assert said == ["EMFILE"] * enough + [None] * (14 - enough)


@pytest.mark.parametrize("choices", [ALL, {"stdin": PTY}], ids=str)
async def test_nothing_is_opened_once_the_program_runs(
    choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be too late for EMFILE."""
    real = aiopidfd._asyncio.process.open_streams

    def with_none_free(*args: Any) -> Any:
        with room_for(0):
            return real(*args)

    monkeypatch.setattr("aiopidfd._asyncio.process.open_streams", with_none_free)
    process = await start("cat", **choices)
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("turn", range(6))
async def test_cancelled(turn: int) -> None:
    task = asyncio.create_task(start("cat"))
    await turns(turn)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await (await task).aclose(grace=0)


async def test_cancelled_while_exec_hangs(tmp_path: Path) -> None:
    with held_exec(tmp_path) as held:
        task = asyncio.create_task(start(held.path, "-c", "exit 3"))
        await asyncio.to_thread(held.wait_until_held)
        task.cancel()
        await turns()
        held.let_go()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize("broken", range(3))
async def test_a_loop_that_refuses(broken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader, the writer, or what drops the output cannot be set up: nothing is left."""
    target, choices = [
        ("aiopidfd._streams.pipe_transports._Pipe._begin", ALL),
        ("aiopidfd._streams.terminal.TerminalReader.__init__", ALL),
        ("aiopidfd._streams.terminal.Terminal.drop_output", {"stdin": PTY}),
    ][broken]

    def refuse(pipe: Any, *args: Any) -> None:
        fds = [arg for arg in args if isinstance(arg, int)]
        for fd in fds or ([pipe._fd] if broken == 0 else []):
            os.close(fd)
            pipe._fd = -1
        raise OSError(errno.ENOMEM, "no")

    monkeypatch.setattr(target, refuse)
    with pytest.raises(OSError, match="no"):
        await start("cat", **choices)


# The end of the output


async def test_every_byte_of_much_output() -> None:
    """The end comes with a hang-up while much is still in the terminal: no EIO, and no loss."""
    data = b"".join(b"%07d\n" % number for number in range(125_000))
    script = "import os; os.write(1, b''.join(b'%07d\\n' % n for n in range(125000)))"
    for _ in range(3):
        process = await start(*python(script), stdout=PTY)
        assert await process.stdout.read() == data.replace(b"\n", b"\r\n")
        assert await process.stdout.read() == b""
        assert process.stdout.at_eof()
        assert await process.wait() == 0


async def test_raw_output() -> None:
    data = os.urandom(1_000_000)
    script = "stty raw -echo <&2; cat"
    process = await start(*sh(script), stdin=PIPE, stdout=PTY, stderr=PTY)
    assert (await process.communicate(data))[0] == data


async def test_a_slow_reader_loses_nothing() -> None:
    process = await start(
        *sh("seq 100000; exec >&- 2>&-; exit 3"), stdout=PTY, stderr=PTY, limit=99
    )
    await until(lambda: process.stdout._paused)
    lines = [line async for line in process.stdout.lines()]
    assert lines == [b"%d\r\n" % number for number in range(1, 100_001)]
    assert await process.wait() == 3


async def test_text() -> None:
    process = await start(*sh("cat; echo ende"), **BOTH, text=True, encoding="utf-8")
    process.stdin.write("grün\n")
    assert await process.stdout.readline() == "grün\n"
    process.stdin.close()
    assert [line async for line in process.stdout.lines()] == ["grün\n", "ende\n"]
    assert await process.wait() == 0
    result = await run_process("cat", input="weiß\n", **BOTH, encoding="utf-8")
    assert result.stdout == "weiß\nweiß\n"


async def test_input_for_a_terminal() -> None:
    result = await run_process("cat", input=b"one\n", **BOTH)
    assert result.stdout == b"one\r\none\r\n"
    with pytest.raises(ValueError, match="stdin and input"):
        await run_process("cat", input=b"one\n", stdin=PIPE)


async def test_the_program_goes_on_without_its_terminal() -> None:
    """It has closed all three: that is the end of the output, and no hang-up."""
    result = await run_process("echo one; exec <&- >&- 2>&-; sleep 0.1; exit 3", check=False, **ALL)
    assert (result.stdout, result.stderr, result.returncode) == (b"one\r\n", None, 3)


OPENS_IT_ANEW = r"""
import os, sys
os.closerange(0, 3)
os.read(int(sys.argv[1]), 1)
fd = os.open("/dev/tty", os.O_WRONLY)
for _ in range(1000): os.write(fd, bytes(1000))
os._exit(3)
"""


@pytest.mark.parametrize("choices", [ALL, {"stdin": PTY}, {"stdout": PTY}], ids=str)
async def test_the_program_opens_its_terminal_anew(choices: dict[str, Any]) -> None:
    """Nobody reads it then: what it says is dropped, and it need not wait."""
    with gate() as (read, release, _):
        command = python(OPENS_IT_ANEW, str(read))
        process = await start(*command, **choices, pass_fds=[read])
        if process.stdout is not None:
            assert await process.stdout.read() == b""
        else:
            await until(process.stdin.is_closing)
        release()
        assert await process.wait() == 3
    await until(lambda: process._terminal.fileno() < 0)
    if process.stdin is not None:
        assert process.stdin.is_closing()


@pytest.mark.parametrize("drain", [0, 0.05])
async def test_a_grandchild_that_holds_it(drain: float) -> None:
    with gate() as (read, _, _):
        command = f"trap '' HUP; {HOLD_STDOUT} echo here"
        result = await run_process(command, stdin=read, stdout=PTY, drain=drain)
    assert result.stdout == b"here\r\n"


async def test_a_grandchild_that_goes_on_writing() -> None:
    """What is read after the time is over is no more than a terminal holds."""
    command = "trap '' HUP; { echo $PPID here; exec yes; } & exec sleep 0.2"
    result = await run_process(command, stdout=PTY, drain=0)
    assert result.stdout.count(b"y") > 1000


class Collector(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


async def test_all_that_it_holds_is_read_at_once() -> None:
    """FIONREAD tells a part of it, or nothing."""
    master, slave, written = full_terminal()
    terminal = Terminal(os.dup(master))
    collector = Collector()
    reader = TerminalReader(asyncio.get_running_loop(), master, collector, terminal)
    reader.drain()
    assert collector.data == bytes(written)
    reader.drain()
    reader.close()
    os.close(slave)


# The input, and its end


async def test_the_end_of_file() -> None:
    for text in (b"", b"one\n", b"one", b"one\r", b"one\x04"):
        process = await start("cat", stdin=PTY, stdout=PIPE)
        process.stdin.write(text)
        process.stdin.write_eof()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == text.replace(b"\r", b"\n").strip(b"\x04")
        assert await process.wait() == 0


async def test_the_end_of_file_is_read_once() -> None:
    process = await start(*sh("cat; echo first; cat; echo second"), stdin=PTY, stdout=PIPE)
    process.stdin.write(b"one\x04\x04")
    assert await process.stdout.readexactly(9) == b"onefirst\n"
    assert (await process.communicate(b"two\n"))[0] == b"two\nsecond\n"


async def test_what_the_end_of_file_is() -> None:
    master, slave = open_terminal()
    settings = termios.tcgetattr(slave)
    try:
        assert end_of_file(master, b"x") == b"\4\4"
        assert [end_of_file(master, last) for last in (b"", b"\n", b"\r", b"\4")] == [b"\4"] * 4
        settings[0] &= ~termios.ICRNL
        settings[6][termios.VEOF] = b"\5"
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        assert end_of_file(master, b"\r") == b"\5\5"
        assert end_of_file(master, b"\5") == b"\5"
        settings[6][termios.VEOF] = b"\0"
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        assert end_of_file(master, b"") == b""
        settings[6][termios.VEOF] = b"\4"
        settings[3] &= ~termios.ICANON
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        assert end_of_file(master, b"") == b""
    finally:
        os.close(slave)
        os.close(master)


async def test_raw_mode_has_no_end_of_file_but_a_hang_up() -> None:
    process = await start(*sh(f"{RAW} cat; echo ended"), **ALL)
    await until_says(process.stdout, "go\n")
    process.stdin.write(b"\x03\x04\r")
    assert await process.stdout.readexactly(3) == b"\x03\x04\r"
    process.stdin.close()
    await process.stdin.wait_closed()
    process.stdout.close()
    assert await process.wait() == -signal.SIGHUP


async def test_much_raw_input() -> None:
    data = os.urandom(1_000_000)
    script = f"{RAW} head -c {len(data)} | sha256sum"
    process = await start(*sh(script), stdin=PTY, stderr=PTY, stdout=PIPE)
    assert await process.stderr.readline() == b"go\n"
    process.stdin.write(data)
    await process.stdin.drain()
    output, _ = await process.communicate()
    assert output.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_much_input_by_lines() -> None:
    """The end of file comes after all of it, when there is room for it."""
    data = b"".join(b"%07d\n" % number for number in range(50_000))
    process = await start("sha256sum", stdin=PTY, stdout=PIPE)
    output, _ = await process.communicate(data)
    assert output.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_back_pressure_and_nobody_who_reads() -> None:
    process = await start(*sh(f"{RAW} exec sleep 600"), **ALL)
    await until_says(process.stdout, "go\n")
    process.stdin.write(bytes(100_000))
    drain = asyncio.create_task(process.stdin.drain())
    await turns()
    assert not drain.done()
    process.kill()
    with pytest.raises(BrokenPipeError):
        await drain
    with pytest.raises(BrokenPipeError):
        await process.stdin.wait_closed()
    assert await process.communicate() == (b"", None)


async def test_a_terminal_that_nobody_has_open_takes_nothing() -> None:
    process = await start("/bin/true", stdin=PTY)
    await process.wait()
    await until(process.stdin.is_closing)
    process.stdin.write(b"too late")
    with pytest.raises(ConnectionResetError):
        await process.stdin.drain()

    process = await start(*sh("exec <&- >&- 2>&-; exec sleep 600"), **ALL, limit=1)
    process.stdout._pipe.pause_reading()  # so that only the writer can notice
    while not is_hung_up(process.stdin.transport._fd):
        time.sleep(0.002)  # and before the loop does
    process.stdin.write(b"x")
    with pytest.raises(BrokenPipeError):
        await process.stdin.drain()
    await process.aclose(grace=0)


async def test_ctrl_c() -> None:
    process = await start("cat", **BOTH)
    process.stdin.write(b"\x03")
    assert await process.communicate() == (b"^C", None)
    assert process.returncode == -signal.SIGINT


# Hanging up


async def test_closing_all_hangs_up() -> None:
    process = await start(*sh("trap 'exit 3' HUP; echo ready; while :; do read line; done"), **ALL)
    await until_says(process.stdout, "ready")
    process.stdin.transport.abort()
    process.stdout.close()
    assert await process.wait() == 3


async def test_stdin_may_be_closed_last() -> None:
    process = await start("cat", **BOTH)
    process.stdout.close()
    await turns()
    assert process.returncode is None
    process.stdin.transport.abort()
    assert await process.wait() == -signal.SIGHUP


async def test_leaving_the_block_ends_it() -> None:
    async with await start("cat") as process:
        process.stdin.write(b"one\n")
        await until_says(process.stdout, "one\r\none\r\n")
    assert process.returncode == -signal.SIGTERM


async def test_a_forked_copy_does_not_keep_it_up() -> None:
    process = await start("sleep", "1000", **ALL)  # cat may read the end before the signal comes
    read, write = os.pipe()
    copy = os.fork()
    if not copy:
        os.close(write)
        os.read(read, 1)  # until the original has seen the hang-up
        os._exit(0)
    try:
        os.close(read)
        process._streams.close()
        assert await process.wait() == -signal.SIGHUP
    finally:
        os.close(write)
        os.waitpid(copy, 0)


async def test_a_dropped_handle() -> None:
    """The terminal stays while the program runs, and goes with it."""
    with warnings_given() as seen:
        process = await start(*sh("read x; exit 3"), stdin=PTY)
        pid, ends = process.pid, (process.stdin.transport, process._terminal)
        del process
        ends[0].write(b"\n")
        await until(lambda: all(end.fileno() < 0 for end in ends))
    assert seen == [(ResourceWarning, f"subprocess {pid} is still running")]


async def test_a_timeout() -> None:
    for timeout in (0.2, 2, 20):  # until it has had the time for its line
        with pytest.raises(aiopidfd.TimeoutExpired) as caught:
            await run_process("echo one; exec sleep 600", **BOTH, timeout=timeout)
        if caught.value.stdout:
            break
    assert caught.value.stdout == b"one\r\n"


# On our loops


@pytest.fixture
async def installed() -> AsyncIterator[None]:
    aiopidfd.install()
    yield
    aiopidfd.uninstall()


@pytest.mark.usefixtures("installed")
async def test_asyncio_s_own_functions() -> None:
    process: Any = await asyncio.create_subprocess_exec("cat", **ALL, window_size=(3, 4))
    assert process.stderr is None
    terminal = process._transport.get_extra_info("terminal")
    assert terminal.window_size == (3, 4)
    terminal.set_window_size(5, 6)
    assert terminal.window_size == (5, 6)
    assert await process.communicate(b"one\n") == (b"one\r\none\r\n", None)
    assert process.returncode == 0
    # asyncio closes its end where the output has ended: that is no hang-up.
    process = await asyncio.create_subprocess_shell(
        "echo one; exec <&- >&- 2>&-; sleep 0.1; exit 3", **ALL
    )
    assert await process.communicate() == (b"one\r\n", None)
    assert process.returncode == 3
    process = await asyncio.create_subprocess_exec(*sh("cat >&2"), stdin=PTY, stderr=PIPE)
    assert await process.communicate(b"one") == (None, b"one")
    assert process._transport.get_extra_info("subprocess").pid == process.pid


class Told(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.lost = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.events.append((fd, data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.events.append((fd, exc))

    def process_exited(self) -> None:
        self.events.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("choices", [ALL, {"stdin": PTY, "stdout": DEVNULL, "stderr": DEVNULL}])
async def test_a_protocol(choices: dict[str, Any]) -> None:
    """stdin, which nobody closes, is lost too, or the transport would never be done."""
    loop = asyncio.get_running_loop()
    command = sh("test -t 1 && echo one; exit 3")
    transport, protocol = await loop.subprocess_exec(Told, *command, **choices)
    assert transport.get_pipe_transport(2) is None
    assert await protocol.lost is None
    assert transport.get_returncode() == 3
    reads = choices is ALL
    assert protocol.events.count((0, None)) == 1
    assert protocol.events.count((1, None)) == reads
    data = [event[1] for event in protocol.events if event[0] == 1 and event[1] is not None]
    assert b"".join(data) == (b"one\r\n" if reads else b"")
    transport.close()


@pytest.mark.usefixtures("installed")
async def test_a_grandchild_that_lets_go_of_stdin_later() -> None:
    """Nobody reads the terminal, and the program has exited: still the hang-up is noticed."""
    loop = asyncio.get_running_loop()
    with gate() as (read, release, _):
        options: dict[str, Any] = {"stdin": PTY, "stdout": DEVNULL, "stderr": read}
        command = sh("trap '' HUP; exec 3<&0; cat <&2 & exit 3")
        transport, protocol = await loop.subprocess_exec(Told, *command, **options)
        await until(lambda: "exited" in protocol.events)
        assert not protocol.lost.done()
        release()
        assert await protocol.lost is None
    assert protocol.events == ["exited", (0, None)]
    transport.close()


@pytest.mark.usefixtures("installed")
async def test_a_transport_that_is_closed() -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Told, "cat", **ALL)
    transport.close()
    assert await protocol.lost is None
    assert transport.get_returncode() in (-signal.SIGHUP, -signal.SIGKILL)


# Interactive programs


needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
needs_less = pytest.mark.skipif(not shutil.which("less"), reason="less is not installed")


async def bash() -> Any:
    command = ("bash", "--norc", "--noprofile", "-i")
    process = await start(*command, **ALL, env=PLAIN, window_size=(24, 80))
    await until_says(process.stdout, "ready> ")
    return process


@needs_bash
async def test_bash() -> None:
    process = await bash()
    process.stdin.write(b"echo the sum is $((20 + 22)); tty\n")
    assert "/dev/pts/" in await until_says(process.stdout, "the sum is 42\r\n/dev/pts/")
    await until_says(process.stdout, "ready> ")
    process.set_window_size(11, 77)
    process.stdin.write(b"stty size\n")
    await until_says(process.stdout, "11 77\r\n")
    process.stdin.write(b"exit 3\n")
    output, _ = await process.communicate()
    assert output.endswith(b"exit\r\n")
    assert process.returncode == 3


@needs_bash
async def test_bash_and_its_jobs() -> None:
    process = await bash()
    say, out = process.stdin.write, process.stdout
    say(b"sleep 600 &\n")
    await until_says(out, "ready> ")
    say(b"jobs\n")
    assert "Running" in await until_says(out, "sleep 600 &\r\n")
    await until_says(out, "ready> ")
    say(b"fg\n")
    await foreground(process, "sleep")
    say(b"\x1a")  # Ctrl-Z
    await until_says(out, "Stopped")
    await until_says(out, "ready> ")
    say(b"fg\n")
    await foreground(process, "sleep")
    say(b"\x03")  # Ctrl-C
    await until_says(out, "ready> ")
    say(b"echo $?\n")
    await until_says(out, "\r\n130\r\n")
    say(b"exit\n")
    await process.communicate()
    assert process.returncode == 0


@needs_bash
async def test_bash_ends_when_its_terminal_is_closed() -> None:
    process = await bash()
    process.stdin.write(b"sleep 600\n")
    job = PidFd.open(await foreground(process, "sleep"))
    process._streams.close()
    assert await process.wait() == -signal.SIGHUP
    await job.wait()
    job.close()


async def test_python() -> None:
    process = await start(sys.executable, "-i", "-q", **ALL, env=PLAIN)
    await until_says(process.stdout, ">>> ")
    process.stdin.write(b"6 * 7\n")
    await until_says(process.stdout, "\r\n42\r\n>>> ")
    process.stdin.write(b"while True: pass\n\n")
    await until_says(process.stdout, "... ")
    await until_busy(process.pid)
    process.stdin.write(b"\x03")
    await until_says(process.stdout, "KeyboardInterrupt\r\n>>> ")
    process.stdin.write(b"raise SystemExit(3)\n")
    await process.communicate()
    assert process.returncode == 3


async def until_busy(pid: int) -> None:
    """Until it has used some more processor time than now: it computes."""
    used = spent(pid)
    await until(lambda: spent(pid) > used + 2)


def spent(pid: int) -> int:
    """Ticks of the processor, in user mode."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


@needs_less
async def test_less(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("".join(f"this is line {number}.\n" for number in range(1, 1001)))
    env = {**os.environ, "TERM": "vt100", "LESS": "", "LESSSECURE": "1"}
    process = await start("less", str(file), **ALL, env=env, window_size=(24, 80))
    first = await until_says(process.stdout, "line 23.")
    assert "line 1." in first
    assert "line 24." not in first
    process.stdin.write(b" ")
    second = await until_says(process.stdout, "line 46.")
    assert "line 24." in second
    process.stdin.write(b"G")
    await until_says(process.stdout, "line 1000.")
    process.stdin.write(b"q")
    await process.communicate()
    assert process.returncode == 0
