"""A host whose /proc shows another pid namespace than its own.

`unshare --pid --fork` without a mount, `bwrap --unshare-pid --dev-bind / /`, or a container that
has the /proc of its host: the numbers there mean other processes.
"""

import os
import subprocess
from pathlib import Path

import pytest

from .. import fresh
from ..held_exec import held_exec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unshare(2) is root's")

PROC = {"ours": ("unshare", "-pf", "--mount-proc"), "foreign": ("unshare", "-pf")}
OLD = "seccomp.install((seccomp.FSTATFS, errno.EPERM))"  # before Linux 6.9 a pidfd has no inode


@pytest.fixture(params=[*PROC])
def namespace(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return (*PROC[request.param], "--kill-child")


@pytest.mark.parametrize("kernel", ["pass", OLD], ids=["new", "old"])
def test_signals_timeouts_and_cancellations(namespace: tuple[str, ...], kernel: str) -> None:
    code = f"""
        import logging, subprocess
        logging.disable()  # a tree cannot be seen there, and that is told
        {kernel}
        aiopidfd.spawn(["true"]).wait()
        before = open_fds()

        async def main():
            for name in ("terminate", "kill"):
                process = await aiopidfd.create_subprocess_exec("sleep", "1000")
                getattr(process, name)()
                assert await process.wait() < 0
            try:
                await aiopidfd.run_process(["sleep", "1000"], timeout=0.1)
            except subprocess.TimeoutExpired:
                pass
            task = asyncio.create_task(aiopidfd.run_process(["sleep", "1000"]))
            await asyncio.sleep(0.1)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass

        asyncio.run(main())
        child = aiopidfd.spawn(["sleep", "1000"])
        if os.fork() == 0:
            os._exit("pidfd" in str(open_fds()))
        assert os.wait()[1] == 0  # the copy has none of ours
        child.kill()
        assert child.wait() == -9
        assert open_fds() == before
    """
    fresh.run(code, *namespace)


@pytest.mark.parametrize("end", ["cancelled", "guardian killed"])
def test_a_start_whose_exec_hangs(namespace: tuple[str, ...], end: str, tmp_path: Path) -> None:
    """It is over at once, and the program does not run."""
    marker = tmp_path / "marker"
    code = f"""
        def youngest():
            fds = []
            for pid in range(2, 200):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 0)
                    fds.append(pid)
            return fds[-1]

        async def main():
            await aiopidfd.run_process(["true"])
            task = asyncio.create_task(
                aiopidfd.create_subprocess_exec(sys.argv[1], "-c", "echo > {marker}")
            )
            await asyncio.sleep(0)
            print("begun", flush=True)
            sys.stdin.readline()  # no thread: the youngest is the child
            child = youngest()
            if {end!r} == "cancelled":
                task.cancel()
            else:
                os.kill(child - 1, signal.SIGKILL)  # it was born just before
            await asyncio.wait([task])
            print("cancelled" if task.cancelled() else type(task.exception()).__name__, flush=True)
            assert aiopidfd.running() == []

        asyncio.run(main())
    """
    with held_exec(tmp_path) as held:
        host = subprocess.Popen(
            [*namespace, *fresh.command(code), held.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert host.stdin is not None
        assert host.stdout is not None
        with host, host.stdin, host.stdout:
            assert host.stdout.readline() == "begun\n"
            held.wait_until_held()
            print(file=host.stdin, flush=True)
            said = host.stdout.readline()
            held.let_go()
        assert host.returncode == 0
    assert said == ("cancelled\n" if end == "cancelled" else "ChildProcessError\n")
    assert not marker.exists()


@pytest.mark.parametrize("kernel", ["pass", "seccomp.no_exit_info()"], ids=["new", "old"])
def test_the_pid_of_a_handle_is_ours_or_not_told(namespace: tuple[str, ...], kernel: str) -> None:
    fresh.run(
        f"""
        import subprocess
        {kernel}
        with subprocess.Popen(["sleep", "1000"]) as process:
            with aiopidfd.PidFd.open(process.pid) as handle:
                try:
                    assert handle.getpid() == handle.info().pid == process.pid
                    assert f"pid={{process.pid}} " in repr(handle)
                except OSError as exc:
                    assert exc.errno == errno.ENOTSUP
                    assert os.readlink("/proc/self") != str(os.getpid())
                    assert {kernel!r} != "pass"
                process.kill()
                process.wait()
                try:
                    handle.getpid()
                except OSError as exc:
                    assert exc.errno in (errno.ESRCH, errno.ENOTSUP), exc
                else:
                    raise AssertionError
        """,
        *namespace,
    )


def test_the_pid_of_a_program_in_yet_another_namespace(namespace: tuple[str, ...]) -> None:
    """/proc does not tell it, but the kernel does (Linux 6.13)."""
    fresh.run(
        """
        assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID
        child = aiopidfd.spawn(["sleep", "1000"])
        with aiopidfd.PidFd.from_process(child) as handle:
            try:
                assert handle.getpid() == handle.info().pid == child.pid > 0
            except OSError as exc:
                assert (exc.errno, child.pid) == (errno.ENOTSUP, 0)
        child.kill()
        assert child.wait() == -9
        """,
        *namespace,
    )


def test_an_end_that_nobody_knows_is_told_in_the_context_of_the_start() -> None:
    """A filter that wants a variable there would raise in another one."""
    fresh.run(
        """
        import contextvars, logging
        if pid := os.fork():  # the first process of a namespace would be told of its orphans
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        request, told = contextvars.ContextVar("request"), []

        class Handler(logging.Handler):
            def emit(self, record):
                told.append((request.get(), record.levelname))

        logging.getLogger("aiopidfd").addHandler(Handler())

        async def main():
            request.set("alice")
            process = await aiopidfd.create_subprocess_exec("sleep", "0.1")
            os.kill(process.guardian_pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                assert await process.wait() == 255

        asyncio.run(main())
        assert told == [("alice", "WARNING")], told
        """,
        *("unshare", "-pf", "--kill-child"),
    )
