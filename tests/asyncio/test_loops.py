"""Event loops of ours, and loops that were turned: asyncio's own functions, and any protocol.

The code here is what a user cannot change: it names asyncio only. Each test runs on all four loops,
which pytest-asyncio makes by its loop factories.
"""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

import aiopidfd
import aiopidfd.anyio

from ..census import childless
from ..held_exec import held_exec
from ..hosts import HOSTS, Seen
from ..support import HOLD_STDOUT, exists, gate, hang_guard, sh, turns, until, warnings_given


def turned(factory: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
    loop = factory()
    aiopidfd.install(loop)
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "EventLoop": aiopidfd.EventLoop,
    "UvloopEventLoop": aiopidfd.UvloopEventLoop,
    "asyncio, turned": lambda: turned(asyncio.SelectorEventLoop),
    "uvloop, turned": lambda: turned(uvloop.new_event_loop),
}

COMMANDS = {"exit 0": 0, "exit 3": 3, "exit 255": 255, "sleep 0.05; exit 7": 7, "kill -9 $$": -9}


def expect_no_child() -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def unchanged_program() -> list[int]:
    """What somebody else wrote for asyncio."""

    async def run(command: str) -> int:
        process = await asyncio.create_subprocess_shell(command, stdout=subprocess.PIPE)
        await process.communicate()
        return await process.wait()

    return await asyncio.gather(*(run(command) for command in COMMANDS))


# Invisible --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
async def test_unchanged_code_gets_invisible_programs(host: str) -> None:
    seen = Seen()
    with HOSTS[host](seen):
        for _ in range(3):
            assert await unchanged_program() == [*COMMANDS.values()]
        if host != "__WALL reaper":
            process = await asyncio.create_subprocess_exec("sleep", "0.1")
            expect_no_child()
            assert await process.wait() == 0
            expect_no_child()
    assert seen.sigchld == 0
    if host != "__WALL reaper":  # that one may take guardians; what they had to say is not lost
        assert not seen.pids


async def test_a_library_on_top_of_asyncio() -> None:
    async with await anyio.open_process(["cat"]) as process:
        expect_no_child()
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(b"through anyio")
        await process.stdin.aclose()
        assert await process.stdout.receive() == b"through anyio"
    assert process.returncode == 0
    assert (await anyio.run_process("exit 4", check=False)).returncode == 4


async def test_the_options_are_the_same_on_every_loop(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_shell(
        "umask; pwd; echo $X", stdout=subprocess.PIPE, umask=0o27, cwd=tmp_path, env={"X": "y"}
    )
    out, _ = await process.communicate()
    assert out.decode().split() == ["0027", str(tmp_path), "y"]


# The transport ----------------------------------------------------------------------------------


class Recorder(asyncio.SubprocessProtocol):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.output: dict[int, bytes] = {1: b"", 2: b""}
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data
        if ("data", fd) not in self.events:
            self.events.append(("data", fd))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.events.append(("lost", fd, type(exc)))

    def process_exited(self) -> None:
        self.events.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("over", exc))
        self.over.set_result(None)


async def connected(*command: str, **options: Any) -> tuple[asyncio.SubprocessTransport, Recorder]:
    return await asyncio.get_running_loop().subprocess_exec(Recorder, *command, **options)


async def test_the_protocol_is_told_in_asyncio_s_order() -> None:
    transport, protocol = await connected(*sh("echo out; echo err >&2; read line; exit 5"))
    assert protocol.events[0] == "made"
    assert protocol.transport is transport
    assert transport.get_returncode() is None
    transport.get_pipe_transport(0).write(b"a line\n")  # type: ignore[union-attr]
    await protocol.over
    assert transport.get_returncode() == 5
    assert protocol.output == {1: b"out\n", 2: b"err\n"}
    nothing = type(None)
    expected = {
        "made",
        ("data", 1),
        ("data", 2),
        ("lost", 0, nothing),
        ("lost", 1, nothing),
        ("lost", 2, nothing),
        "exited",
        ("over", None),
    }
    assert set(protocol.events) == expected
    assert len(protocol.events) == len(expected)
    assert protocol.events[-1] == ("over", None)
    for fd in (1, 2):
        assert protocol.events.index(("data", fd)) < protocol.events.index(("lost", fd, nothing))
    transport.close()


async def test_what_the_transport_tells() -> None:
    transport, protocol = await connected("sleep", "60", stdin=None, stderr=subprocess.DEVNULL)
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert exists(transport.get_pid())
    assert transport.get_pipe_transport(0) is None
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert transport.get_pipe_transport(2) is None
    assert transport.get_protocol() is protocol
    assert not transport.is_closing()
    assert f"pid={transport.get_pid()} running stdout=<ReadPipe" in repr(transport)
    popen = transport.get_extra_info("subprocess")
    assert (popen.pid, popen.returncode, popen.poll()) == (transport.get_pid(), None, None)
    assert popen.args == ["sleep", "60"]
    assert (popen.stdin, popen.stdout, popen.stderr) == (None, None, None)
    assert "returncode: None args: ['sleep', '60']" in repr(popen)
    with pytest.raises(subprocess.TimeoutExpired):
        popen.wait(0.01)
    assert transport.get_extra_info("peername") is None
    assert transport.get_extra_info("peername", 7) == 7
    popen.terminate()
    assert popen.wait() == -15
    assert transport.get_returncode() is None  # the loop has not heard of it
    await protocol.over
    assert transport.get_returncode() == -15
    for silent in (popen.terminate, popen.kill, lambda: popen.send_signal(signal.SIGHUP)):
        silent()  # as Popen's
    with pytest.raises(ProcessLookupError):
        transport.kill()
    with pytest.raises(ProcessLookupError):
        transport.terminate()
    with pytest.raises(ProcessLookupError):
        transport.send_signal(signal.SIGHUP)
    transport.close()


async def test_signals_by_the_transport() -> None:
    for send, status in (
        (lambda t: t.send_signal(signal.SIGUSR1), -signal.SIGUSR1),
        (lambda t: t.terminate(), -15),
        (lambda t: t.kill(), -9),
    ):
        transport, protocol = await connected("sleep", "60")
        send(transport)
        await protocol.over
        assert transport.get_returncode() == status
        transport.close()


async def test_signals_before_the_exit_is_known() -> None:
    """The guardian has reaped it, but the loop has had no turn."""
    with gate() as (held, release, _):
        process = await asyncio.create_subprocess_exec(*sh("read x"), stdin=held)
        release()
        while exists(process.pid):
            time.sleep(0.001)
    assert process.returncode is None
    for send in (lambda: process.send_signal(signal.SIGTERM), process.terminate, process.kill):
        send()
    assert await process.wait() == 1  # of read, at the end of its input


async def test_close_kills_and_everything_is_told() -> None:
    transport, protocol = await connected("sleep", "60")
    transport.close()
    transport.close()
    assert transport.is_closing()
    await protocol.over
    assert transport.get_returncode() == -9
    assert protocol.events[-1] == ("over", None)
    assert "exited" in protocol.events
    assert repr(transport).startswith("<SubprocessTransport closed pid=")


async def test_pause_and_resume_reading() -> None:
    transport, protocol = await connected(*sh("head -c 300000 /dev/zero; exec 1>&-; read line"))
    stdout = transport.get_pipe_transport(1)
    assert isinstance(stdout, asyncio.ReadTransport)
    stdout.pause_reading()
    before = len(protocol.output[1])
    await asyncio.sleep(0.05)
    assert len(protocol.output[1]) == before < 300_000
    assert not stdout.is_reading()
    stdout.resume_reading()
    await until(lambda: ("lost", 1, type(None)) in protocol.events)
    assert len(protocol.output[1]) == 300_000
    transport.close()
    await protocol.over


async def test_the_protocol_is_told_to_pause_writing() -> None:
    class Writer(Recorder):
        def pause_writing(self) -> None:
            self.events.append("pause")

        def resume_writing(self) -> None:
            self.events.append("resume")

    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Writer, *sh("read line; cat >/dev/null"))
    stdin: Any = transport.get_pipe_transport(0)
    stdin.write(b"x" * 500_000)
    assert protocol.events == ["made", "pause"]
    stdin.write(b"\n")
    await until(lambda: "resume" in protocol.events)
    stdin.write_eof()
    await protocol.over
    assert transport.get_returncode() == 0
    with pytest.raises(NotImplementedError):
        stdin.pause_reading()
    transport.close()


async def test_stdin_of_a_program_that_does_not_read_it() -> None:
    transport, protocol = await connected(*sh("exec <&-; echo closed; sleep 60"))
    await until(lambda: protocol.output[1])
    stdin: Any = transport.get_pipe_transport(0)
    stdin.write(b"x")
    await until(lambda: any(event[:2] == ("lost", 0) for event in protocol.events))
    assert transport.get_returncode() is None
    transport.close()
    await protocol.over


async def test_wait_follows_the_exit_and_not_the_pipes() -> None:
    with gate() as (held, release, _), hang_guard():
        process = await asyncio.create_subprocess_exec(
            *sh(HOLD_STDOUT + "exit 3"), stdin=held, stdout=subprocess.PIPE
        )
        assert await process.wait() == 3
        release()
        assert process.stdout is not None
        assert await process.stdout.read() == b""


async def test_another_protocol_can_take_over() -> None:
    transport, first = await connected(*sh("read line; echo $line"))
    second = Recorder()
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.get_pipe_transport(0).write(b"for the second\n")  # type: ignore[union-attr]
    await second.over
    assert first.events == ["made"]
    assert second.output[1] == b"for the second\n"
    transport.close()


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
async def test_a_protocol_that_raises_when_it_is_to_pause(name: str) -> None:
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(context))

    def raising(self: Recorder) -> None:
        raise ZeroDivisionError(name)

    protocol_class = type("Raising", (Recorder,), {name: raising})
    transport, protocol = await loop.subprocess_exec(protocol_class, "cat")
    stdin: Any = transport.get_pipe_transport(0)
    stdin.write(b"x" * 500_000)
    stdin.close()
    await protocol.over
    assert [str(context["exception"]) for context in reported] == [name]
    assert len(protocol.output[1]) == 500_000
    transport.close()


async def test_a_protocol_that_knows_nothing_at_all() -> None:
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    nothing: Any = object
    transport, _ = await loop.subprocess_exec(nothing, "echo", "out")
    await until(lambda: any(".connection_lost" in context["message"] for context in reported))
    assert all(isinstance(context["exception"], AttributeError) for context in reported)
    assert transport.get_returncode() == 0
    transport.close()


CALLBACKS = (
    "connection_made",
    "pipe_data_received",
    "pipe_connection_lost",
    "process_exited",
    "connection_lost",
)


@pytest.mark.parametrize("name", CALLBACKS)
async def test_a_protocol_that_raises(name: str) -> None:
    """It is reported, as every callback's exception, and the others are still called."""
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(context))

    def raising(self: Recorder, *args: Any) -> None:
        getattr(Recorder, name)(self, *args)
        raise ZeroDivisionError(name)

    protocol_class = type("Raising", (Recorder,), {name: raising})
    transport, protocol = await loop.subprocess_exec(protocol_class, *sh("echo out"))
    await protocol.over
    await until(lambda: reported)
    assert {str(context["exception"]) for context in reported} == {name}
    assert transport.get_returncode() == 0
    assert protocol.output[1] == b"out\n"
    transport.close()


async def test_the_return_code_is_there_after_the_wait() -> None:
    """However much is learned in one turn of the loop."""

    async def one() -> int | None:
        process = await asyncio.create_subprocess_exec("/bin/false")
        await process.wait()
        return process.returncode

    assert await asyncio.gather(*(one() for _ in range(100))) == [1] * 100

    start = asyncio.ensure_future(asyncio.create_subprocess_exec("/bin/false"))
    await asyncio.sleep(0)
    time.sleep(0.05)  # start and exit come in one turn
    process = await start
    await process.communicate()
    assert process.returncode == 1
    with pytest.raises(ProcessLookupError):
        process.kill()


class Interrupting(Recorder):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_in_connection_made_leaves_nothing() -> None:
    async def main() -> None:
        await connected_with(Interrupting)

    async def connected_with(protocol: Any) -> None:
        await asyncio.get_running_loop().subprocess_exec(protocol, "sleep", "60")

    for factory in (aiopidfd.EventLoop, aiopidfd.UvloopEventLoop):
        loop = factory()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


class Failing(aiopidfd.EventLoop):
    """Its add_reader fails at the n-th call: epoll_ctl(2) says ENOMEM or ENOSPC."""

    left = 0

    def add_reader(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().add_reader(*args)


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("library", [asyncio, aiopidfd])
def test_a_loop_that_takes_no_more_descriptors(nth: int, library: Any) -> None:
    """The program is killed, and nothing is left: the fixture counts."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.left = nth  # type: ignore[attr-defined]
        pipes = {"stdin": -1, "stdout": -1, "stderr": -1}
        with pytest.raises(OSError, match="No space left on device"):
            await library.create_subprocess_exec("sleep", "60", **pipes)
        await turns()

    with asyncio.Runner(loop_factory=Failing) as runner:
        runner.run(main())


# Errors -----------------------------------------------------------------------------------------


async def test_a_program_that_does_not_exist() -> None:
    for _ in range(3):
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec("no-such-program", stdin=subprocess.PIPE)
        assert caught.value.filename == "no-such-program"


WRONG: dict[str, dict[str, Any]] = {
    "universal_newlines": {"universal_newlines": True},
    "text": {"text": True},
    "encoding": {"encoding": "utf-8"},
    "errors": {"errors": "strict"},
    "bufsize": {"bufsize": 1},
    "shell": {"shell": "the other"},
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("shell", [False, True])
async def test_what_asyncio_refuses_is_refused_with_its_words(what: str, shell: bool) -> None:
    options = dict(WRONG[what])
    if what == "shell":
        options["shell"] = not shell

    async def complaint(loop: asyncio.AbstractEventLoop) -> str:
        start = loop.subprocess_shell if shell else loop.subprocess_exec
        with pytest.raises(ValueError, match="must be") as caught:
            await start(Recorder, "true", **options)
        return str(caught.value)

    theirs = asyncio.SelectorEventLoop()
    try:
        expected = await complaint(theirs)
    finally:
        theirs.close()
    assert await complaint(asyncio.get_running_loop()) == expected


async def test_a_shell_command_must_be_a_string() -> None:
    loop = asyncio.get_running_loop()
    command: Any = ["true"]
    with pytest.raises(ValueError, match="cmd must be a string"):
        await loop.subprocess_shell(Recorder, command)


async def test_no_such_option() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such_option'"):
        await asyncio.create_subprocess_exec("true", no_such_option=1)
    with pytest.raises(ValueError, match="preexec_fn"):
        await asyncio.create_subprocess_exec("true", preexec_fn=os.getpid)


async def test_a_protocol_factory_that_raises_starts_nothing() -> None:
    def factory() -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.get_running_loop().subprocess_exec(factory, "sleep", "60")


# Cancellation, and what is left -----------------------------------------------------------------


@pytest.mark.parametrize("turns", [*range(8), 20])
async def test_cancelled_at_each_turn(turns: int) -> None:
    """Nothing is left, as the fixture sees, or the program is the caller's."""
    task = asyncio.ensure_future(
        asyncio.create_subprocess_exec("sleep", "60", stdin=subprocess.PIPE)
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        process = await task
        process.kill()
        assert await process.wait() == -9


async def test_a_dropped_transport_lives_until_the_exit() -> None:
    transport, protocol = await connected("cat")
    stdin: Any = transport.get_pipe_transport(0)
    kept = weakref.ref(transport)
    del transport, protocol.transport
    gc.collect()
    assert kept() is not None
    stdin.close()
    await protocol.over
    await turns()
    assert kept() is None


async def test_in_a_forked_copy_the_pipes_are_closed() -> None:
    transport, protocol = await connected("cat")
    with gate() as (held, release, _):
        pid = os.fork()
        if pid == 0:
            os.close(_)
            os.read(held, 1)
            os._exit(0)
        stdin: Any = transport.get_pipe_transport(0)
        stdin.close()
        with hang_guard():
            await protocol.over  # the copy holds no end of stdin
        release()
        assert await aiopidfd.wait_pid(pid) == 0
    transport.close()


# How a loop is chosen ---------------------------------------------------------------------------


@pytest.fixture(params=[aiopidfd.EventLoop, aiopidfd.UvloopEventLoop])
def factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return request.param  # type: ignore[no-any-return]


@contextlib.contextmanager
def nothing_visible() -> Iterator[None]:
    seen = Seen()
    with HOSTS["polling reaper"](seen):
        yield
    assert (seen.sigchld, seen.pids) == (0, [])


def test_by_a_runner(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with nothing_visible(), asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(unchanged_program()) == [*COMMANDS.values()]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has loop_factory since 3.12")
def test_by_asyncio_run(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with nothing_visible():
        assert asyncio.run(unchanged_program(), loop_factory=factory) == [*COMMANDS.values()]


def test_by_anyio(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with nothing_visible():
        codes = anyio.run(unchanged_program, backend_options={"loop_factory": factory})
    assert codes == [*COMMANDS.values()]


@pytest.mark.parametrize("name", ["EventLoopPolicy", "UvloopEventLoopPolicy"])
@pytest.mark.filterwarnings("ignore:.*polic.*:DeprecationWarning")  # Python's, since 3.14
def test_by_a_policy(name: str) -> None:
    asyncio.set_event_loop_policy(getattr(aiopidfd, name)())
    try:
        with nothing_visible():
            assert asyncio.run(unchanged_program()) == [*COMMANDS.values()]
    finally:
        asyncio.set_event_loop_policy(None)


def test_in_a_thread(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    codes: list[int] = []

    def work() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            codes.extend(runner.run(unchanged_program()))

    thread = threading.Thread(target=work)
    with nothing_visible():
        thread.start()
        thread.join()
    assert codes == [*COMMANDS.values()]


@pytest.mark.parametrize("plain", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_install_and_uninstall_on_the_running_loop(
    plain: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        theirs = loop.subprocess_exec
        for _ in range(2):
            aiopidfd.install()
        assert loop.subprocess_exec != theirs
        transport, protocol = await connected("true")
        assert isinstance(transport, aiopidfd.SubprocessTransport)
        await protocol.over
        transport.close()
        for _ in range(2):
            aiopidfd.uninstall()
        assert loop.subprocess_exec == theirs

    with asyncio.Runner(loop_factory=plain) as runner:
        runner.run(main())


async def test_install_on_a_loop_of_ours_changes_nothing() -> None:
    loop = aiopidfd.EventLoop()
    try:
        before = dict(vars(loop))
        aiopidfd.install(loop)
        assert vars(loop) == before
        aiopidfd.uninstall(loop)
    finally:
        loop.close()


def test_install_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        aiopidfd.install()
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        aiopidfd.uninstall()


def test_install_on_what_cannot_be_changed() -> None:
    class Fixed:
        __slots__ = ()

    fixed: Any = Fixed()
    with pytest.raises(TypeError, match=r"the methods of <.*Fixed.*> cannot be replaced"):
        aiopidfd.install(fixed)


@pytest.mark.parametrize("plain", LOOPS.values(), ids=LOOPS)
def test_a_loop_that_was_closed_while_the_program_runs(
    plain: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """No "Event loop is closed" from a destructor; the program lives on."""
    pids = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "60", stdin=subprocess.PIPE)
        pids.append(process.pid)

    loop = plain()
    with warnings_given() as given:
        loop.run_until_complete(main())
        loop.close()
        del loop
        gc.collect()
    os.kill(pids[0], signal.SIGKILL)
    kinds = {category for category, _ in given}
    assert kinds == {ResourceWarning}
    texts = [text for _, text in given]
    assert any(text.startswith("unclosed transport <SubprocessTransport pid=") for text in texts)


@pytest.mark.parametrize("plain", LOOPS.values(), ids=LOOPS)
def test_a_loop_that_was_closed_while_the_program_was_started(
    plain: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """The coroutine is thrown away: no "Event loop is closed" from its end."""

    async def main(start: Any, program: str) -> None:
        tasks.append(asyncio.ensure_future(start(program, "-c", "sleep 60")))
        await asyncio.sleep(0)

    for start in (asyncio.create_subprocess_exec, aiopidfd.create_subprocess_exec):
        tasks: list[asyncio.Future[Any]] = []
        loop = plain()
        reported: list[str] = []
        loop.set_exception_handler(
            lambda loop, context, reported=reported: reported.append(context["message"])
        )
        with held_exec(tmp_path) as held:  # else it may run by then
            loop.run_until_complete(main(start, held.path))
            loop.close()
            unraisable = []
            before, sys.unraisablehook = sys.unraisablehook, unraisable.append
            try:
                tasks.clear()
                gc.collect()
            finally:
                sys.unraisablehook = before
        assert unraisable == []
        assert reported == ["Task was destroyed but it is pending!"]  # asyncio's word for it


async def a_start(inside: asyncio.Event) -> None:
    inside.set()
    await aiopidfd.run_process(["sleep", "1000"])


async def sinks_that_wait(inside: asyncio.Event) -> None:
    await aiopidfd.run_process("echo; exec sleep 1000", stdout=lambda line: inside.set())


async def a_block(inside: asyncio.Event) -> None:
    async with await aiopidfd.create_subprocess_exec("sleep", "1000", stdin=subprocess.PIPE):
        inside.set()
        await asyncio.get_running_loop().create_future()


async def a_block_on_anyio(inside: asyncio.Event) -> None:
    async with await aiopidfd.anyio.open_process(["sleep", "1000"]):
        inside.set()
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("plain", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("call", [a_start, sinks_that_wait, a_block, a_block_on_anyio])
@pytest.mark.parametrize("where", ["without a loop", "on another loop"])
def test_a_loop_that_was_closed_under_a_call(
    plain: Callable[[], asyncio.AbstractEventLoop], call: Any, where: str
) -> None:
    """The programs are killed, and nobody calls the loop. Some starts wait for their turn."""
    calls: list[Any] = []

    async def main() -> None:
        inside = asyncio.Event()
        calls.extend(call(inside) for _ in range(20 if call is a_start else 1))
        tasks.extend(map(asyncio.ensure_future, calls))
        await inside.wait()
        await turns(2)

    tasks: list[asyncio.Future[None]] = []
    loop = plain()
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed but it is pending"
    loop.run_until_complete(main())
    loop.close()

    async def throw_away() -> None:
        for one in calls:
            one.close()
        tasks.clear()
        gc.collect()

    if where == "on another loop":
        asyncio.run(throw_away())
    else:
        with pytest.raises(StopIteration):
            throw_away().send(None)
    assert childless()


@pytest.mark.parametrize("plain", LOOPS.values(), ids=LOOPS)
def test_a_loop_that_was_closed_in_the_grace_of_a_call(
    plain: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A call that is being cancelled awaits nothing more when it is thrown away."""
    calls: list[Any] = []

    async def main() -> None:
        inside = asyncio.Event()
        script = "trap '' TERM; echo; sleep 1000 & wait; wait"
        calls.append(aiopidfd.run_process(script, stdout=lambda line: inside.set(), grace=1000))
        tasks.append(asyncio.ensure_future(calls[0]))
        await inside.wait()
        tasks[0].cancel()
        await turns(5)

    tasks: list[asyncio.Future[Any]] = []
    loop = plain()
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed but it is pending"
    loop.run_until_complete(main())
    loop.close()
    calls.pop().close()
    tasks.clear()
    gc.collect()
    assert childless()


async def test_a_protocol_that_needs_the_exit_of_another_is_told_in_a_turn_of_its_own() -> None:
    """As nest_asyncio or a dialog does, it may run the loop until then: it must not keep the news.

    So it is not called where the hub tells its news, but by the loop, as asyncio's own are.
    """
    callers: list[str] = []

    class Protocol(asyncio.SubprocessProtocol):
        def process_exited(self) -> None:
            callers.extend(frame.name for frame in traceback.extract_stack())

    loop = asyncio.get_running_loop()
    aiopidfd.install(loop)
    nothing = dict.fromkeys(("stdin", "stdout", "stderr"))
    transport, _ = await loop.subprocess_exec(Protocol, "true", **nothing)  # type: ignore[arg-type]
    await until(lambda: bool(callers))
    assert "collect" not in callers
    assert "_tell" in callers  # the transport's
    transport.close()


@pytest.mark.parametrize("factory", LOOPS.values(), ids=LOOPS)
def test_a_protocol_that_ends_the_loop_when_its_program_exits(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """When the loop runs again, all others hear of the exit, and the protocol of the rest."""
    told: list[str] = []

    class Protocol(asyncio.SubprocessProtocol):
        def process_exited(self) -> None:
            told.append("exited")
            raise SystemExit

        def connection_lost(self, exc: Exception | None) -> None:
            told.append("lost")

    async def begin() -> Any:
        loop = asyncio.get_running_loop()
        nothing = dict.fromkeys(("stdin", "stdout", "stderr"))
        transport, _ = await loop.subprocess_exec(Protocol, "sleep", "1000", **nothing)
        waiting = [asyncio.ensure_future(transport._wait()) for _ in range(2)]
        await asyncio.sleep(0)
        return transport, waiting

    async def end(transport: Any, waiting: Any) -> None:
        with hang_guard():
            assert await asyncio.gather(*waiting) == [-signal.SIGKILL] * 2
            await until(lambda: told == ["exited", "lost"])
        transport.close()

    loop = factory()
    try:
        transport, waiting = loop.run_until_complete(begin())
        transport.kill()
        with pytest.raises(SystemExit):
            loop.run_forever()
        loop.run_until_complete(end(transport, waiting))
    finally:
        loop.close()


def test_a_script_without_the_extras() -> None:
    """Neither uvloop nor anyio nor trio is imported by what does not need them."""
    code = "import aiopidfd, sys; print(*sys.modules.keys() & {'uvloop', 'anyio', 'trio'})"
    environment = {**os.environ, "PYTHONPATH": str(Path(aiopidfd.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (result.stdout, result.stderr) == (b"\n", b"")
