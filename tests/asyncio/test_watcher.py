"""The child watcher, for children that asyncio makes with Popen: Python 3.11 to 3.13."""

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

import aiopidfd

from .. import fresh
from ..census import open_fds
from ..hosts import HOSTS, Seen
from ..support import gate, hang_guard, until

HAVE_WATCHERS = sys.version_info < (3, 14)

if HAVE_WATCHERS:
    from aiopidfd import PidfdChildWatcher
    from aiopidfd._asyncio import child_watcher as watcher_module

has_watchers = pytest.mark.skipif(not HAVE_WATCHERS, reason="Python 3.14 has no child watchers")
knows_status = pytest.mark.skipif(
    not aiopidfd.kernel().exit_info,
    reason="before Linux 6.15 no one but the parent is told how a process ended",
)

COMMANDS = {"exit 0": 0, "exit 3": 3, "sleep 0.05; exit 7": 7, "kill -9 $$": -9}


def start(command: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ)


def pidfds() -> set[int]:
    return {fd for fd, link in open_fds().items() if "pidfd" in link}


class Told:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any) -> None:
        self.calls.append(args)


@pytest.fixture
def watcher() -> Iterator["PidfdChildWatcher"]:
    made = PidfdChildWatcher()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def installed(watcher: Any) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of all watchers
        asyncio.set_child_watcher(watcher)
        try:
            yield
        finally:
            asyncio.set_child_watcher(None)


@pytest.mark.skipif(HAVE_WATCHERS, reason="this Python has watchers")
def test_where_there_are_no_watchers_the_error_says_what_to_use() -> None:
    expected = "Python 3.14 has removed child watchers.*loop_factory=aiopidfd.EventLoop.*wait_pid"
    with pytest.raises(ImportError, match=expected):
        _ = aiopidfd.PidfdChildWatcher
    with pytest.raises(ImportError, match=expected):
        from aiopidfd import PidfdChildWatcher as _  # noqa: F401


async def theirs() -> list[int]:
    """asyncio's own functions on asyncio's own loop."""

    async def run(command: str) -> int:
        process = await asyncio.create_subprocess_shell(command)
        return await process.wait()

    with hang_guard():
        return await asyncio.gather(*(run(command) for command in COMMANDS))


@has_watchers
class TestWithAsyncio:
    def test_statuses(self) -> None:
        with installed(PidfdChildWatcher()):
            for _ in range(3):
                assert asyncio.run(theirs()) == [*COMMANDS.values()]

    @knows_status
    @pytest.mark.parametrize("host", ["ignored", "SA_NOCLDWAIT", "reaping handler"])
    def test_a_status_that_others_took(self, host: str) -> None:
        """What was taken after the child was added. (Before that it has no handler yet.)"""

        async def main() -> None:
            process = await asyncio.create_subprocess_shell("sleep 0.05; exit 7")
            with hang_guard():
                assert await process.wait() == 7

        with installed(PidfdChildWatcher()), HOSTS[host](Seen()):
            for _ in range(5):
                asyncio.run(main())

    @knows_status
    def test_asyncio_s_own_watcher_is_robbed_by_that(self) -> None:
        """The control."""

        async def main() -> int:
            process = await asyncio.create_subprocess_shell("sleep 0.05; exit 7")
            return await process.wait()

        logging.getLogger("asyncio").setLevel(logging.ERROR)
        try:
            with installed(asyncio.PidfdChildWatcher()), HOSTS["ignored"](Seen()):
                assert asyncio.run(main()) == 255
        finally:
            logging.getLogger("asyncio").setLevel(logging.NOTSET)

    def test_in_threads_each_with_a_loop(self) -> None:
        results: list[list[int]] = []

        def work() -> None:
            results.append(asyncio.run(theirs()))

        with installed(PidfdChildWatcher()):
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert results == [[*COMMANDS.values()]] * 4

    def test_no_sigchld_handler_and_no_thread(self) -> None:
        seen = Seen()
        with installed(PidfdChildWatcher()), HOSTS["ignored"](seen):
            import signal

            async def main() -> set[threading.Thread]:
                process = await asyncio.create_subprocess_shell("read x", stdin=subprocess.PIPE)
                threads = {*threading.enumerate()}
                assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
                process.stdin.close()  # type: ignore[union-attr]
                await process.wait()
                return threads

            before = {*threading.enumerate()}
            assert asyncio.run(main()) == before


@has_watchers
class TestHandlers:
    async def test_the_handler_gets_pid_status_and_arguments(
        self, watcher: "PidfdChildWatcher"
    ) -> None:
        told = Told()
        expected = []
        with watcher as same:
            assert same is watcher
            for command, status in COMMANDS.items():
                pid = start(command)
                watcher.add_child_handler(pid, told, "a", command)
                expected.append((pid, status, "a", command))
        await until(lambda: len(told.calls) == len(COMMANDS))
        assert sorted(told.calls) == sorted(expected)
        with pytest.raises(ChildProcessError):  # they are reaped
            os.waitpid(-1, os.WNOHANG)

    async def test_a_second_handler_replaces_the_first(self, watcher: "PidfdChildWatcher") -> None:
        first, second = Told(), Told()
        pid = start("sleep 0.05; exit 3")
        watcher.add_child_handler(pid, first)
        watcher.add_child_handler(pid, second, 1)
        await until(lambda: second.calls)
        assert second.calls == [(pid, 3, 1)]
        assert first.calls == []

    async def test_a_handler_for_a_zombie_replaces_the_first_too(
        self, watcher: "PidfdChildWatcher"
    ) -> None:
        first, second = Told(), Told()
        pid = start("exit 3")
        watcher.add_child_handler(pid, first)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        watcher.add_child_handler(pid, second)
        await until(lambda: second.calls)
        assert (first.calls, second.calls) == ([], [(pid, 3)])

    async def test_removed(self, watcher: "PidfdChildWatcher") -> None:
        told = Told()
        pid = start("exit 3")
        watcher.add_child_handler(pid, told)
        assert watcher.remove_child_handler(pid)
        assert not watcher.remove_child_handler(pid)
        assert await aiopidfd.wait_pid(pid) == 3  # it was left alone
        assert told.calls == []

    async def test_removed_while_its_turn_is_waited_for(self, watcher: "PidfdChildWatcher") -> None:
        """The loop has seen the exit, but not called us yet."""
        told = Told()
        pids = [start("exit 3") for _ in range(2)]
        for pid in pids:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        def remove_the_others(pid: int, code: int) -> None:
            told(pid, code)
            for other in pids:
                if other != pid:
                    assert watcher.remove_child_handler(other)

        for pid in pids:
            watcher.add_child_handler(pid, remove_the_others)
        await until(lambda: told.calls)
        await asyncio.sleep(0.02)
        assert len(told.calls) == 1
        (left,) = {*pids} - {told.calls[0][0]}
        os.waitpid(left, 0)

    async def test_removed_by_another_thread_while_its_turn_is_waited_for(
        self, watcher: "PidfdChildWatcher"
    ) -> None:
        """It is left alone then, although the loop has seen its exit."""
        loop = asyncio.get_running_loop()
        told = Told()
        for _ in range(10):
            with gate() as (first, release, _w):
                pid = start("exit 3")
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

                def remove(pid: int = pid, first: int = first) -> None:
                    loop.remove_reader(first)
                    thread = threading.Thread(target=watcher.remove_child_handler, args=(pid,))
                    thread.start()
                    thread.join()

                loop.add_reader(first, remove)  # called before the child's, in the same turn
                release()
                watcher.add_child_handler(pid, told)
                await asyncio.sleep(0.005)
                assert os.waitpid(pid, 0)[0] == pid
        assert told.calls == []

    async def test_a_loop_that_takes_no_more_descriptors(
        self, watcher: "PidfdChildWatcher", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = Told()
        pid = start("exit 3")
        failing = Mock(side_effect=OSError(28, "No space left on device"))
        monkeypatch.setattr(watcher_module._Watched, "_begin", failing)
        with pytest.raises(OSError, match="No space left"):
            watcher.add_child_handler(pid, told)
        monkeypatch.undo()
        watcher.add_child_handler(pid, told)
        await until(lambda: told.calls)
        assert told.calls == [(pid, 3)]

    async def test_a_child_that_was_reaped_before(
        self, watcher: "PidfdChildWatcher", caplog: pytest.LogCaptureFixture
    ) -> None:
        told = Told()
        pid = start("exit 3")
        os.waitpid(pid, 0)
        watcher.add_child_handler(pid, told)
        assert told.calls == []  # the loop calls it
        await until(lambda: told.calls)
        assert told.calls == [(pid, 255)]
        assert [(record.name, record.getMessage()) for record in caplog.records] == [
            (
                "asyncio",
                f"child process pid {pid} exit status already read: will report returncode 255",
            )
        ]

    async def test_a_process_that_is_no_child(
        self, watcher: "PidfdChildWatcher", caplog: pytest.LogCaptureFixture
    ) -> None:
        """As a pid that went to another process, after ours was reaped: it is not waited for."""
        told = Told()
        watcher.add_child_handler(os.getppid(), told)
        await until(lambda: told.calls)
        assert told.calls == [(os.getppid(), 255)]
        assert len(caplog.records) == 1

    async def test_where_the_kernel_cannot_tell(
        self,
        watcher: "PidfdChildWatcher",
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def exit_status(pidfd: int) -> Any:
            raise OSError(95, "not supported")

        monkeypatch.setattr(aiopidfd._native, "exit_status", exit_status)
        told = Told()
        pid = start("exit 3")
        watcher.add_child_handler(pid, told)
        os.waitpid(pid, 0)
        await until(lambda: told.calls)
        assert told.calls == [(pid, 255)]
        assert len(caplog.records) == 1

    async def test_a_handler_that_raises(self, watcher: "PidfdChildWatcher") -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reported.append(context))

        def handler(pid: int, code: int) -> None:
            raise ZeroDivisionError

        watcher.add_child_handler(start("exit 3"), handler)
        await until(lambda: reported)
        assert isinstance(reported[0]["exception"], ZeroDivisionError)


@has_watchers
class TestLoops:
    def test_without_a_loop(self, watcher: "PidfdChildWatcher") -> None:
        pid = start("exit 3")
        with pytest.raises(RuntimeError, match="no event loop runs here, and none is attached"):
            watcher.add_child_handler(pid, Told())
        os.waitpid(pid, 0)

    def test_the_attached_loop_is_used_from_where_none_runs(
        self, watcher: "PidfdChildWatcher"
    ) -> None:
        told = Told()
        callers: list[threading.Thread] = []

        def handler(*args: Any) -> None:
            callers.append(threading.current_thread())
            told(*args)

        async def main() -> int:
            watcher.attach_loop(asyncio.get_running_loop())
            pid = start("sleep 0.02; exit 3")
            await asyncio.to_thread(watcher.add_child_handler, pid, handler)
            await until(lambda: told.calls)
            return pid

        pid = asyncio.run(main())
        assert told.calls == [(pid, 3)]
        assert callers == [threading.main_thread()]
        watcher.attach_loop(None)

    def test_a_loop_that_does_not_run_yet(self, watcher: "PidfdChildWatcher") -> None:
        told = Told()
        loop = asyncio.new_event_loop()
        watcher.attach_loop(loop)
        pid = start("exit 3")
        watcher.add_child_handler(pid, told)
        loop.run_until_complete(until(lambda: told.calls))
        loop.close()
        assert told.calls == [(pid, 3)]

    def test_attaching_another_loop_keeps_the_children(self, watcher: "PidfdChildWatcher") -> None:
        async def main() -> list[Any]:
            told = Told()
            pid = start("sleep 0.02; exit 3")
            watcher.add_child_handler(pid, told)
            watcher.attach_loop(None)
            await until(lambda: told.calls)
            return told.calls == [(pid, 3)]  # type: ignore[return-value]

        assert asyncio.run(main())

    def test_a_second_handler_on_another_loop_is_called_there(
        self, watcher: "PidfdChildWatcher"
    ) -> None:
        async def add(pid: int, told: Told) -> None:
            watcher.add_child_handler(pid, told)

        async def main(pid: int, told: Told) -> None:
            watcher.add_child_handler(pid, told)
            with hang_guard():
                await until(lambda: told.calls)

        first, second = Told(), Told()
        pid = start("sleep 0.02; exit 3")
        stopped, running = asyncio.new_event_loop(), asyncio.new_event_loop()
        stopped.run_until_complete(add(pid, first))
        running.run_until_complete(main(pid, second))
        stopped.run_until_complete(asyncio.sleep(0))
        for loop in (stopped, running):
            loop.close()
        assert (first.calls, second.calls) == ([], [(pid, 3)])

    def test_removed_from_another_thread(self, watcher: "PidfdChildWatcher") -> None:
        async def main() -> None:
            pid = start("sleep 60")
            watcher.add_child_handler(pid, Told())
            assert await asyncio.to_thread(watcher.remove_child_handler, pid)
            os.kill(pid, 9)
            assert await aiopidfd.wait_pid(pid) == -9

        asyncio.run(main())

    def test_a_loop_that_was_closed_leaves_no_pidfd(self, watcher: "PidfdChildWatcher") -> None:
        async def add() -> int:
            pid = start("sleep 60")
            watcher.add_child_handler(pid, Told())
            return pid

        before = pidfds()
        pids = [asyncio.run(add()) for _ in range(3)]
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        assert len(watcher._watched) == 1  # the others were forgotten by the next add
        gc.collect()
        assert len(pidfds() - before) == 1
        watcher.remove_child_handler(pids[-1])
        assert pidfds() <= before

    def test_attach_what_is_no_loop(self, watcher: "PidfdChildWatcher") -> None:
        no_loop: Any = "a loop"
        with pytest.raises(TypeError, match="not an event loop: 'a loop'"):
            watcher.attach_loop(no_loop)


@has_watchers
class TestClosing:
    def test_is_active_until_closed(self) -> None:
        watcher = PidfdChildWatcher()
        assert watcher.is_active()
        with watcher:
            pass
        assert watcher.is_active()
        watcher.close()
        watcher.close()
        assert not watcher.is_active()

    async def test_closed(self) -> None:
        watcher = PidfdChildWatcher()
        watcher.close()
        with pytest.raises(RuntimeError, match="the child watcher is closed"):
            watcher.add_child_handler(os.getpid(), Told())

    async def test_closed_with_children(self) -> None:
        watcher = PidfdChildWatcher()
        told = Told()
        pid = start("exit 3")
        watcher.add_child_handler(pid, told)
        with pytest.warns(RuntimeWarning, match="pending handlers"):
            watcher.close()
        assert await aiopidfd.wait_pid(pid) == 3
        assert told.calls == []

    def test_asyncio_refuses_a_closed_one(self) -> None:
        async def main() -> None:
            await asyncio.create_subprocess_exec("true")

        watcher = PidfdChildWatcher()
        with installed(watcher):
            watcher.close()
            with pytest.raises(RuntimeError, match="not activated"):
                asyncio.run(main())

    def test_it_is_an_abstract_child_watcher(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            base = asyncio.AbstractChildWatcher
        assert issubclass(PidfdChildWatcher, base)
        assert {name for name in vars(base) if not name.startswith("_")} <= vars(
            PidfdChildWatcher
        ).keys()

    async def test_a_subclass(self) -> None:
        class Sub(PidfdChildWatcher):
            def __init__(self) -> None:
                super().__init__()
                self.added: list[int] = []

            def add_child_handler(
                self, pid: int, callback: Callable[..., object], *args: object
            ) -> None:
                self.added.append(pid)
                super().add_child_handler(pid, callback, *args)

        watcher, told = Sub(), Told()
        pid = start("exit 3")
        watcher.add_child_handler(pid, told)
        await until(lambda: told.calls)
        assert watcher.added == [pid]
        watcher.close()


@has_watchers
def test_many_threads_add_and_remove() -> None:
    fresh.run("""
        watcher = aiopidfd.PidfdChildWatcher()
        told = []
        rounds = 40

        def work(number):
            async def main():
                waiting = {}
                for turn in range(rounds):
                    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {turn}"], os.environ)
                    done = asyncio.get_running_loop().create_future()
                    watcher.add_child_handler(pid, lambda _, code, to: to.set_result(code), done)
                    if turn % 4 == 3 and watcher.remove_child_handler(pid):
                        assert await aiopidfd.wait_pid(pid) == turn
                    else:
                        assert await done == turn
                told.append(number)
            asyncio.run(main())

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert sorted(told) == [0, 1, 2, 3]
        watcher.close()
    """)
