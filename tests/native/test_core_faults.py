"""What the core must not have: each of these happened, and each was shown on an earlier core.

What is in the name of a test is what the host, or somebody else, does to it.
"""

import asyncio
import concurrent.futures
import contextlib
import errno
import fcntl
import operator
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import _native
from aiopidfd._spawn.hub_of_each_loop import current_hub

from .. import fresh, seccomp
from ..census import open_fds
from ..held_exec import HeldExec, held_exec
from ..support import gate, hang_guard, sh, until

DAEMON = """def be_a_daemon():
            os.closerange(3, 4096)
            files = []
            for number in range(40):
                path = f"{directory}/{number}"
                fd = os.open(path, os.O_RDWR | os.O_CREAT)
                os.write(fd, b"ours")
                files.append((fd, os.fstat(fd).st_ino, path))
            return files

        def check(files):
            for fd, inode, path in files:
                assert os.fstat(fd).st_ino == inode, fd
                with open(path, "rb") as file:
                    assert file.read() == b"ours", path
"""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and ids are root's")

# --- Filters


def test_a_filter_that_kills_at_seccomp() -> None:
    """systemd's @system-service has prctl(2), by which one can lock oneself in as well."""
    fresh.run(
        """
        seccomp.kill_at(seccomp.SECCOMP)
        child = aiopidfd.spawn(["sleep", "1000"])
        deadline = time.monotonic() + 60
        while "Seccomp:\\t2" not in read(f"/proc/{child.guardian_pid}/status"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.kill()
        assert child.wait() == -9
        assert aiopidfd.spawn("exit 3", shell=True).wait() == 3
        assert aiopidfd.spawn("exit 4", shell=True, contain=True).wait() == 4
        """
    )


@pytest.mark.parametrize("call", ["prctl(2)", "kill(2)"])
def test_a_filter_that_refuses_what_contain_needs(call: str) -> None:
    """Nothing is started that would not be contained."""
    fresh.run(
        f"""
        if {call!r} == "kill(2)":
            seccomp.install((seccomp.KILL, errno.EPERM))
        else:
            seccomp.refuse_with(aiopidfd._native.SYS_prctl, 0, 36, errno.EPERM)  # subreaper
        try:
            aiopidfd.spawn(["sleep", "1000"], contain=True)
        except PermissionError as exc:
            assert exc.strerror == "Operation not permitted (for {call})", exc
        else:
            raise AssertionError
        assert aiopidfd.spawn(["true"]).wait() == 0  # without it
        """
    )


@pytest.mark.parametrize("call", ["OPENAT", "READLINKAT"])
def test_a_filter_that_hides_the_children_in_proc_from_contain(call: str) -> None:
    """Neither is a start begun that would end at once, without a word."""
    fresh.run(
        f"""
        aiopidfd.spawn(["true"], contain=True).wait()
        seccomp.install((seccomp.{call}, errno.EACCES))
        try:
            aiopidfd.spawn(["sleep", "1000"], contain=True)
        except OSError as exc:
            assert exc.errno == errno.ENOTSUP, exc
        else:
            raise AssertionError
        """
    )


def test_a_filter_on_close_range_and_a_program_that_inherits_all(tmp_path: Path) -> None:
    """The guardian needs it too. The start raises, and nothing has run."""
    marker = tmp_path / "marker"
    fresh.run(
        f"""
        aiopidfd.spawn(["true"]).wait()
        seccomp.install((seccomp.CLOSE_RANGE, errno.EPERM))
        try:
            aiopidfd.spawn(["touch", {str(marker)!r}], close_fds=False)
        except PermissionError as exc:
            assert exc.strerror == "Operation not permitted (for close_range(2))", exc
        else:
            raise AssertionError
        """
    )
    assert not marker.exists()


@pytest.mark.parametrize(
    ("call", "how"),
    [
        ("PPOLL", "spawn"),
        ("SIGNALFD4", "spawn"),
        ("WAITID", "spawn"),
        ("EVENTFD2", "loop"),
        ("EPOLL_CREATE1", "loop"),
        ("PIPE2", "spawn"),
        ("LSEEK", "contain"),
    ],
)
def test_a_filter_that_refuses_what_a_start_needs(call: str, how: str, tmp_path: Path) -> None:
    """The error names the call, and nothing has run."""
    marker = tmp_path / "marker"
    command = ["touch", str(marker)]
    output = fresh.run(
        f"""
        loop = asyncio.new_event_loop()
        seccomp.install((seccomp.{call}, errno.EPERM))
        try:
            if {how!r} == "loop":
                loop.run_until_complete(aiopidfd.run_process({command!r}, stdout=None, stderr=None))
            else:
                aiopidfd.spawn({command!r}, contain={how!r} == "contain")
        except OSError as exc:
            print(exc)
        loop.close()
        """
    )
    name = call.lower()
    assert f"{name}(2)" in output
    assert "[Errno 1]" in output or "EPERM" in output
    assert not marker.exists()


@pytest.mark.parametrize("call", ["CLOCK_GETTIME", "KCMP"])
def test_a_filter_that_kills_who_makes_a_late_call_of_contain(call: str, tmp_path: Path) -> None:
    """Nothing has run, where later it would run on uncontained."""
    marker = tmp_path / "marker"
    fresh.run(
        f"""
        aiopidfd.spawn(["true"], contain=True).wait()
        seccomp.kill_at(seccomp.{call})
        try:
            aiopidfd.spawn(["touch", {str(marker)!r}], contain=True)
        except ChildProcessError:
            pass
        else:
            raise AssertionError
        aiopidfd.spawn(["true"]).wait()
        assert childless()
        """
    )
    assert not marker.exists()


@pytest.mark.skipif(seccomp.EPOLL_WAIT is None, reason="this machine has epoll_pwait(2) alone")
@pytest.mark.parametrize(
    ("host", "call"), [("uvloop", "EPOLL_WAIT"), ("asyncio", "EPOLL_PWAIT")], ids=str
)
@pytest.mark.parametrize("answer", ["EPERM", "ENOSYS"])
def test_a_filter_that_allows_what_the_loop_itself_calls(host: str, call: str, answer: str) -> None:
    fresh.run(
        f"""
        seccomp.install((seccomp.{call}, errno.{answer}))
        async def main():
            async with asyncio.timeout(60):
                result = await aiopidfd.run_process(["echo", "x"])
                assert result.stdout == b"x\\n"
        import uvloop
        {host}.run(main())
        """
    )


@pytest.mark.parametrize("call", ["PPOLL", "SIGNALFD4", "WAITID", "CLOSE_RANGE"])
def test_a_filter_that_comes_before_a_fork(call: str) -> None:
    """Its guardian tries what it will need, as that of a program does, and there is no process."""
    output = fresh.run(
        f"""
        assert aiopidfd.spawn(["true"]).wait() == 0
        seccomp.install((seccomp.{call}, errno.EPERM))
        try:
            child = aiopidfd.fork()
        except OSError as exc:
            print(exc)
        else:
            os._exit(7)
        if {call!r} != "WAITID":  # else nobody can reap the guardian
            assert childless()
        """
    )
    assert f"{call.lower()}(2)" in output
    assert "EPERM" in output or "[Errno 1]" in output


def check_that_python_goes_on_without(calls: list[str]) -> None:
    rules = ", ".join(f"(seccomp.{call}, errno.EPERM)" for call in calls)
    code = f"seccomp.install({rules})\ntry: os.fstat(0)\nexcept OSError: print('needs it')"
    if fresh.run(code):
        pytest.skip("this C library makes fstat(2) itself, so Python cannot do without")


@pytest.mark.parametrize("calls", [["STATX"], ["STATX", "FSTAT"]])
def test_a_filter_that_hides_what_a_descriptor_is(calls: list[str]) -> None:
    """Starts are told of, and what runs can be killed."""
    check_that_python_goes_on_without(calls)
    rules = ", ".join(f"(seccomp.{call}, errno.EPERM)" for call in calls)
    fresh.run(
        f"""
        async def main():
            earlier = [
                await aiopidfd.create_subprocess_exec("sleep", "1000"),
                aiopidfd.spawn(["sleep", "1000"]),
            ]
            seccomp.install({rules})
            for child in earlier:
                child.kill()
            assert await earlier[0].wait() == earlier[1].wait() == -9
            later = await asyncio.wait_for(aiopidfd.create_subprocess_exec("sleep", "1000"), 30)
            later.kill()
            assert await later.wait() == -9

        asyncio.run(main())
        while _native.sweep():
            time.sleep(0.01)
        assert not [kind for kind in open_fds().values() if "pidfd" in kind][1:], open_fds()
        """
    )


@pytest.mark.parametrize("calls", [["STATX"], ["STATX", "FSTAT"]])
def test_a_filter_that_hides_what_a_descriptor_is_and_a_daemon(
    calls: list[str], tmp_path: Path
) -> None:
    """Nothing of the host's is closed or written to."""
    check_that_python_goes_on_without(calls)
    rules = ", ".join(f"(seccomp.{call}, errno.EPERM)" for call in calls)
    fresh.run(
        f"""
        directory = {str(tmp_path)!r}
        {DAEMON}
        child = aiopidfd.spawn("sleep 0.3; exit 7", shell=True)
        seccomp.install({rules})
        before = aiopidfd.spawn("exit 5", shell=True)
        files = be_a_daemon()
        child.wait()
        before.wait()
        assert aiopidfd.spawn("exit 4", shell=True).wait() == 4
        while _native.sweep():
            time.sleep(0.01)
        check(files)
        """
    )


@root_only
def test_a_filter_that_comes_while_a_daemon_starts_a_program(tmp_path: Path) -> None:
    """A guardian is not over because its closed pidfd looks so, and waitid(2) cannot tell."""
    fresh.run(
        f"""
        from tests.held_exec import held_exec

        aiopidfd.spawn(["true"]).wait()
        children = []
        with held_exec(pathlib.Path({str(tmp_path)!r})) as held:
            keep = set(open_fds())
            start = threading.Thread(
                target=lambda: children.append(aiopidfd.spawn([held.path, "-c", "exec sleep 1000"]))
            )
            start.start()
            held.wait_until_held()
            for fd in set(open_fds()) - keep - {{*held._held}}:
                os.close(fd)
            seccomp.install((seccomp.WAITID, errno.EPERM))
            start.join(1.5)
            assert start.is_alive() and _native.records() == 1
            held.let_go()
            start.join(60)
        (child,) = children
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -9
        """
    )


# --- Descriptors that the host closes, and puts its own files where they were


@pytest.mark.heavy
@pytest.mark.parametrize("then", ["poll", "fork", "drop", "signal"])
def test_a_daemon_while_a_program_runs(then: str, tmp_path: Path) -> None:
    """Not a record is freed that a guardian still uses, nothing is closed that is not ours."""
    if not aiopidfd.kernel().exit_info:
        pytest.skip("before Linux 6.15 nobody can tell how a program ended whose pidfd was closed")
    fresh.run(
        f"""
        directory = {str(tmp_path)!r}
        {DAEMON}
        child = aiopidfd.spawn("sleep 0.3; exit 7", shell=True)
        files = be_a_daemon()
        if {then!r} == "poll":
            for _ in range(100):
                assert child.poll() is None
            assert child.wait(30) == 7
        elif {then!r} == "fork":
            pid = os.fork()
            if pid == 0:
                check(files)
                assert aiopidfd.spawn("exit 5", shell=True).wait() == 5
                check(files)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert child.wait(30) == 7
        elif {then!r} == "drop":
            del child
            while _native.sweep():
                time.sleep(0.01)
        else:
            child.kill()  # by a pidfd of the same process, opened anew
            assert child.wait(30) == -9
        check(files)
        bound = aiopidfd.spawn("sleep 0.2; exit 4", shell=True, contain=True)
        os.closerange(bound.pidfd + 1, 4096)
        for status in range(3):
            assert aiopidfd.spawn(f"exit {{status}}", shell=True).wait() == status
        check(files)
        assert bound.wait() == 4
        while _native.sweep():
            pass
        assert _native.records() == 0
        """
    )


@pytest.mark.heavy
@pytest.mark.parametrize("bond", ["contain", "die_with_parent"])
def test_a_daemon_and_what_is_bound_to_it(bond: str) -> None:
    """That it has closed our lifeline does not look as if it had exec'd."""
    output = fresh.run(
        f"""
        child = aiopidfd.spawn("sleep 1.5; exit 7", shell=True, {bond}=True)
        guardian = child.guardian_pid
        os.closerange(3, 4096)
        assert child.wait() == 7
        child = aiopidfd.spawn(["sleep", "1000"], {bond}=True, stdin=-3, stdout=-3, stderr=-3)
        print(child.pid, flush=True)
        os.closerange(3, 4096)
        time.sleep(0.3)
        os.execv("/bin/sleep", ["sleep", "0"])  # and this is not overlooked
        """
    )
    pid = int(output)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()


@root_only
@pytest.mark.parametrize("end", ["os._exit(0)", "os.execv('/bin/sleep', ['sleep', '60'])"])
@pytest.mark.parametrize("put", ["nothing", "files"])
@pytest.mark.parametrize("contain", [False, True])
def test_a_daemon_whose_program_is_started_meanwhile(
    end: str, put: str, contain: bool, tmp_path: Path
) -> None:
    """Its guardian has lost both lifelines, and looks for our end in another way: by kcmp(2)."""
    if seccomp.kcmp_is_refused():
        pytest.skip("kcmp(2) is refused here")
    output = fresh.run(
        f"""
        from tests.held_exec import held_exec

        theirs, write = os.pipe()
        host = os.fork()
        if host == 0:
            os.close(theirs)
            aiopidfd.spawn(["true"]).wait()
            children = []
            with held_exec(pathlib.Path({str(tmp_path)!r})) as held:
                start = threading.Thread(
                    target=lambda: children.append(
                        aiopidfd.spawn(
                            [held.path, "-c", "exec sleep 1000"],
                            contain={contain},
                            stdout=-3,
                            stderr=-3,
                        )
                    )
                )
                start.start()
                held.wait_until_held()
                for fd in set(open_fds()) - {{held._group, *held._held, 0, 1, 2, write}}:
                    os.close(fd)
                    if {put!r} == "files" and (null := os.open("/dev/null", os.O_RDONLY)) != fd:
                        os.dup2(null, fd)
                        os.close(null)
                held.let_go()
                start.join()
            (child,) = children
            os.write(write, f"{{child.pid}} {{child.guardian_pid}}".encode())
            time.sleep(0.3)
            {end}
        os.close(write)
        program, guardian = map(int, os.read(theirs, 100).split())

        def runs(pid):
            try:
                return read(f"/proc/{{pid}}/stat").rpartition(")")[2][1] not in "ZX"
            except FileNotFoundError:
                return False

        deadline = time.monotonic() + 30
        while (runs(guardian) or ({contain} and runs(program))) and time.monotonic() < deadline:
            time.sleep(0.01)
        print(runs(guardian), runs(program))
        for pid in (host, program):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(host, 0)
        """
    )
    assert output.split() == ["False", str(not contain)]


@root_only
def test_a_daemon_whose_program_is_started_where_kcmp_is_refused(tmp_path: Path) -> None:
    """That it may not ask is no sign that we have gone."""
    fresh.run(
        f"""
        from tests.held_exec import held_exec

        aiopidfd.spawn(["true"]).wait()
        seccomp.install((seccomp.KCMP, errno.EPERM))
        children = []
        with held_exec(pathlib.Path({str(tmp_path)!r})) as held:
            command = [held.path, "-c", "sleep 0.3; exit 7"]
            start = threading.Thread(
                target=lambda: children.append(aiopidfd.spawn(command, contain=True))
            )
            start.start()
            held.wait_until_held()
            for fd in set(open_fds()) - {{held._group, *held._held, 0, 1, 2}}:
                os.close(fd)
                if (null := os.open("/dev/null", os.O_RDONLY)) != fd:
                    os.dup2(null, fd)
                    os.close(null)
            held.let_go()
            start.join()
        assert children[0].wait() == 7
        """
    )


@pytest.mark.heavy
def test_a_daemon_while_a_program_is_started(tmp_path: Path) -> None:
    """What the guardian writes to is looked at before: it may be the host's by then."""
    fresh.run(
        f"""
        directory = {str(tmp_path)!r}
        {DAEMON}
        for number in range(20):
            pid = os.fork()
            if pid == 0:
                async def main():
                    task = asyncio.create_task(aiopidfd.create_subprocess_exec("true"))
                    await asyncio.sleep(0)
                    for _ in range(number * 50):
                        pass
                    files = be_a_daemon()
                    time.sleep(0.02)
                    _native.sweep()
                    check(files)
                    os._exit(0)  # the loop is in no state to go on

                asyncio.run(main())
            assert os.waitpid(pid, 0)[1] == 0, number
        """
    )


@root_only
@pytest.mark.parametrize("kind", ["pipe", "pidfd", "eventfd"])
def test_what_lies_at_our_numbers_by_then_is_not_held(kind: str, tmp_path: Path) -> None:
    """The host puts a pipe's end there while the exec hangs: the guardian would keep it open."""
    fresh.run(
        f"""
        from tests.held_exec import held_exec

        before = open_fds()
        _native.prepare()
        hub = _native.hub()
        number = min(fd for fd, kind in open_fds().items() if fd not in before and {kind!r} in kind)
        with held_exec(pathlib.Path({str(tmp_path)!r})) as held:
            program = ((os.fsencode(held.path),), (b"sh", b"-c", b"exec sleep 1000"), None)
            child = _native.spawn(hub, 0, False, False, 0, False, -1, -1, (), *program, [], [])
            held.wait_until_held()
            ours = os.dup(number)
            read, write = os.pipe()
            os.dup2(write, number, inheritable=False)
            held.let_go()
            while child.block(_native.STARTING, -1) == _native.STARTING:
                pass
            assert child.state == _native.RUNNING
            os.dup2(ours, number, inheritable=False)
            os.close(write)
            told = select.select([read], [], [], 20)[0]
            child.kill()
            while child.block(_native.RUNNING, -1) == _native.RUNNING:
                pass
            assert told, "the guardian has the other end"
        """
    )


# --- Limits


@pytest.mark.parametrize("closed", [[0], [0, 1], [0, 1, 2]])
def test_no_descriptor_for_our_end_and_a_standard_one_is_closed(
    closed: list[int], tmp_path: Path
) -> None:
    """A start that raises has run nothing."""
    fresh.run(
        f"""
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        saved = os.dup(2)
        for fd in {closed}:
            os.close(fd)
        failed = 0
        for number in range(100):
            path = f"{tmp_path}/{{number}}"
            # So many are free as are closed below 3, and some.
            limit = max(open_fds()) + 1 + number % 4
            used = set(open_fds())
            fillers = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 4096))
            try:
                try:
                    while True:
                        fillers.append(os.dup(saved))
                except OSError:
                    pass
                for fd in fillers[:number % 5]:
                    os.close(fd)
                try:
                    child = aiopidfd.spawn(["/bin/touch", path])
                except OSError as exc:
                    assert exc.errno in (errno.EMFILE, errno.EBADF), exc
                    failed += 1
                    child = None
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
                for fd in fillers[number % 5:]:
                    os.close(fd)
            if child is not None:
                child.wait()
            else:
                time.sleep(0.005)
                assert not os.path.exists(path), number
        os.dup2(saved, 2)
        assert failed
        """
    )


@pytest.mark.heavy
def test_no_descriptor_is_allowed_any_more() -> None:
    """poll(2) then refuses even one: exits are told all the same, and no loop spins."""
    fresh.run(
        """
        async def main():
            async with asyncio.timeout(30):
                process = await aiopidfd.create_subprocess_exec("sleep", "0.3")
                alone = await aiopidfd.create_subprocess_exec("sleep", "0.3")
                process.children()
                child = aiopidfd.spawn("sleep 0.3; exit 3", shell=True)
                os.kill(alone.guardian_pid, signal.SIGKILL)
                hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
                turns = 0

                async def count():
                    nonlocal turns
                    while True:
                        await asyncio.sleep(0.01)
                        turns += 1

                counting = asyncio.create_task(count())
                before = time.process_time()
                assert await process.wait() == 0
                assert child.wait(30) == 3
                await alone.wait()
                assert time.process_time() - before < 0.25  # it has slept
                counting.cancel()
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

        import logging
        logging.getLogger("aiopidfd").addHandler(logging.NullHandler())
        asyncio.run(main())
        """
    )


async def test_300_with_three_pipes_at_the_usual_limit() -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
    pipe = aiopidfd.PIPE

    async def one(number: int) -> tuple[bytes | None, int | None]:
        process = await aiopidfd.create_subprocess_exec("cat", stdin=pipe, stdout=pipe, stderr=pipe)
        out, _ = await process.communicate(b"%d" % number)
        return out, process.returncode

    try:
        with hang_guard(120):
            results = await asyncio.gather(*(one(number) for number in range(300)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert results == [(b"%d" % number, 0) for number in range(300)]


async def test_what_a_running_program_costs() -> None:
    """Two descriptors: its pidfd, and its guardian's."""
    before = len(open_fds())
    processes = [await aiopidfd.create_subprocess_exec("sleep", "1000") for _ in range(20)]
    try:
        assert len(open_fds()) - before <= 2 * 20
    finally:
        for process in processes:
            process.kill()
            await process.wait()


# --- Guardians that somebody has stopped, killed, or traces


async def test_a_stopped_guardian_does_not_hide_an_exit() -> None:
    process = await aiopidfd.create_subprocess_shell("sleep 0.2; exit 5")
    os.kill(process.guardian_pid, signal.SIGSTOP)
    with hang_guard():
        assert await process.wait() == 5


def test_a_stopped_guardian_does_not_hide_an_exit_from_a_thread() -> None:
    child = aiopidfd.spawn("sleep 0.2; exit 5", shell=True)
    os.kill(child.guardian_pid, signal.SIGSTOP)
    assert child.wait(30) == 5


@pytest.mark.parametrize("module", ["spawn", "subprocess.Popen"])
def test_a_stopped_guardian_does_not_hide_an_exit_from_poll(module: str) -> None:
    child = operator.attrgetter(module)(aiopidfd)(["sh", "-c", "sleep 0.1; exit 5"])
    os.kill(child.guardian_pid, signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.returncode == 5


@root_only
def test_a_guardian_that_is_stopped_in_a_start_goes_on(tmp_path: Path) -> None:
    with held_exec(tmp_path) as held, concurrent.futures.ThreadPoolExecutor() as pool:
        start = pool.submit(aiopidfd.spawn, [held.path, "-c", "exit 5"])
        status = Path(f"/proc/{held.wait_until_held()}/status").read_text()
        os.kill(int(status.split("PPid:")[1].split()[0]), signal.SIGSTOP)
        held.let_go()
        assert start.result(30).wait() == 5


def test_a_guardian_that_is_stopped_when_it_is_about_to_leave() -> None:
    """A later start continues it, and reaps it."""
    with gate() as (read, release, _):
        child = aiopidfd.spawn(sh("setsid sleep 1000 & read line"), stdin=read)
        guardian = child.guardian_pid
        (rest,) = children_of(child)
        release()
        child.wait()
    os.kill(guardian, signal.SIGSTOP)
    rest.kill()
    rest.close()
    end = time.monotonic() + 30
    while Path(f"/proc/{guardian}").exists():
        assert time.monotonic() < end
        assert aiopidfd.spawn(["true"]).wait() == 0


def children_of(child: aiopidfd.Child) -> list[aiopidfd.PidFd]:
    """All that it has started; from now on its guardian stays until they are gone."""
    while not (found := child.children()):
        pass
    return found


async def test_a_guardian_that_is_stopped_in_a_start_on_a_loop_goes_on(tmp_path: Path) -> None:
    with held_exec(tmp_path) as held:
        start = asyncio.ensure_future(stop_while_it_starts(held))
        process = await aiopidfd.create_subprocess_exec(held.path, "-c", "exit 5")
        assert await process.wait() == 5
        await start


def test_a_guardian_that_is_stopped_in_a_start_on_trio_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stop_while_it_starts, held)
            process = await aiopidfd.anyio.open_process([held.path, "-c", "exit 5"])
            assert await process.wait() == 5
            await process.aclose()

    with held_exec(tmp_path) as held:
        anyio.run(main, backend="trio")


async def stop_while_it_starts(held: HeldExec) -> None:
    pid = await anyio.to_thread.run_sync(held.wait_until_held)
    status = Path(f"/proc/{pid}/status").read_text()
    os.kill(int(status.split("PPid:")[1].split()[0]), signal.SIGSTOP)
    held.let_go()


def test_a_guardian_killed_while_oom_score_adj_is_written() -> None:
    """The kernel writes it to all that share the memory, unless one of them waits in vfork."""
    fresh.run(
        """
        import logging
        logging.getLogger("aiopidfd").addHandler(logging.NullHandler())
        before = read("/proc/self/oom_score_adj")
        for number in range(150):
            child = begin(["true"], oom_score_adj=700)
            for _ in range(number * 40 % 3000):
                pass
            os.kill(child.guardian_pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                child.wait()
            assert read("/proc/self/oom_score_adj") == before, number
        """
    )


@pytest.mark.heavy
def test_a_guardian_that_is_traced_for_ever() -> None:
    """It cannot be reaped: the status is told all the same, and nothing spins."""
    fresh.run(
        """
        PTRACE_SEIZE = 0x4206
        async def main():
            process = await aiopidfd.create_subprocess_shell("sleep 0.3; exit 6")
            tracer = os.fork()
            if tracer == 0:
                if libc.ptrace(PTRACE_SEIZE, process.guardian_pid, None, None) != 0:
                    os._exit(1)
                os.write(write, b"x")
                time.sleep(1000)
            assert os.read(read, 1) == b"x"
            assert await process.wait() == 6
            before = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - before < 0.1
            assert aiopidfd.spawn(["true"]).wait() == 0
            os.kill(tracer, 9)
            os.waitpid(tracer, 0)
            while _native.sweep() or child_pids():
                await asyncio.sleep(0.01)

        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        read, write = os.pipe()
        asyncio.run(main())
        """
    )


# --- What a guardian holds


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("mount(2) is root's")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=False, stderr=subprocess.DEVNULL)


async def test_the_directory_of_the_start_can_be_unmounted(mounted: Path) -> None:
    here = os.getcwd()
    os.chdir(mounted)
    try:
        process = await aiopidfd.create_subprocess_exec("sleep", "1000", cwd="/")
    finally:
        os.chdir(here)
    async with process:
        subprocess.run(["umount", str(mounted)], check=True)


async def test_a_guardian_has_left_our_table_when_the_start_is_told() -> None:
    null = [os.open("/dev/null", os.O_RDONLY) for _ in range(500)]
    try:
        for _ in range(20):
            read, write = os.pipe()
            process = await aiopidfd.create_subprocess_exec("sleep", "1000")
            fds = Path(f"/proc/{process.guardian_pid}/fd")
            assert len(list(fds.iterdir())) <= 4
            os.close(write)
            assert os.read(read, 1) == b""
            os.close(read)
            process.kill()
            await process.wait()
    finally:
        for fd in null:
            os.close(fd)


@pytest.mark.heavy
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_program_just_written_is_not_busy(loop: str, tmp_path: Path) -> None:
    """Nobody holds a duplicate of a file that was closed (golang#22315), whatever is under way."""
    fresh.run(
        f"""
        directory, tasks, rounds = {str(tmp_path)!r}, 20, 100
        async def writer(number):
            path = f"{{directory}}/program-{{number}}"
            for _ in range(rounds):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
                os.write(fd, pathlib.Path("/bin/true").read_bytes())
                os.close(fd)
                if {loop!r} == "trio":
                    process = await aiopidfd.anyio.open_process(
                        [path], stdin=None, stdout=None, stderr=None)
                else:
                    process = await aiopidfd.create_subprocess_exec(path)
                assert await process.wait() == 0

        async def main():
            async with asyncio.TaskGroup() as group:
                for number in range(tasks):
                    group.create_task(writer(number))

        async def trio_main():
            async with trio.open_nursery() as nursery:
                for number in range(tasks):
                    nursery.start_soon(writer, number)

        if {loop!r} == "trio":
            import trio
            trio.run(trio_main)
        else:
            import uvloop
            factory = uvloop.new_event_loop if {loop!r} == "uvloop" else None
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())
        """
    )


async def test_locks_and_ports_are_free_at_once(tmp_path: Path) -> None:
    """With thousands of descriptors open too: neither child nor guardian has a duplicate."""
    import resource
    import socket

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    null = [os.open("/dev/null", os.O_RDONLY) for _ in range(5000)]
    processes = []
    try:
        for _ in range(50):
            lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(lock, fcntl.LOCK_EX)
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            processes.append(await aiopidfd.create_subprocess_exec("sleep", "1000"))
            os.close(lock)
            listener.close()
            lock = os.open(tmp_path / "lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(lock)
            socket.create_server(("127.0.0.1", port)).close()
    finally:
        for fd in null:
            os.close(fd)
        for process in processes:
            process.kill()
            await process.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# --- Record locks, which any close of the file drops (fcntl(2))


def _is_locked(path: Path) -> bool:
    """Whether a process has a record lock there, as another process sees it."""
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    asked = subprocess.run([sys.executable, "-c", code, path], check=False, capture_output=True)
    return asked.returncode != 0


@pytest.mark.parametrize("above", [3, 200])
@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr", "pass_fds", "both"])
async def test_record_locks_of_ours_are_kept(option: str, above: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as first, path.open("r+") as file:
        fcntl.lockf(first, fcntl.LOCK_EX)
        fd = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, above)
        options: dict[str, Any] = {option: fd}
        if option == "pass_fds":
            options = {"pass_fds": [fd]}
        elif option == "both":
            options = {"stdout": fd, "stderr": aiopidfd.STDOUT, "pass_fds": [fd]}
        number = {"stdin": 0, "stdout": 1, "stderr": 2}.get(option, fd)
        try:
            process = await aiopidfd.create_subprocess_exec(
                *("/bin/bash", "-c", f"echo text >&{number}; exit 3"), env={}, **options
            )
            assert await process.wait() == 3
            assert _is_locked(path)
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)
        assert path.read_text() == "text\n"


def test_record_locks_on_our_own_stdout_are_kept(tmp_path: Path) -> None:
    """The program inherits it, or is given it, and as its stderr too."""
    path = tmp_path / "log"
    fresh.run(
        f"""
        import fcntl, subprocess
        os.dup2(os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT), 1)
        fcntl.lockf(1, fcntl.LOCK_EX)
        ask = "import fcntl; fcntl.lockf(open({str(path)!r}, 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        quiet = subprocess.DEVNULL
        for stdout in (None, 1):
            for stderr in (quiet, subprocess.STDOUT, 1):
                program = ["sh", "-c", "echo out; echo err >&2"]
                assert aiopidfd.spawn(program, stdout=stdout, stderr=stderr).wait() == 0
                asked = subprocess.run([sys.executable, "-c", ask], stderr=quiet, check=False)
                assert asked.returncode == 1, (stdout, stderr)
        """
    )
    assert path.read_text() == "out\nout\nerr\nout\nerr\n" * 2


def test_a_borrowed_descriptor_that_is_closed(tmp_path: Path) -> None:
    """Nothing runs, and least of all with a file that has come to lie there."""
    marker = tmp_path / "marker"
    closed = os.open("/dev/null", os.O_RDONLY)
    os.close(closed)
    child = _native.spawn(
        *(None, _native.CALL_CLONE, False, False, 0, False, -1, -1, ()),
        *((b"/usr/bin/touch",), (b"touch", os.fsencode(marker)), None, [], [closed]),
    )
    while child.block(_native.STARTING, 10**9) == _native.STARTING:
        pass
    assert child.state == _native.FAILED
    assert child.failure() == (errno.EBADF, _native.FAILED_DESCRIPTORS, None)
    child.finish(10**9)
    assert not marker.exists()


async def test_a_locked_file_that_is_closed_while_the_program_is_started(tmp_path: Path) -> None:
    """It gets that file, or there is an error: never one that was opened at the same number."""
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    for turns in range(50):
        with (tmp_path / "log").open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            start = aiopidfd.create_subprocess_exec(*sh("echo text"), stdout=file)
            task = asyncio.create_task(start)
            await asyncio.sleep(0)
            for _ in range(turns * 50):
                pass
            os.dup2(other, file.fileno(), inheritable=False)
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(result, aiopidfd.Process):
                assert await result.wait() == 0
            else:
                assert isinstance(result, OSError)
                assert result.errno == errno.EBADF
    os.close(other)
    assert (tmp_path / "other").read_text() == ""


# --- Our own exec


@pytest.mark.heavy
@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_guardians_do_not_add_up_when_we_exec_ourselves(start: str) -> None:
    code = """
        def start():
            if START == "spawn":
                null = aiopidfd.DEVNULL
                return aiopidfd.spawn(["sleep", "5"], stdin=null, stdout=null, stderr=null)
            child = aiopidfd.fork()
            if child is None:
                os.closerange(0, 3)
                time.sleep(5)
                os._exit(0)
            return child

        left = int(sys.argv[1]) if len(sys.argv) > 1 else 4
        def zombies():
            return [pid for pid in child_pids()
                    if read(f"/proc/{pid}/comm") == "aiopidfd-guard\\n"
                    and read(f"/proc/{pid}/stat").split()[2] == "Z"]
        deadline = time.monotonic() + 30
        while left < 4 and len(zombies()) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)  # those of the one before notice that we have exec'd
        kids = [start() for _ in range(5)]
        assert not zombies()
        if left:
            os.execv(sys.executable, [*sys.orig_argv[:len(sys.orig_argv) - len(sys.argv[1:])],
                                      str(left - 1)])
        for kid in kids:
            kid.kill()
            kid.wait()
        print("done")
        sys.exit(0)
    """
    assert fresh.run(code.replace("START", repr(start))) == "done\n"


@root_only
def test_another_thread_execs_while_a_guardian_waits_to_begin(tmp_path: Path) -> None:
    """It waits for a thread that is no more, in the table of the program before: in vain."""
    if seccomp.kcmp_is_refused():
        pytest.skip("where kcmp(2) is not allowed it waits as long as that process lives")
    code = """
        hub = _native.hub()
        arguments = (ctypes.c_char_p * 3)(b"sh", b"-s", None)
        threading.Thread(target=libc.execv, args=(sys.argv[1].encode(), arguments)).start()
        listener = seccomp.hold(seccomp.EPOLL_CTL)  # this thread never comes back from there
        true = ((b"/bin/true",), (b"true",), None)
        _native.spawn(hub, 0, False, False, 0, False, -1, -1, (), *true, [], [])
    """
    with (
        held_exec(tmp_path) as held,
        subprocess.Popen([*fresh.command(code), held.path], stdin=subprocess.PIPE) as host,
    ):
        try:
            held.wait_until_held()
            guardian = None
            while guardian is None:
                assert host.poll() is None
                guardian = next(iter(_guardians(host.pid)), None)
            held.let_go()
            deadline = time.monotonic() + 30
            while _guardians(host.pid):
                assert time.monotonic() < deadline, [*Path(f"/proc/{guardian}/fd").iterdir()]
                time.sleep(0.01)
        finally:
            host.kill()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(guardian, 0)  # where we are the first process of a pid namespace


def _guardians(pid: int) -> list[int]:
    """The guardians among the children of a process that have not ended."""
    while True:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one ends: look again
            return [
                int(child)
                for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()
                if _guards(child)
            ]


def _guards(pid: str) -> bool:
    name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    return name.endswith("(aiopidfd-guard") and rest[0] != "Z"


# --- Our own fork


@root_only
def test_a_fork_that_frees_a_child_whose_guardian_has_not_begun() -> None:
    """Its record is in memory that the copy shares with us: with `user=` it has to be."""
    fresh.run(
        """
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # else it has begun by then
        started = 0
        while started < 3:
            child = begin(["sh", "-c", "exit 3"], user=os.getuid())
            guardian = child.guardian_pid
            os.kill(guardian, signal.SIGSTOP)
            while read(f"/proc/{guardian}/stat").rpartition(") ")[2][0] != "T":
                time.sleep(0.001)
            is_early = not read(f"/proc/{guardian}/task/{guardian}/children")
            if is_early:
                pid = os.fork()
                if pid == 0:
                    del child
                    os._exit(0)
                os.waitpid(pid, 0)
                started += 1
            os.kill(guardian, signal.SIGCONT)
            assert child.wait() == 3
        """
    )


def test_a_guardian_stays_where_our_first_thread_has_ended() -> None:
    """kcmp(2) finds no memory to compare there: that does not look as if we had exec'd."""
    told = fresh.run(
        """
        def rest():
            while read("/proc/self/stat").rpartition(") ")[2][0] != "Z":
                time.sleep(0.001)
            for _ in range(20):
                child = aiopidfd.fork()
                if child is None:
                    time.sleep(0.01)
                    os._exit(7)
                assert child.wait() == 7
                assert child.rusage is not None  # so its guardian has told
            print("done", flush=True)
            os._exit(0)

        threading.Thread(target=rest).start()
        libc.pthread_exit(None)
        """
    )
    assert told == "done\n"


# --- A /proc that hides


@root_only
@pytest.mark.parametrize("hidepid", [1, 2])
def test_a_hidden_proc_and_a_host_that_has_dropped_root(hidepid: int) -> None:
    """earlyoom#161, systemd#16681: the program is ended; that its tree cannot be is said."""
    mounts = f'mount -o remount,hidepid={hidepid} /proc && exec "$@"'
    fresh.run(
        """
        import logging
        told = []
        logging.getLogger("aiopidfd").addHandler(type("H", (logging.Handler,), dict(
            emit=lambda self, record: told.append(record.getMessage())))())

        async def main():
            os.setresgid(60001, 60001, 60001)
            os.setresuid(60001, 60001, 60001)
            process = await aiopidfd.create_subprocess_exec("sleep", "1000")
            try:
                process.children()
            except OSError as exc:
                assert exc.errno == errno.ENOTSUP and "hidepid" in str(exc), exc
            else:
                raise AssertionError
            await process.aclose(grace=0.2)
            assert process.returncode == -15
            assert "hidepid" in told[0]
            try:
                await aiopidfd.run_process(["sleep", "1000"], timeout=0.2, grace=0.2)
            except aiopidfd.TimeoutExpired:
                pass
            process = await aiopidfd.create_subprocess_exec("sleep", "1000")
            try:
                await process.kill_tree()
            except OSError as exc:
                assert exc.errno == errno.ENOTSUP
            assert await process.wait() == -9
            assert (await aiopidfd.run_process("exit 3", check=False, contain=True)).returncode == 3

        asyncio.run(main())
        """,
        *("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", mounts, "sh"),
    )


# --- Hubs


def test_a_loop_closed_with_programs_alive_leaves_no_hub() -> None:
    fresh.run(
        """
        import gc, uvloop
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        for factory in (asyncio.new_event_loop, aiopidfd.EventLoop, uvloop.new_event_loop):
            for _ in range(5):
                loop = factory()
                process = loop.run_until_complete(aiopidfd.create_subprocess_exec("sleep", "1000"))
                loop.close()
                gc.collect()
                kinds = [kind for kind in open_fds().values()
                         if kind.startswith("anon_inode:") and "pidfd" not in kind]
                assert not kinds, kinds
                process.kill()
                process._program.wait()
                process._program.abandoned = True
        """
    )


async def test_a_hub_that_the_host_has_closed() -> None:
    """The next start makes another, which may get the same numbers; the old one leaves it alone."""
    process = await aiopidfd.create_subprocess_exec(*sh("exit 3"))
    assert await process.wait() == 3
    hub = current_hub()
    for number, kind in open_fds().items():
        if number in (hub.number - 1, hub.number) and kind.startswith("anon_inode:[event"):
            os.close(number)
    del hub
    with hang_guard():
        for status in range(5):
            process = await aiopidfd.create_subprocess_exec(*sh(f"exit {status}"))
            assert await process.wait() == status


def test_news_are_not_taken_from_a_stranger_s_set() -> None:
    """The host has put an epoll set of its own at the number of the hub's."""
    before = {*open_fds()}
    hub = _native.hub()
    both = {*open_fds()} - before  # and what else the first hub takes is there already
    read, write = os.pipe()
    os.write(write, b"x")
    with select.epoll() as theirs:
        theirs.register(read, select.EPOLLIN | select.EPOLLONESHOT)
        number = hub.fd
        os.dup2(theirs.fileno(), number)
        assert hub.collect() == ([], -1)  # it is lost
        assert theirs.poll(0) == [(read, select.EPOLLIN)]
        assert hub.fd == -1
        for fd in (*both, read, write):
            os.close(fd)


def test_an_exit_is_told_although_its_pidfd_cannot_be_watched() -> None:
    """The epoll set has no room for it (epoll(7), max_user_watches), and the guardian stays."""
    fresh.run(
        """
        async def main():
            await (await aiopidfd.create_subprocess_exec("true")).wait()
            two = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
            for number in two:  # the guardian's pidfd will lie at the first, the program's behind
                os.close(number)
            seccomp.refuse_with(seccomp.EPOLL_CTL, 2, two[1], errno.ENOSPC)
            program = ("sh", "-c", "sleep 1000 & exec sleep 0.1")
            process = await aiopidfd.create_subprocess_exec(*program)
            tree = asyncio.create_task(process.wait_tree())
            assert await asyncio.wait_for(process.wait(), 60) == 0
            assert not tree.done()
            os.dup2(0, two[1])  # what is watched from now on shall not lie there
            await process.kill_tree()
            await tree

        asyncio.run(main())
        """
    )


WATCHED_BY_TWO = """
        def run_until_told(hub):
            late = 1
            while child.state != _native.EXITED:
                assert select.select([hub.fd], [], [], 0.05 if late else 20)[0] or late
                _, late = hub.collect()
                hub.look_again()

        first, second = _native.hub(), _native.hub()
        program = ((b"/bin/sh",), (b"sh", b"-c", script), None)
        child = _native.spawn(first, 0, False, False, 0, False, -1, -1, (), *program, [], [])
        while child.block(_native.STARTING, -1) == _native.STARTING:
            pass
        first.collect()
"""


def test_another_hub_is_told_although_it_cannot_watch() -> None:
    """Its epoll set has no room for the pidfd, and the guardian stays."""
    fresh.run(
        f"""
        script = b"sleep 1000 & exec sleep 0.1"
        {WATCHED_BY_TWO}
        tree = child.stay()
        seccomp.refuse_with(seccomp.EPOLL_CTL, 2, child.pidfd, errno.ENOSPC)
        second.adopt(child)
        run_until_told(second)
        ((_, pidfd),) = _native.list_tree(child.guardian_pid, tree)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        """
    )


def test_another_hub_is_told_although_the_host_has_put_its_files_there() -> None:
    """Its epoll set does not watch what is not ours."""
    fresh.run(
        f"""
        script = b"exec sleep 0.3"
        {WATCHED_BY_TWO}
        numbers = [fd for fd, kind in open_fds().items() if "pidfd" in kind]
        end, _ = os.pipe()
        for fd in numbers:
            os.dup2(end, fd, inheritable=False)
        second.adopt(child)
        watched = [
            int(line.split()[1])
            for line in read(f"/proc/self/fdinfo/{{second.fd}}").splitlines()
            if line.startswith("tfd:")
        ]
        assert not set(numbers) & set(watched)
        run_until_told(second)
        """
    )


def test_a_hub_that_the_host_has_closed_adopts(tmp_path: Path) -> None:
    """Nothing is written to what lies at its numbers by then."""
    fresh.run(
        f"""
        directory = {str(tmp_path)!r}
        {DAEMON}
        script = b"exec sleep 0.1"
        {WATCHED_BY_TWO}
        assert select.select([child.pidfd], [], [], 20)[0]
        while os.path.exists(f"/proc/{{child.pid}}"):  # else its pidfd is opened anew
            time.sleep(0.01)
        files = be_a_daemon()
        second.adopt(child)
        check(files)
        """
    )


@pytest.mark.parametrize("number", range(4))
def test_news_for_which_there_is_no_memory_are_told_later(number: int) -> None:
    pytest.importorskip("_testcapi", reason="it makes an allocation fail")
    fresh.run(
        f"""
        import _testcapi

        script = b"exec sleep 0.2"
        {WATCHED_BY_TWO}
        told = []
        assert select.select([first.fd], [], [], 20)[0]
        time.sleep(0.1)
        _testcapi.set_nomemory({number}, {number} + 1)
        try:
            told = first.collect()[0]
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        while child.id not in told:
            assert select.select([first.fd], [], [], 20)[0]
            told = first.collect()[0]
        """
    )


def test_a_hub_is_told_to_which_a_child_comes_back() -> None:
    """Its epoll set has told of the exit meanwhile, when another hub had the child."""
    fresh.run(
        f"""
        script = b"exec sleep 0.1"
        {WATCHED_BY_TWO}
        second.adopt(child)
        os.kill(child.guardian_pid, signal.SIGSTOP)
        assert select.select([child.pidfd], [], [], 20)[0]
        first.collect()  # its set has told by now
        first.adopt(child)
        run_until_told(first)
        """
    )


def test_a_start_that_fails_holds_no_duplicate(tmp_path: Path) -> None:
    """There is a guardian already, and then the hub turns out to be closed."""
    before = set(open_fds())
    hub = _native.hub()
    hubs = set(open_fds()) - before  # its epoll set and its eventfd
    assert hub.fd in hubs
    assert len(hubs) == 2
    null = [os.open(os.devnull, os.O_RDONLY) for _ in range(70)]
    file = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    for number in hubs:
        os.close(number)
    fds = [file]
    step = (_native.SYS_dup3, file, 1, 0)
    true = ((b"/bin/true",), (b"true",), None)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        _native.spawn(
            hub, _native.CALL_CLONE, *(False, False, 0, False, -1, -1), (step,), *true, fds, []
        )
    assert fds == [file]
    for number in (*null, file):
        os.close(number)
    assert str(tmp_path / "file") not in open_fds().values()


def test_what_was_killed_is_not_started_once_more(tmp_path: Path) -> None:
    """The lifelines are lost; the start would be repeated if anybody still wanted it."""
    fresh.run(
        f"""
        _native.prepare()
        os.closerange(3, 300)
        touch = ((b"/usr/bin/touch",), (b"touch", {os.fsencode(tmp_path / "marker")!r}), None)
        child = _native.spawn(None, 0, False, False, 0, False, -1, -1, (), *touch, [], [])
        child.kill()
        while child.block(_native.STARTING, -1) == _native.STARTING:
            pass
        assert child.failure() == (errno.EBADF, _native.FAILED_LIFELINES, None)
        assert aiopidfd.spawn(["true"]).wait() == 0
        """
    )
    assert not (tmp_path / "marker").exists()


@pytest.mark.heavy
def test_ctrl_c_between_two_news_loses_neither() -> None:
    fresh.run(
        """
        def interrupt():
            raise KeyboardInterrupt

        loop = asyncio.new_event_loop()

        async def start():
            processes = [await aiopidfd.create_subprocess_exec("sleep", "0.3") for _ in range(10)]
            waits = [asyncio.create_task(process.wait()) for process in processes]
            await asyncio.sleep(0)
            return processes, waits

        processes, waits = loop.run_until_complete(start())
        processes[4]._watch.on_exit(interrupt)
        time.sleep(0.5)  # all ten are over, and told of at once
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                assert loop.run_until_complete(asyncio.gather(*waits)) == [0] * 10
                break
        else:
            raise AssertionError
        loop.close()
        """
    )


@pytest.mark.parametrize("where", ["collect", "look_again"])
def test_ctrl_c_between_the_news_and_us_loses_none(where: str) -> None:
    """As a signal handler may: when the native half has told, and before we have it.

    Or when it is to look again at those that are late.
    """
    fresh.run(
        f"""
        class Interrupted:
            def __init__(self, native):
                self.native, self.left = native, 1

            def __getattr__(self, name):
                def call(*args):
                    interrupted = name == {where!r} and self.left
                    if interrupted:
                        self.left -= 1
                    if interrupted and name == "look_again":
                        raise KeyboardInterrupt
                    told = getattr(self.native, name)(*args)
                    if interrupted:
                        raise KeyboardInterrupt
                    return told
                return call

        from aiopidfd._spawn.hub_of_each_loop import hub_of

        loop = asyncio.new_event_loop()
        processes = [
            loop.run_until_complete(aiopidfd.create_subprocess_exec("sleep", "0.1"))
            for _ in range(10)
        ]
        waits = [loop.create_task(process.wait()) for process in processes]
        hub = hub_of(loop)
        native, hub.native = hub.native, Interrupted(hub.native)
        if {where!r} == "look_again":  # only that finds out about guardians that are stopped
            for process in processes:
                os.kill(process.guardian_pid, signal.SIGSTOP)
        try:
            loop.run_until_complete(asyncio.sleep(1))
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("not interrupted")
        hub.native = native

        async def over():
            async with asyncio.timeout(30):
                assert await asyncio.gather(*waits) == [0] * 10

        loop.run_until_complete(over())
        loop.close()
        """
    )


def test_a_cancelled_start_gives_its_turn_before_its_grace_is_over() -> None:
    fresh.run(
        """
        async def main():
            deaf = "trap '' TERM; echo; while :; do sleep 0.1; done"
            tasks = [asyncio.create_task(aiopidfd.run_process(deaf, grace=60)) for _ in range(16)]
            await asyncio.sleep(0.0005)
            for task in tasks:
                task.cancel()
            async with asyncio.timeout(30):
                assert (await aiopidfd.run_process("exit 3", check=False)).returncode == 3
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())
        """
    )


def test_spawn_beside_loops_in_many_threads() -> None:
    fresh.run(
        """
        from concurrent.futures import ThreadPoolExecutor

        async def on_loop(number):
            for k in range(20):
                process = await aiopidfd.create_subprocess_shell(f"exit {(number + k) % 256}")
                assert await process.wait() == (number + k) % 256

        def blocking(number):
            for k in range(20):
                assert aiopidfd.spawn(f"exit {(number + k) % 256}", shell=True).wait() == (
                    number + k) % 256

        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(blocking, n) for n in range(4)]
            done += [pool.submit(asyncio.run, on_loop(n)) for n in range(4)]
            for each in done:
                each.result()
        while _native.sweep():
            pass
        assert _native.records() == 0
        """
    )


async def test_a_start_that_waits_for_its_turn_can_be_cancelled() -> None:
    tasks = [asyncio.create_task(aiopidfd.run_process(["true"])) for _ in range(60)]
    await asyncio.sleep(0)
    for task in tasks[10:50]:
        task.cancel()
    with hang_guard():
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[20:50])
    assert all(getattr(result, "returncode", None) == 0 for result in results[50:])
    assert (await aiopidfd.run_process("exit 3", check=False)).returncode == 3


# --- Ids in a memory map of one's own


def test_none_is_counted_right_on_311() -> None:
    """None is no immortal object there, whatever headers the module was compiled with."""
    child = aiopidfd.spawn(["sleep", "1000"])
    try:
        before = sys.getrefcount(None)
        for _ in range(1000):
            child._program.native.send_signal(0)
        assert sys.getrefcount(None) > before - 500
    finally:
        child.kill()
        child.wait()


def test_poll_alone_hears_of_each_exit() -> None:
    """The guardian ends between any two of our looks at it."""
    for _ in range(300):
        child = aiopidfd.spawn(["/bin/true"])
        while child.poll() is None:
            pass
        assert child.returncode == 0


async def test_the_records_are_gone_with_the_programs() -> None:
    for options in ({}, {"user": os.getuid()}, {"contain": True}):
        process = await aiopidfd.create_subprocess_exec(*sh("exit 2"), **options)
        assert await process.wait() == 2
    with hang_guard():
        await until(lambda: _native.sweep() == 0 and _native.records() == 0)


def test_errors_name_the_descriptor_table() -> None:
    """The child's own first call is refused."""
    output = fresh.run(
        """
        assert aiopidfd.spawn(["true"]).wait() == 0
        seccomp.install((seccomp.CLOSE_RANGE, errno.EPERM))
        try:
            aiopidfd.spawn(["true"])
        except OSError as exc:
            print(errno.errorcode[exc.errno], exc)
        """
    )
    assert output.startswith(errno.errorcode[errno.EPERM])
    assert "close_range(2)" in output
