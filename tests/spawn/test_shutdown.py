"""`shutdown`: all programs of a loop are ended in order; and the loop option that does so."""

import asyncio
import functools
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import uvloop

import aiopidfd
import aiopidfd.anyio
from aiopidfd._spawn.hub_of_each_loop import current_hub

from .. import fresh
from ..anyio_support import BACKENDS, ON_ASYNCIO, Backend, backends, stepped, until
from ..census import child_pids, childless, open_fds
from ..held_exec import held_exec
from ..stuck import stuck_file
from ..support import gate, room_for, sh
from .test_trees import DAEMONS, OF_DAEMONS, Marked, as_root, daemons_started, started
from .test_trees import marked as marked

# Says that it runs, and when it gets SIGTERM, by a line each; and goes on.
STUBBORN = (
    "trap 'echo term' TERM; echo here; while :; do sleep 1000 & wait; kill $! 2>/dev/null; done"
)
SLEEP = ("sleep", "1000")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


async def start(*command: str, **options: Any) -> aiopidfd.anyio.Process:
    choice = {"stdin": None, "stdout": None, "stderr": None, **options}
    return await aiopidfd.anyio.open_process(command, **choice)


async def start_stubborn(count: int) -> list[aiopidfd.anyio.Process]:
    found = [await start(*sh(STUBBORN), stdout=subprocess.PIPE) for _ in range(count)]
    for process in found:
        assert process.stdout is not None
        assert await process.stdout.receive(5) == b"here\n"
    return found


# --- What it ends


def test_hundreds_and_the_stubborn_among_them(backend: Backend) -> None:
    async def body() -> None:
        stubborn = await start_stubborn(5)
        quick = [await start(*SLEEP) for _ in range(200)]
        assert len(aiopidfd.running()) == 205
        assert await aiopidfd.shutdown(grace=0.3)
        assert {process.returncode for process in quick} == {-signal.SIGTERM}
        assert {process.returncode for process in stubborn} == {-signal.SIGKILL}
        assert childless()
        assert not aiopidfd.running()
        for process in stubborn:
            assert process.stdout is not None
            assert await process.stdout.receive() == b"term\n"
            await process.aclose()

    backend.run(body)


@pytest.mark.parametrize("contain", [False, True])
def test_trees(backend: Backend, contain: bool, marked: Marked) -> None:
    async def body() -> None:
        process = await start(*sh(DAEMONS + " wait"), env=marked.env, contain=contain)
        await daemons_started(marked)
        assert await aiopidfd.shutdown(grace=30)
        assert not marked.alive()
        assert process.returncode == -signal.SIGTERM
        assert childless()

    backend.run(body)


def test_what_a_program_left_behind_and_its_guardian_has_stayed_for(
    backend: Backend, marked: Marked
) -> None:
    async def body() -> None:
        with gate() as (read, release, _):
            process = await start(
                *sh("setsid sleep 1000 & read line; exit 3"), stdin=read, env=marked.env
            )
            await started(marked, 2)
            for child in process.children():
                child.close()
            release()
            assert await process.wait() == 3
        await until(lambda: len(marked.alive()) == 1)  # its environment is empty during an exec
        assert await aiopidfd.shutdown(grace=30)
        assert not marked.alive()
        assert childless()

    backend.run(body)


def test_one_whose_handle_was_dropped(backend: Backend, marked: Marked) -> None:
    async def body() -> None:
        process = await start(*SLEEP, env=marked.env)
        with pytest.warns(ResourceWarning, match="is still running"):
            del process
        assert len(aiopidfd.running()) == 1
        assert await aiopidfd.shutdown(grace=30)
        assert not marked.alive()
        assert childless()

    backend.run(body)


def test_who_waits_hears_of_it_before_it_returns(backend: Backend) -> None:
    async def body() -> None:
        process = await start(*SLEEP)
        codes: list[int] = []

        async def wait() -> None:
            codes.append(await process.wait())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            assert await aiopidfd.shutdown(grace=30)
            await until(lambda: len(codes) == 3)
        assert codes == [-signal.SIGTERM] * 3

    backend.run(body)


def test_a_function_in_a_fork(backend: Backend) -> None:
    async def body() -> None:
        errors: list[aiopidfd.NoResultError] = []

        async def call() -> None:
            try:
                await aiopidfd.run_in_fork(signal.pause)
            except aiopidfd.NoResultError as exc:
                errors.append(exc)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await until(aiopidfd.running)
            assert await aiopidfd.shutdown(grace=30)
        assert [exc.returncode for exc in errors] == [-signal.SIGTERM]

    backend.run(body)


@backends(*ON_ASYNCIO)
def test_programs_of_asyncio_s_own_functions(backend: Backend) -> None:
    class Protocol(asyncio.SubprocessProtocol):
        has_exited = False

        def process_exited(self) -> None:
            self.has_exited = True

    async def body() -> None:
        aiopidfd.install()
        process = await asyncio.create_subprocess_exec(*SLEEP)
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            Protocol, *SLEEP, stdin=None, stdout=None, stderr=None
        )
        running = asyncio.create_task(aiopidfd.run_process(SLEEP))
        await until(lambda: len(aiopidfd.running()) == 3)
        assert await aiopidfd.shutdown(grace=30)
        await until(lambda: protocol.has_exited)  # it is told in a turn of its own
        assert transport.get_returncode() == process.returncode == -signal.SIGTERM
        with pytest.raises(subprocess.CalledProcessError) as raised:
            await running
        assert raised.value.returncode == -signal.SIGTERM
        transport.close()
        await process.wait()

    backend.run(body)


def test_a_program_whose_guardian_was_killed(backend: Backend, marked: Marked) -> None:
    async def body() -> None:
        process = await start(*sh("trap '' TERM; sleep 1000 & wait; wait"), env=marked.env)
        await started(marked, 2)
        os.kill(process.guardian_pid, signal.SIGKILL)
        await until(lambda: not child_pids())
        assert await aiopidfd.shutdown(grace=0.1)
        assert process.returncode in (-signal.SIGKILL, 255)
        await until(lambda: not marked.alive())

    backend.run(body)


def test_with_hardly_a_descriptor_left(backend: Backend, marked: Marked) -> None:
    async def body() -> None:
        processes = [await start(*sh("sleep 1000 & wait"), env=marked.env) for _ in range(30)]
        await started(marked, 60)
        with room_for(4):
            assert await aiopidfd.shutdown(grace=30)
        assert not marked.alive()
        assert {process.returncode for process in processes} == {-signal.SIGTERM}

    backend.run(body)


# --- The grace


def test_all_are_asked_at_once_and_one_that_ends_late_is_not_killed(backend: Backend) -> None:
    async def body() -> None:
        with gate() as (read, release, _):
            late = await start(
                *sh("trap 'echo term' TERM; (trap '' TERM; echo here; exec cat); exit 7"),
                stdin=read,
                stdout=subprocess.PIPE,
            )
            assert late.stdout is not None
            assert await late.stdout.receive(5) == b"here\n"
            others = [await start(*SLEEP) for _ in range(3)]
            async with anyio.create_task_group() as group:
                group.start_soon(functools.partial(aiopidfd.shutdown, grace=float("inf")))
                await until(lambda: all(p.returncode == -signal.SIGTERM for p in others))
                assert late.returncode is None
                release()
            assert late.returncode == 7
            assert await late.stdout.receive() == b"term\n"
            await late.aclose()

    backend.run(body)


def test_without_a_grace_they_are_killed(backend: Backend) -> None:
    async def body() -> None:
        processes = [await start(*SLEEP) for _ in range(20)]
        assert await aiopidfd.shutdown(grace=0)
        assert {process.returncode for process in processes} == {-signal.SIGKILL}

    backend.run(body)


@pytest.mark.parametrize(
    ("grace", "error"), [(-1, ValueError), (float("nan"), ValueError), (None, TypeError)]
)
def test_no_grace(grace: Any, error: type[Exception], backend: Backend) -> None:
    async def body() -> None:
        process = await start(*SLEEP)
        with pytest.raises(error, match="grace must"):
            await aiopidfd.shutdown(grace=grace)
        assert process.returncode is None
        assert await aiopidfd.shutdown(grace=30)

    backend.run(body)


# --- Who is left alone


def test_where_nothing_was_started(backend: Backend) -> None:
    async def body() -> None:
        before = open_fds()
        assert await aiopidfd.shutdown()
        assert open_fds() == before

    backend.run(body)


def test_without_a_loop() -> None:
    with pytest.raises(RuntimeError):
        aiopidfd.shutdown().send(None)


def test_programs_of_other_loops_and_of_none(backend: Backend) -> None:
    ready, over = threading.Event(), threading.Event()
    theirs: list[int | None] = []

    async def there() -> None:
        process = await start(*SLEEP)
        ready.set()
        await anyio.to_thread.run_sync(over.wait)
        theirs.append(process.returncode)
        assert await aiopidfd.shutdown(grace=30)
        theirs.append(process.returncode)

    thread = threading.Thread(target=backend.run, args=(there,))
    thread.start()
    ready.wait()
    child = aiopidfd.spawn(SLEEP)

    async def here() -> None:
        process = await start(*SLEEP)
        assert len(aiopidfd.running()) == 3
        assert await aiopidfd.shutdown(grace=30)
        assert process.returncode == -signal.SIGTERM
        assert len(aiopidfd.running()) == 2

    try:
        backend.run(here)
    finally:
        over.set()
        thread.join()
    assert theirs == [None, -signal.SIGTERM]
    assert child.poll() is None
    child.kill()
    child.wait()


def test_programs_of_a_loop_that_was_closed(backend: Backend) -> None:
    async def begin() -> aiopidfd.anyio.Process:
        return await start(*SLEEP)

    process = backend.run(begin)
    assert [one.pid for one in aiopidfd.running()] == [process.pid]

    async def other() -> None:
        assert await aiopidfd.shutdown(grace=30)
        assert process.returncode is None
        # Who waits for it takes it over.
        async with anyio.create_task_group() as group:
            group.start_soon(process.wait)
            await until(lambda: current_hub().has_listener(process._program.native))
            assert await aiopidfd.shutdown(grace=30)
        assert process.returncode == -signal.SIGTERM
        await process.aclose()

    backend.run(other)
    assert not aiopidfd.running()


def test_a_forked_copy_ends_nothing() -> None:
    fresh.run("""
        async def main():
            process = await aiopidfd.create_subprocess_exec("sleep", "1000")
            pid = os.fork()
            if pid == 0:
                asyncio.events._set_running_loop(None)
                try:
                    assert aiopidfd.running() == []
                    assert asyncio.run(aiopidfd.shutdown(grace=0))
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert process.returncode is None
            assert [one.pid for one in aiopidfd.running()] == [process.pid]
            assert await aiopidfd.shutdown(grace=30)
            assert process.returncode == -15
        asyncio.run(main())
    """)


# --- Meanwhile


def test_nothing_can_be_started_meanwhile_and_all_can_later(backend: Backend) -> None:
    refused = pytest.raises(RuntimeError, match="nothing can be started: the programs of this loop")

    async def body() -> None:
        (stubborn,) = await start_stubborn(1)
        before = open_fds()
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(aiopidfd.shutdown, grace=float("inf")))
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            with refused:
                await start(*SLEEP)
            with refused:
                await aiopidfd.anyio.run_process("exit 0")
            with refused:
                await aiopidfd.run_in_fork(int)
            if not backend.is_trio:
                with refused:
                    await aiopidfd.create_subprocess_exec(*SLEEP)
                with refused:
                    await aiopidfd.run_process("exit 0")
            assert aiopidfd.spawn("true").wait() == 0  # of no loop
            assert not open_fds().keys() - before.keys()
            await stubborn.kill_tree()
        assert (await aiopidfd.anyio.run_process("exit 3", check=False)).returncode == 3
        assert await aiopidfd.run_in_fork(int) == 0
        await stubborn.aclose()

    backend.run(body)


def test_starts_that_are_under_way_or_wait_for_their_turn(backend: Backend) -> None:
    """Each is refused, or started and ended: none is left."""
    outcomes: list[object] = []

    async def one() -> None:
        try:
            outcomes.append(await start(*SLEEP))
        except RuntimeError as exc:
            outcomes.append(str(exc))

    async def body() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(one)
            await until(lambda: current_hub()._starting)
            assert await aiopidfd.shutdown(grace=30)
        assert len(outcomes) == 60
        processes = [it for it in outcomes if isinstance(it, aiopidfd.anyio.Process)]
        assert 0 < len(processes) < 60
        assert {process.returncode for process in processes} == {-signal.SIGTERM}
        assert childless()
        outcomes.clear()

    backend.run(body)


def test_a_start_whose_exec_hangs(backend: Backend, tmp_path: Path) -> None:
    async def body() -> None:
        with held_exec(tmp_path) as held:
            outcomes: list[int | None] = []

            async def one() -> None:
                process = await start(held.path, "-c", "exec sleep 1000")
                outcomes.append(await process.wait())

            async with anyio.create_task_group() as group:
                group.start_soon(one)
                await until(lambda: current_hub()._starting)
                await anyio.to_thread.run_sync(held.wait_until_held)
                assert await aiopidfd.shutdown(grace=0.1)
                held.let_go()
            assert outcomes == [-signal.SIGKILL]
            assert childless()

    backend.run(body)


def test_two_at_once(backend: Backend) -> None:
    async def body() -> None:
        processes = [await start(*SLEEP) for _ in range(10)]
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(functools.partial(aiopidfd.shutdown, grace=30))
        assert {process.returncode for process in processes} == {-signal.SIGTERM}
        assert (await aiopidfd.anyio.run_process("true")).returncode == 0

    backend.run(body)


# --- Cancelled


def test_cancelled_it_kills_and_reaps(backend: Backend, marked: Marked) -> None:
    async def body() -> None:
        processes = await start_stubborn(3)
        deaf = await start(*sh("trap '' TERM; sleep 1000 & sleep 1000; sleep 1000"), env=marked.env)
        await started(marked, 3)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(functools.partial(aiopidfd.shutdown, grace=float("inf")))
                for process in processes:
                    assert process.stdout is not None
                    assert await process.stdout.receive(5) == b"term\n"
                scope.cancel()
        assert scope.cancelled_caught
        assert {process.returncode for process in (deaf, *processes)} == {-signal.SIGKILL}
        assert not marked.alive()
        assert childless()
        assert (await aiopidfd.anyio.run_process("true")).returncode == 0
        for process in processes:
            await process.aclose()

    backend.run(body)


@backends(*ON_ASYNCIO)
def test_cancelled_at_each_of_its_awaits(backend: Backend) -> None:
    async def body() -> None:
        awaits = 0
        for number in range(1000):
            processes = [await start(*SLEEP) for _ in range(3)]
            task = asyncio.current_task()
            assert task is not None

            def at(
                now: int, number: int = number, task: asyncio.Task[Any] = task
            ) -> Callable[[], object] | None:
                return task.cancel if now == number else None

            try:
                await stepped(aiopidfd.shutdown(grace=30), at)
            except asyncio.CancelledError:
                task.uncancel()
                awaits += 1
            assert all(p.returncode in (-signal.SIGTERM, -signal.SIGKILL) for p in processes)
            assert childless()
            if awaits <= number:
                break
        assert awaits >= 3

    backend.run(body)


def test_thrown_away_it_kills(backend: Backend, marked: Marked) -> None:
    async def body() -> None:
        processes = [
            await start(*sh("trap '' TERM; sleep 1000 & sleep 1000; exit"), env=marked.env)
            for _ in range(3)
        ]
        await started(marked, 9)
        coroutine = aiopidfd.shutdown(grace=float("inf"))
        coroutine.send(None)
        coroutine.close()
        await until(lambda: not marked.alive())
        for process in processes:
            assert await process.wait() == -signal.SIGKILL
        assert (await aiopidfd.anyio.run_process("true")).returncode == 0

    backend.run(body)


# --- What cannot be ended


@as_root
def test_what_may_not_be_signalled() -> None:
    """All others are ended, and the caller hears of it."""
    mark = Marked()
    try:
        fresh.run(f"""
            os.environ[{mark.name!r}] = "1"
            async def main():
                root_s = await aiopidfd.create_subprocess_exec(
                    "sleep", "1000", stdout=aiopidfd.DEVNULL, stderr=aiopidfd.DEVNULL)
                shutdown = aiopidfd.shutdown  # imported now: where it lies may not be open to all
                os.setgroups([]), os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                libc.prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self is ours again
                others = [await aiopidfd.create_subprocess_exec("sleep", "1000") for _ in range(3)]
                for grace in (30, 0):
                    try:
                        await shutdown(grace=grace)
                    except PermissionError as exc:
                        assert exc.errno == errno.EPERM and str(root_s.pid) in str(exc), exc
                    else:
                        raise AssertionError("no error")
                assert [other.returncode for other in others] == [-15] * 3
                assert root_s.returncode is None
                assert (await aiopidfd.run_process("exit 3", check=False)).returncode == 3
                root_s._program.abandoned = True  # no warning
            asyncio.run(main())
        """)
        assert len(mark.alive()) == 1
    finally:
        mark.kill()


@pytest.mark.heavy
def test_what_sleeps_uninterruptibly(backend: Backend, tmp_path: Path) -> None:
    async def body() -> None:
        with stuck_file(tmp_path) as stuck:
            process = await start("cat", stuck.path, stderr=subprocess.DEVNULL)
            other = await start(*SLEEP)
            await anyio.to_thread.run_sync(stuck.wait_until_asked)
            assert not await aiopidfd.shutdown(grace=0.1)
            assert other.returncode == -signal.SIGTERM
            assert process.returncode is None
        assert await process.wait() in (-signal.SIGTERM, -signal.SIGKILL)

    backend.run(body)


# --- The loop's option

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Subclass(aiopidfd.EventLoop):
    shutdown_grace = 30


def installed(factory: LoopFactory) -> asyncio.AbstractEventLoop:
    loop = factory()
    aiopidfd.install(loop, shutdown_grace=60)
    aiopidfd.install(loop, shutdown_grace=30)
    return loop


FACTORIES: dict[str, LoopFactory] = {
    "EventLoop": functools.partial(aiopidfd.EventLoop, shutdown_grace=30),
    "UvloopEventLoop": functools.partial(aiopidfd.UvloopEventLoop, shutdown_grace=30),
    "a subclass": Subclass,
    "EventLoopPolicy": lambda: aiopidfd.EventLoopPolicy(shutdown_grace=30).new_event_loop(),
    "UvloopEventLoopPolicy": lambda: aiopidfd.UvloopEventLoopPolicy(
        shutdown_grace=30
    ).new_event_loop(),
    "install() on asyncio's": functools.partial(installed, asyncio.SelectorEventLoop),
    "install() on uvloop's": functools.partial(installed, uvloop.new_event_loop),
    "install() on ours": functools.partial(installed, aiopidfd.EventLoop),
}


def run_by_runner(factory: LoopFactory, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def run_by_anyio(factory: LoopFactory, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    anyio.run(main, backend_options={"loop_factory": factory})


RUNNERS = [run_by_runner, run_by_anyio]


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("name", FACTORIES)
def test_the_runner_s_end_shuts_down(name: str, run: Callable[..., None], marked: Marked) -> None:
    codes: list[int | None] = []
    kept: list[aiopidfd.Process] = []
    closed: list[str] = []

    async def generate() -> Any:
        try:
            yield
        finally:
            closed.append("the generator")

    async def main() -> None:
        process = await aiopidfd.create_subprocess_exec(
            *sh(DAEMONS + " wait"), env=marked.env, stdout=subprocess.PIPE
        )
        await daemons_started(marked)
        kept.append(process)
        generator = generate()
        await anext(generator)
        kept.append(generator)

    run(FACTORIES[name], main)
    codes.append(kept[0].returncode)
    assert codes == [-signal.SIGTERM]
    assert not marked.alive()
    assert closed == ["the generator"]  # what asyncio's own method does is done as well
    kept.clear()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_runner_s_end_after_an_error(error: type[BaseException], marked: Marked) -> None:
    kept = []

    async def main() -> None:
        kept.append(await aiopidfd.create_subprocess_exec(*SLEEP, env=marked.env))
        raise error

    with pytest.raises(error):
        run_by_runner(FACTORIES["EventLoop"], main)
    assert not marked.alive()
    assert kept.pop().returncode == -signal.SIGTERM


@pytest.mark.parametrize("factory", [aiopidfd.EventLoop, aiopidfd.UvloopEventLoop])
def test_without_the_option_they_are_left_alone(factory: LoopFactory) -> None:
    kept = []

    async def main() -> None:
        kept.append(await aiopidfd.create_subprocess_exec(*SLEEP))

    run_by_runner(factory, main)
    (process,) = kept
    (left,) = aiopidfd.running()
    assert (left.pid, process.returncode) == (process.pid, None)
    left.kill()
    del left
    process._program.wait()


def test_uninstall_undoes_it_and_a_bad_grace_is_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        aiopidfd.install(shutdown_grace=30)
        aiopidfd.uninstall()
        assert "shutdown_asyncgens" not in vars(loop)
        with pytest.raises(ValueError, match="grace must not be negative"):
            aiopidfd.install(shutdown_grace=-1)
        assert not vars(loop).keys() & {"shutdown_asyncgens", "subprocess_exec"}

    run_by_runner(asyncio.SelectorEventLoop, main)
    for name in ("EventLoop", "UvloopEventLoop", "EventLoopPolicy", "UvloopEventLoopPolicy"):
        with pytest.raises(TypeError, match="grace must be a number"):
            getattr(aiopidfd, name)(shutdown_grace="5")
        with pytest.raises(ValueError, match="grace must not be negative"):
            getattr(aiopidfd, name)(shutdown_grace=-1)


def test_ctrl_c_at_the_runner_s_end_kills_what_is_left() -> None:
    out = fresh.run(f"""
        class Loop(aiopidfd.EventLoop):
            shutdown_grace = 1000
        kept = []
        read, write = os.pipe()
        def interrupt():
            assert os.read(read, 100) == b"here\\n"
            heard.set()
            assert os.read(read, 100) == b"term\\n"
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        async def main():
            kept.append(await aiopidfd.create_subprocess_shell({STUBBORN!r}, stdout=write))
            while not heard.is_set():
                await asyncio.sleep(0.01)
        heard = threading.Event()
        __import__("logging").disable()  # a pending task was destroyed
        try:
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        print(kept[0]._program.wait())
    """)
    assert out == "interrupted\n-9\n"


def test_a_fork_bomb_among_them(marked: Marked) -> None:
    script = "while :; do (setsid sleep 1000 &) ; done"

    async def body() -> None:
        process = await start(
            *sh(f"trap '' TERM; ulimit -u 4000; {script}"), env=marked.env, contain=True
        )
        await until(lambda: len(marked.alive()) > OF_DAEMONS)
        assert await aiopidfd.shutdown(grace=0.1)
        assert process.returncode == -signal.SIGKILL
        assert not marked.alive()

    Backend("asyncio").run(body)
