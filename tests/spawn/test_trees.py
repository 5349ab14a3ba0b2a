"""A program's tree: found, signalled, waited for, contained; daemons and fork bombs included."""

import asyncio
import contextlib
import errno
import fcntl
import functools
import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import _native
from aiopidfd._spawn import tree

from .. import fresh
from ..anyio_support import Backend
from ..anyio_support import until as anyio_until
from ..census import child_pids, childless, open_fds
from ..held_exec import HeldExec, held_exec
from ..stuck import stuck_file
from ..support import gate, hang_guard, proc_status, python, sh, turns, until
from .test_cgroup import NO_KILL, with_mounts
from .test_cgroup import cgroup as cgroup

NO_MORE = os.strerror(errno.EMFILE)  # musl has a text of its own
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs processes of several users: root")

# Starts two daemons, which have left their parent, their session and their group, and a child.
DAEMONS = "(setsid sh -c 'sleep 1000 & sleep 1000' &); (setsid setsid sleep 1000 &); sleep 1000 &"
OF_DAEMONS = 5  # processes


class Marked:
    """All processes that have inherited a mark of ours in their environment."""

    def __init__(self) -> None:
        self.name = f"MARK_{uuid.uuid4().hex}"

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, self.name: "1"}

    def alive(self) -> set[int]:
        """Those that are there now and no zombies."""
        return {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and self._is_ours(pid)}

    def _is_ours(self, pid: str) -> bool:
        with contextlib.suppress(OSError):
            if self.name.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                return True
        return False

    def names(self) -> list[str]:
        """The names of those that are there now, sorted. An exec sets the name before the mark."""
        names = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if self._is_ours(pid):
                    names.append(name)
        return sorted(names)

    def kill(self) -> None:
        while alive := self.alive():
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def marked() -> Iterator[Marked]:
    mark = Marked()
    yield mark
    left = mark.alive()
    mark.kill()
    assert not left, f"left behind: {left}"


def open_to_all(directory: Path) -> None:
    for path in (directory, *directory.parents):
        if path.owner() == "root" and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)


async def daemons_started(mark: Marked) -> None:
    """Until DAEMONS has done all that it does, and what made them is gone."""

    def settled() -> bool:
        names = mark.names()
        return names[-4:] == ["sleep"] * 4 and len(names) == 1 + OF_DAEMONS

    await anyio_until(settled)


async def started(mark: Marked, count: int) -> None:
    await anyio_until(lambda: len(mark.alive()) >= count)


def status_of(pid: int, field: str) -> str:
    return proc_status(Path(f"/proc/{pid}/status").read_bytes(), field)[field]


# --- To find it


async def test_children_are_all_that_descends_from_it(marked: Marked) -> None:
    with hang_guard():
        process = await aiopidfd.create_subprocess_exec(*sh(DAEMONS + " wait"), env=marked.env)
        await daemons_started(marked)
        await until(lambda: len(process.children()) == OF_DAEMONS)  # no zombie among them any more
        children = process.children()
        pids = [child.getpid() for child in children]
        assert {*pids} == marked.alive() - {process.pid}
        parents = {pid: int(status_of(pid, "PPid")) for pid in pids}
        for pid, parent in parents.items():
            assert parent in (process.pid, process.guardian_pid) or pids.index(parent) < pids.index(
                pid
            )
        for child in children:
            with child:
                child.kill()
        await process.wait_tree()


async def test_a_program_without_children_has_none() -> None:
    async with await aiopidfd.create_subprocess_exec("sleep", "1000") as process:
        assert process.children() == []


async def test_what_a_thread_has_started_is_found(marked: Marked) -> None:
    """The kernel keeps a list of children by thread."""
    code = (
        "import subprocess, threading, time\n"
        "def run(): subprocess.Popen(['sleep', '1000']); time.sleep(1000)\n"
        "threading.Thread(target=run).start()\n"
    )
    process = await aiopidfd.create_subprocess_exec(sys.executable, "-c", code, env=marked.env)
    with hang_guard():
        await started(marked, 2)
        (child,) = process.children()
        child.close()
        assert await process.kill_tree()


@as_root
@pytest.mark.parametrize("tasks", ["1/1", "1/3"])
def test_a_container_whose_loadavg_tells_of_few_tasks(tmp_path: Path, tasks: str) -> None:
    """As lxcfs has it: what was so some seconds ago."""
    fake = tmp_path / "loadavg"
    fake.write_text(f"0.00 0.00 0.00 {tasks} 1\n")
    mount = f'mount --bind {fake} /proc/loadavg && exec "$@"'
    fresh.run(
        f"""
        assert {tasks!r} in read("/proc/loadavg")
        script = "for i in 1 2 3 4 5 6 7 8; do (sleep 1000 & wait) & done; wait"
        child = aiopidfd.spawn(script, shell=True)
        deadline = time.monotonic() + 60
        while len(found := child.children()) < 16:
            assert time.monotonic() < deadline, found
            for each in found:
                each.close()
        child.terminate_tree()
        for each in found:
            each.wait_blocking(timeout=30)
            each.close()
        assert child.wait() == -15
        """,
        *("unshare", "--mount", "sh", "-ec", mount, "sh"),
    )


async def test_no_descriptor_to_be_had(marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_exec(*sh(DAEMONS + " wait"), env=marked.env)
    with hang_guard():
        await daemons_started(marked)
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for spare in range(8):
            found = contextlib.suppress(OSError) if spare else pytest.raises(OSError, match=NO_MORE)
            with found:
                assert len(process.children()) <= OF_DAEMONS
            os.close(taken.pop())
        for fd in taken:
            os.close(fd)
        await until(lambda: len(process.children()) == OF_DAEMONS)
        assert await process.kill_tree()


# --- To signal it


async def test_terminate_reaches_each_once(tmp_path: Path, marked: Marked) -> None:
    says = (
        f"trap 'echo $$ >> {tmp_path}/got' TERM; touch {tmp_path}/$$; while :; do sleep 0.05; done"
    )
    script = f'(setsid sh -c "$0" &); sh -c "$0" & {says.replace("$$", "first")}'
    process = await aiopidfd.create_subprocess_exec("/bin/sh", "-c", script, says, env=marked.env)
    with hang_guard():
        await until(lambda: len(list(tmp_path.iterdir())) == 3, 0.01)
        process.terminate_tree()
        got = tmp_path / "got"
        await until(lambda: got.exists() and len(got.read_text().split()) == 3, 0.01)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert len({*got.read_text().split()}) == len(got.read_text().split()) == 3
        assert process.returncode is None
        assert await process.kill_tree()
        assert await process.wait() == -signal.SIGKILL


async def test_kill_leaves_nothing(marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_exec(*sh(DAEMONS + " wait"), env=marked.env)
    with hang_guard():
        await daemons_started(marked)
        assert await process.kill_tree()
        assert not marked.alive()
        assert await process.wait() == -signal.SIGKILL
        assert childless()
        assert await process.kill_tree()  # and once more, of nothing
        with pytest.raises(ProcessLookupError):
            process.terminate_tree()
        with pytest.raises(ProcessLookupError):
            process.children()


async def test_kill_of_what_was_stopped(marked: Marked) -> None:
    """The guardian, too."""
    process = await aiopidfd.create_subprocess_exec(*sh(DAEMONS + " wait"), env=marked.env)
    with hang_guard():
        await daemons_started(marked)
        for pid in (*marked.alive(), process.guardian_pid):
            os.kill(pid, signal.SIGSTOP)
        assert await process.kill_tree()
        assert not marked.alive()
        await process.wait()


async def test_a_deep_tree_and_a_broad_one(marked: Marked) -> None:
    """More processes than we may have descriptors, and one below the other."""
    code = (
        "import os, sys, time\n"
        "for _ in range(int(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(1000)\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    if os.fork(): os.wait()\n"
        "time.sleep(1000)\n"
    )
    with hang_guard(60), rlimit_nofile(150):
        process = await aiopidfd.create_subprocess_exec(
            sys.executable, "-c", code, "300", "60", env=marked.env
        )
        await started(marked, 361)
        with pytest.raises(OSError, match=NO_MORE):  # it needs one for each sibling
            process.terminate_tree()
        await process.aclose(grace=0.1)
        assert not marked.alive()


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("shapes", tmp_path_factory)


@pytest.mark.heavy
async def test_a_tree_deeper_than_a_thread_s_stack(shapes: Path, marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_exec(
        shapes, "deep", "500", env=marked.env, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    found: list[int] = []

    def look() -> None:
        children = process.children()
        found.append(len(children))
        for child in children:
            child.close()

    with hang_guard(120):
        assert await process.stdout.readexactly(1) == b"x"
        # With less, CPython 3.14 never frees what such a thread has dropped.
        before = threading.stack_size((64 if sys.version_info < (3, 14) else 128) * 1024)
        try:
            with rlimit_nofile(2000):
                thread = threading.Thread(target=look)
                thread.start()
                thread.join()
        finally:
            threading.stack_size(before)
        assert found == [500]
        await by_kill_tree(process)
        await process.wait()


@pytest.mark.heavy
async def test_children_that_threads_pass_on_are_found_once(shapes: Path, marked: Marked) -> None:
    """A thread that ends leaves its children to another one of the process."""
    process = await aiopidfd.create_subprocess_exec(
        shapes, "passed-on", "100", env=marked.env, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with hang_guard(120):
        assert await process.stdout.readexactly(1) == b"x"
        for _ in range(200):
            children = process.children()
            assert len({child.getpid() for child in children}) == len(children) == 100
            for child in children:
                child.close()
        await process.aclose(grace=0)


@contextlib.contextmanager
def rlimit_nofile(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@as_root
def test_what_may_not_be_signalled(tmp_path: Path) -> None:
    """The others get it all the same, and the caller a PermissionError."""
    mark = Marked()
    open_to_all(tmp_path)
    root_s = tmp_path / "root-s-setpriv"
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    shutil.copy(setpriv, root_s)
    root_s.chmod(0o4755)
    try:
        fresh.run(
            f"""
            os.environ[{mark.name!r}] = "1"
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
            libc.prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self is ours again
            async def main():
                process = await aiopidfd.create_subprocess_shell(
                    "{root_s} --reuid=0 --clear-groups sleep 1000 > /dev/null 2>&1 &"
                    "(setsid sleep 1000 &); wait"
                )
                found = []
                while sorted(found) != [(0, "sleep"), (65534, "sleep")]:
                    await asyncio.sleep(0.01)
                    children, found = process.children(), []
                    # setpriv itself is root's, and may be signalled until it has changed its ids
                    for child in children:
                        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                            path = pathlib.Path(f"/proc/{{child.getpid()}}")
                            found.append((path.stat().st_uid, read(path / "comm").strip()))
                    del children, child
                for call in ("terminate_tree", "kill_tree"):
                    try:
                        result = getattr(process, call)()
                        await result
                    except PermissionError as exc:
                        assert exc.errno == errno.EPERM
                    else:
                        raise AssertionError(call)
                await process.wait()
                (left,) = process.children()
                del left
            asyncio.run(main())
            """
        )
        assert len(mark.alive()) == 1
    finally:
        mark.kill()


# --- To wait for it


async def test_wait_tree_waits_for_the_last_and_wait_does_not(marked: Marked) -> None:
    with hang_guard():
        process = await aiopidfd.create_subprocess_shell(
            "setsid sleep 1000 > /dev/null & read line; exit 7",
            stdin=subprocess.PIPE,
            env=marked.env,
        )
        assert process.stdin is not None
        await started(marked, 2)
        waiting = asyncio.create_task(process.wait_tree())
        await asyncio.sleep(0)
        process.stdin.close()
        assert await process.wait() == 7
        assert process.rusage is not None
        (child,) = process.children()
        assert not waiting.done()
        child.kill()
        assert await waiting == 7
        child.close()
        assert await process.wait_tree() == 7
        assert childless()


async def test_of_a_guardian_that_stayed_nothing_is_left(marked: Marked) -> None:
    """Although somebody has the process still."""
    with gate() as (read, release, _), hang_guard():
        before = open_fds()
        process = await aiopidfd.create_subprocess_exec(
            *sh("setsid sleep 1000 & read line; exit 3"), stdin=read, env=marked.env
        )
        await started(marked, 2)
        waiting = asyncio.create_task(process.wait_tree())
        await asyncio.sleep(0)
        release()
        assert await process.wait() == 3
        assert process.returncode == 3
        while not waiting.done():  # one that is in its exec has no mark for a moment
            marked.kill()
            await asyncio.sleep(0.01)
        assert await waiting == 3
        now = open_fds()
        assert not now.keys() - before.keys(), now


async def test_aclose_ends_what_a_guardian_has_stayed_for(marked: Marked) -> None:
    """Whether the loop has heard of the exit before or not."""
    for hears_first in (True, False):
        with gate() as (read, release, _), hang_guard():
            process = await aiopidfd.create_subprocess_exec(
                *sh("setsid sleep 1000 & read line; exit 3"), stdin=read, env=marked.env
            )
            await started(marked, 2)
            for child in process.children():
                child.close()
            release()
            if hears_first:
                assert await process.wait() == 3
            assert len(marked.alive()) <= 2
            await process.aclose(grace=0.1)
            assert not marked.alive()


async def test_a_cancelled_wait_leaves_it_alone(marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_exec(*sh(DAEMONS + " wait"), env=marked.env)
    with hang_guard():
        await daemons_started(marked)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await process.wait_tree()
        assert len(marked.alive()) == 1 + OF_DAEMONS
        assert await process.kill_tree()
        await process.wait()


async def test_threads_that_wait_hear_of_the_exit_although_the_guardian_stays(
    marked: Marked,
) -> None:
    with gate() as (read, release, _), hang_guard():
        child = aiopidfd.spawn(
            sh("setsid sleep 1000 & read line; exit 3"), stdin=read, env=marked.env
        )
        await started(marked, 2)
        codes: list[int] = []
        threads = [threading.Thread(target=lambda: codes.append(child.wait(30))) for _ in range(4)]
        for thread in threads:
            thread.start()
        with tree.Tree(child._program) as members:
            release()
            for thread in threads:
                thread.join()
            assert codes == [3] * 4
            await until(
                lambda: len(marked.alive()) == 1
            )  # it may be in its exec, with no environment
            assert await members.kill()


async def test_by_default_nobody_keeps_track_after_the_exit(marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_shell(
        "setsid sleep 1000 > /dev/null & exit 0", env=marked.env
    )
    with hang_guard():
        assert await process.wait() == 0
        assert childless()
        with pytest.raises(ProcessLookupError):
            process.children()
        assert await process.wait_tree() == 0
        await anyio_until(lambda: marked.names() == ["sleep"])  # in its exec it has no mark
        marked.kill()


async def test_orphans_are_reaped_while_it_runs() -> None:
    """A program that makes daemons for a long time leaves no zombies to anyone."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid true &); done; echo done; sleep 1000"
    process = await aiopidfd.create_subprocess_exec(*sh(script), stdout=subprocess.PIPE)
    assert process.stdout is not None
    with hang_guard():
        assert await process.stdout.readline() == b"done\n"
        guardian = process.guardian_pid
        children = Path(f"/proc/{guardian}/task/{guardian}/children")
        await until(lambda: children.read_text().split() == [str(process.pid)], 0.01)
        await process.aclose()


# --- To contain it


async def test_nothing_outlives_a_contained_program(marked: Marked) -> None:
    for script, code in ((" exit 5", 5), (" kill -USR1 $$", -signal.SIGUSR1)):
        with hang_guard():
            process = await aiopidfd.create_subprocess_exec(
                *sh(DAEMONS + " sleep 0.1;" + script), env=marked.env, contain=True
            )
            assert await process.wait() == code
            assert not marked.alive()
            assert process.rusage is not None
            await until(lambda: not child_pids())


async def test_a_contained_program_that_is_killed(marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_exec(
        *sh(DAEMONS + " wait"), env=marked.env, contain=True
    )
    with hang_guard():
        await daemons_started(marked)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        assert not marked.alive()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os.execv('/bin/true', ['true'])"])
async def test_nothing_contained_outlives_us(end: str, marked: Marked) -> None:
    code = f"""
        async def main():
            process = await aiopidfd.create_subprocess_shell({DAEMONS + " wait"!r}, contain=True)
            while len(children := process.children()) < {OF_DAEMONS}:
                await asyncio.sleep(0.01)
            {end}
        asyncio.run(main())
    """
    subprocess.run(fresh.command(code), env=marked.env, timeout=60, check=False)
    with hang_guard():
        await until(lambda: not marked.alive(), 0.01)


async def test_the_end_of_a_tree_whose_guardian_was_stopped_is_told() -> None:
    """Stopped after the wait had begun, and after the program: nobody else continues it."""
    process = await aiopidfd.create_subprocess_exec(
        *sh("read line; exec 3<&0; cat <&3 >/dev/null & exit 3"), stdin=aiopidfd.PIPE
    )
    assert process.stdin is not None
    waiting = asyncio.create_task(process.wait_tree())
    with hang_guard():
        await asyncio.wait([waiting], timeout=0.05)
        process.stdin.write(b"\n")
        assert await process.wait() == 3
        os.kill(process.guardian_pid, signal.SIGSTOP)
        process.stdin.close()
        assert await waiting == 3


async def test_nothing_contained_outlives_us_although_its_guardian_is_stopped(
    marked: Marked,
) -> None:
    code = f"""
        async def main():
            process = await aiopidfd.create_subprocess_shell({DAEMONS + " wait"!r}, contain=True)
            while len(children := process.children()) < {OF_DAEMONS}:
                await asyncio.sleep(0.01)
            os.kill(process.guardian_pid, signal.SIGSTOP)
            while "T (stopped)" not in read(f"/proc/{{process.guardian_pid}}/status"):
                pass
            os.kill(os.getpid(), 9)
        asyncio.run(main())
    """
    subprocess.run(fresh.command(code), env=marked.env, timeout=60, check=False)
    with hang_guard():
        await until(lambda: not marked.alive(), 0.01)


async def test_a_contained_program_whose_guardian_is_killed(marked: Marked) -> None:
    """The program goes with it. What it has started cannot be known any more."""
    process = await aiopidfd.create_subprocess_exec(
        *sh("sleep 1000 & wait"), env=marked.env, contain=True
    )
    with hang_guard():
        await started(marked, 2)
        os.kill(process.guardian_pid, signal.SIGKILL)
        assert await process.wait() in (-signal.SIGKILL, 255)
        marked.kill()


async def test_the_tree_of_a_program_whose_guardian_was_killed(marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_exec(*sh("sleep 1000 & wait"), env=marked.env)
    with hang_guard():
        await started(marked, 2)
        os.kill(process.guardian_pid, signal.SIGKILL)
        await until(lambda: not child_pids())
        (child,) = process.children()
        assert await process.kill_tree()
        assert await child.wait() is not None or not aiopidfd.kernel().exit_info
        child.close()
        assert await process.wait() in (-signal.SIGKILL, 255)


async def test_the_guardian_is_killed_while_the_tree_is(marked: Marked) -> None:
    """What descends from the program is ended all the same."""
    process = await aiopidfd.create_subprocess_exec(*sh("sleep 1000 & wait"), env=marked.env)
    with hang_guard():
        await started(marked, 2)
        with tree.Tree(process._program) as members:
            os.kill(process.guardian_pid, signal.SIGKILL)
            waiting = asyncio.create_task(members.wait())
            await until(lambda: not child_pids())
            await turns()
            assert not waiting.done()
            waiting.cancel()
        process_ends = asyncio.create_task(process.wait())
        with tree.Tree(process._program) as members:
            assert await members.kill()
        await until(lambda: not marked.alive(), 0.01)  # nobody reaps them for us
        assert await process_ends in (-signal.SIGKILL, 255)


@pytest.mark.parametrize("during", [False, True])
async def test_the_guardian_is_killed_before_or_during_the_grace(
    during: bool, marked: Marked
) -> None:
    script = "trap '' TERM; sleep 1000 & sleep 1000; sleep 1000"
    process = await aiopidfd.create_subprocess_exec(*sh(script), env=marked.env)
    with hang_guard():
        await started(marked, 3)
        if not during:
            os.kill(process.guardian_pid, signal.SIGKILL)
            await until(lambda: not child_pids())
        ending = asyncio.create_task(process.aclose(grace=0.3 if during else 0))
        await turns()
        if during:
            os.kill(process.guardian_pid, signal.SIGKILL)
        await ending
        assert process.returncode in (-signal.SIGKILL, 255)
        await until(lambda: not marked.alive(), 0.01)


@pytest.mark.parametrize("contain", [False, True])
async def test_a_program_that_its_guardian_traces_has_not_exited_when_it_stops(
    contain: bool, marked: Marked
) -> None:
    """A parent's waitid(2) tells of a tracee's stops, too."""
    code = (
        "import ctypes, os\n"
        "assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0\n"  # PTRACE_TRACEME
        "os.execv('/bin/sleep', ['sleep', '1000'])\n"  # and stops with SIGTRAP
    )
    with hang_guard():
        process = await aiopidfd.create_subprocess_exec(
            *python(code), env=marked.env, contain=contain
        )
        await until(lambda: status_of(process.pid, "State").startswith("t"), 0.01)
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert process.returncode is None
        assert status_of(process.pid, "PPid") == str(process.guardian_pid)
        process.kill()
        assert await process.wait() == -signal.SIGKILL


async def test_a_containing_guardian_is_locked_in_too() -> None:
    async with await aiopidfd.create_subprocess_exec("sleep", "1000", contain=True) as process:
        with hang_guard():
            await until(lambda: status_of(process.guardian_pid, "Seccomp") == "2")


async def test_with_a_cgroup_all_that_is_in_it_is_killed(marked: Marked, cgroup: Path) -> None:
    """Another process that has come into it is, too: it is the program's own."""
    if not (cgroup / "cgroup.kill").exists():
        pytest.skip(NO_KILL)
    other = subprocess.Popen(["sleep", "1000"])
    with hang_guard():
        process = await aiopidfd.create_subprocess_shell(
            DAEMONS + " wait", env=marked.env, contain=True, cgroup=cgroup
        )
        await daemons_started(marked)
        (cgroup / "cgroup.procs").write_text(str(other.pid))
        with pytest.raises(OSError, match="in use") as caught:
            await aiopidfd.create_subprocess_exec("true", contain=True, cgroup=cgroup)
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, cgroup)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        assert other.wait(30) == -signal.SIGKILL
        assert not marked.alive()
        await until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), 0.01)


async def test_with_a_cgroup_another_is_killed_though_the_program_has_left_nothing(
    cgroup: Path,
) -> None:
    if not (cgroup / "cgroup.kill").exists():
        pytest.skip(NO_KILL)
    other = subprocess.Popen(["sleep", "1000"])
    with hang_guard():
        process = await aiopidfd.create_subprocess_exec(
            *sh("read line; exit 3"), stdin=subprocess.PIPE, contain=True, cgroup=cgroup
        )
        (cgroup / "cgroup.procs").write_text(str(other.pid))
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 3
        try:
            assert other.wait(5) == -signal.SIGKILL
        finally:
            other.kill()
            other.wait()


async def test_one_cgroup_for_one_program_after_the_other(marked: Marked, cgroup: Path) -> None:
    for _ in range(3):
        with hang_guard():
            process = await aiopidfd.create_subprocess_exec(
                *sh(DAEMONS + " read line; exit 3"),
                stdin=subprocess.PIPE,
                env=marked.env,
                contain=True,
                cgroup=cgroup,
            )
            await daemons_started(marked)
            assert process.stdin is not None
            process.stdin.close()
            assert await process.wait() == 3
            assert not marked.alive()
            await until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), 0.01)


# --- Where /proc does not tell


@with_mounts
def test_without_proc() -> None:
    """An error before anything is started; but what must end a program ends it."""
    fresh.run(
        """
        import logging, subprocess
        warned = []
        logging.getLogger("aiopidfd").addHandler(logging.NullHandler())
        logging.getLogger("aiopidfd").addFilter(lambda record: warned.append(record.msg))
        assert libc.umount2(b"/proc", 2) == 0

        async def refused(call):
            try:
                await call
            except OSError as exc:
                assert exc.errno == errno.ENOTSUP, exc
            else:
                raise AssertionError

        async def main():
            await refused(aiopidfd.create_subprocess_exec("sleep", "1000", contain=True))
            process = await aiopidfd.create_subprocess_exec("sleep", "1000")
            await refused(process.kill_tree())
            assert await process.wait() == -signal.SIGKILL  # itself can be found
            process = await aiopidfd.create_subprocess_exec("sleep", "1000")
            await process.aclose()
            assert process.returncode == -signal.SIGTERM
            assert len(warned) == 1, warned
            try:
                await aiopidfd.run_process(["sleep", "1000"], timeout=0.1, grace=0)
            except subprocess.TimeoutExpired:
                pass
            assert len(warned) == 2, warned
        asyncio.run(main())
        """,
        "unshare",
        "-m",
    )


@with_mounts
def test_in_another_pid_namespace_nothing_is_contained() -> None:
    """The guardian's numbers would not be those of our /proc."""
    fresh.run(
        """
        assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID
        try:
            aiopidfd.spawn(["sleep", "1000"], contain=True)
        except OSError as exc:
            assert exc.errno == errno.ENOTSUP
        else:
            raise AssertionError

        async def main():
            process = await aiopidfd.create_subprocess_shell("sleep 1000 & wait")
            while not (children := process.children()):
                await asyncio.sleep(0.01)
            del children
            assert await process.kill_tree()
            assert await process.wait() == -9
        asyncio.run(main())
        """
    )


# --- A fork bomb


@pytest.fixture(scope="session")
def built_bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("bomb", tmp_path_factory)


@pytest.fixture
def bomb(built_bomb: Path) -> Iterator[Path]:
    """One at a time, where the tests run several times at once."""
    with (Path(__file__).parents[1] / "bomb.c").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield built_bomb


def built(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is here, to build it with")
    directory = tmp_path_factory.mktemp(name)
    open_to_all(directory)
    program = directory / name
    source = Path(__file__).parents[1] / f"{name}.c"
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, source], check=True)
    return program


def of_user(uid: int) -> set[str]:
    found = set()
    for pid in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if pid.isdigit() and Path(f"/proc/{pid}").stat().st_uid == uid:
                found.add(pid)
    return found


async def by_kill_tree(process: aiopidfd.Process) -> None:
    while not await process.kill_tree():
        pass


async def by_containment(process: aiopidfd.Process) -> None:
    process.kill()


@as_root
@pytest.mark.parametrize(
    ("end", "contain", "bound"), [(by_kill_tree, False, 200), (by_containment, True, 300)]
)
@pytest.mark.heavy
async def test_a_fork_bomb_is_ended_all_of_it(
    bomb: Path, end: Callable[[Any], Any], contain: bool, bound: int
) -> None:
    uid = 2_000_000_000 + os.getpid()
    process = await aiopidfd.create_subprocess_exec(
        bomb, user=uid, rlimits={"NPROC": bound}, contain=contain
    )
    try:
        with hang_guard(300):
            await until(lambda: len(of_user(uid)) >= bound, 0.01)
            await end(process)
            assert await process.wait_tree() == -signal.SIGKILL
            assert not of_user(uid)
    finally:  # in one stroke
        subprocess.run(
            ["setpriv", f"--reuid={uid}", "--clear-groups", "kill", "-KILL", "-1"],
            check=False,
            capture_output=True,
        )


@as_root
@pytest.mark.heavy
async def test_a_fork_bomb_that_runs_into_a_timeout(bomb: Path) -> None:
    uid = 2_000_000_000 + os.getpid() + 1
    with hang_guard(120), pytest.raises(subprocess.TimeoutExpired):
        await aiopidfd.run_process(
            [bomb], user=uid, rlimits={"NPROC": 200}, timeout=0.5, grace=0, contain=True
        )
    assert not of_user(uid)


# --- Uninterruptible sleep


async def test_what_sleeps_uninterruptibly_hangs_nobody(
    tmp_path: Path, marked: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "KILL_DEADLINE", 0.3)
    with stuck_file(tmp_path) as stuck, hang_guard():
        process = await aiopidfd.create_subprocess_exec(
            *sh(f"cat {stuck.path} & (setsid sleep 1000 &); wait"), env=marked.env
        )
        stuck.wait_until_asked()
        await started(marked, 3)
        assert not await process.kill_tree()
        assert await process.wait() == -signal.SIGKILL
        assert len(marked.alive()) == 1
        (left,) = process.children()
        assert status_of(left.getpid(), "State").startswith("D")
        left.close()
        waiting = asyncio.create_task(process.wait_tree())
        await asyncio.sleep(0)
    with hang_guard():  # it wakes, and goes
        assert await waiting == -signal.SIGKILL


async def test_a_program_that_sleeps_uninterruptibly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "KILL_DEADLINE", 0.3)
    monkeypatch.setattr("aiopidfd._asyncio.end_although_cancelled.KILL_DEADLINE", 0.3)
    with stuck_file(tmp_path) as stuck, hang_guard():
        task = asyncio.create_task(aiopidfd.run_process(["cat", stuck.path], grace=0))
        await asyncio.to_thread(stuck.wait_until_asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(child_pids()) == 1  # its guardian
    with hang_guard():
        await until(lambda: not child_pids(), 0.01)


async def contained_and_stuck(stuck: Any, marked: Marked, code: int) -> Any:
    """A contained program that exits now with this code, and leaves one that cannot die yet."""
    process = await aiopidfd.create_subprocess_exec(
        *sh(f"cat {stuck.path} & read line; exit {code}"),
        stdin=subprocess.PIPE,
        env=marked.env,
        contain=True,
    )
    stuck.wait_until_asked()
    assert process.stdin is not None
    process.stdin.close()
    return process


@pytest.mark.heavy
async def test_a_contained_one_that_sleeps_uninterruptibly(tmp_path: Path, marked: Marked) -> None:
    """The guardian gives up after five seconds, tells how the program ended, and stays for it."""
    with stuck_file(tmp_path) as stuck, hang_guard():
        process = await contained_and_stuck(stuck, marked, 4)
        assert await process.wait() == 4
        assert len(marked.alive()) == 1
        assert len(child_pids()) == 1
    with hang_guard():
        assert await process.wait_tree() == 4


def test_what_takes_long_to_die_is_no_fork_bomb(tmp_path: Path) -> None:
    """It keeps its priority, and its guardian outlives a filter that kills who would take that."""
    fresh.run(
        f"""
        from tests.stuck import stuck_file
        directory = pathlib.Path({str(tmp_path)!r})

        async def main(stuck):
            aiopidfd.spawn(["true"], contain=True).wait()
            seccomp.kill_at(seccomp.SCHED_SETSCHEDULER)
            script = f"sh -c 'sleep 1000 & exec cat {{stuck.path}}' & read line; exit 4"
            process = await aiopidfd.create_subprocess_shell(
                script, stdin=aiopidfd.PIPE, contain=True)
            stuck.wait_until_asked()
            guardian = process.guardian_pid
            process.stdin.close()
            await asyncio.sleep(2)  # longer than a bomb is given
            (pid,) = read(f"/proc/{{guardian}}/task/{{guardian}}/children").split()
            fields = read(f"/proc/{{pid}}/stat").rpartition(")")[2].split()
            assert fields[0] == "D" and fields[38] == "0", fields  # SCHED_OTHER
            return process

        async def rest(process):
            assert await process.wait() == 4
            assert await process.wait_tree() == 4
            assert childless()

        with asyncio.Runner() as runner:
            with stuck_file(directory) as stuck:
                process = runner.run(main(stuck))
            runner.run(rest(process))
        """
    )


# --- What ends a program ends its tree


async def run_timed_out(script: str, mark: Marked) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        await aiopidfd.run_process(script, env=mark.env, timeout=0.3, grace=0.2)


async def run_cancelled(script: str, mark: Marked) -> None:
    task = asyncio.create_task(aiopidfd.run_process(script, env=mark.env, grace=0.2))
    await daemons_started(mark)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def run_cancelled_twice(script: str, mark: Marked) -> None:
    task = asyncio.create_task(aiopidfd.run_process(script, env=mark.env, grace=1000))
    await daemons_started(mark)
    task.cancel()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def closed(script: str, mark: Marked) -> None:
    process = await aiopidfd.create_subprocess_shell(script, env=mark.env)
    await daemons_started(mark)
    await process.aclose(grace=0.2)


@pytest.mark.parametrize("end", [run_timed_out, run_cancelled, run_cancelled_twice, closed])
@pytest.mark.parametrize("stubborn", ["", "trap '' TERM; "])
async def test_the_whole_tree_ends(
    end: Callable[[str, Marked], Any], stubborn: str, marked: Marked
) -> None:
    with hang_guard():
        await end(stubborn + DAEMONS + " wait; sleep 1000", marked)
        await until(lambda: not marked.alive(), 0.01)


def throw_away(call: Callable[[], Any], mark: Marked, ready: Callable[[], Any]) -> None:
    """The loop is closed under it, and its coroutine dropped: nothing is left of the program."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # of the task that was pending
    task = loop.create_task(call())
    loop.run_until_complete(ready())
    assert not task.done()
    loop.close()
    del task
    gc.collect()
    deadline = time.monotonic() + 30
    while mark.alive() or child_pids():
        assert time.monotonic() < deadline, "still there"
        gc.collect()  # a Python without a GIL may need more than one
        _native.sweep()


# Without a GIL the garbage collector finds all of it at once, and finalizes it in any order: a pipe
# may warn before the coroutine has closed it.
any_order = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
    if sysconfig.get_config_var("Py_GIL_DISABLED")
    else "error"
)


@any_order
def test_thrown_away_it_is_killed(marked: Marked) -> None:
    throw_away(
        lambda: aiopidfd.run_process(DAEMONS + " wait", env=marked.env),
        marked,
        lambda: daemons_started(marked),
    )


@any_order
@pytest.mark.parametrize("call", ["run_process", "aclose"])
def test_thrown_away_in_its_grace_it_is_killed(call: str, tmp_path: Path, marked: Marked) -> None:
    script = f"trap 'touch {tmp_path}/asked' TERM; touch {tmp_path}/ready; "
    script += "while :; do sleep 0.01; done"

    async def run() -> None:
        if call == "run_process":
            async with asyncio.timeout(None) as timer:
                running = aiopidfd.run_process(script, env=marked.env, grace=1000)
                loop = asyncio.get_running_loop()
                cancelling = loop.create_task(until((tmp_path / "ready").exists, 0.01))
                cancelling.add_done_callback(lambda _: timer.reschedule(0))
                await running
        process = await aiopidfd.create_subprocess_shell(script, env=marked.env)
        await until((tmp_path / "ready").exists, 0.01)
        await process.aclose(grace=1000)

    throw_away(run, marked, lambda: until((tmp_path / "asked").exists, 0.01))


def test_grace_is_for_the_whole_tree(tmp_path: Path, marked: Marked) -> None:
    """A child that cleans up after SIGTERM is not killed because its parent was quicker."""
    cleans = f"trap 'sleep 0.3; touch {tmp_path}/clean; exit' TERM; touch {tmp_path}/ready; "
    cleans += "while :; do sleep 0.05; done"

    async def main() -> None:
        with hang_guard():
            process = await aiopidfd.create_subprocess_exec(
                "/bin/sh", "-c", 'sh -c "$0" & exec sleep 1000', cleans, env=marked.env
            )
            await until((tmp_path / "ready").exists, 0.01)
            await process.aclose()
            assert (tmp_path / "clean").exists()

    asyncio.run(main())


async def anyio_run(script: str, mark: Marked) -> None:
    await aiopidfd.anyio.run_process(script, env=mark.env, grace=0.2)


async def anyio_supervise(script: str, mark: Marked) -> None:
    await aiopidfd.anyio.supervise(script, env=mark.env, grace=0.2)


@pytest.mark.parametrize("call", [anyio_run, anyio_supervise])
@pytest.mark.parametrize("name", ["asyncio", "uvloop", "trio"])
def test_the_whole_tree_ends_on_anyio(
    name: str, call: Callable[[str, Marked], Any], marked: Marked
) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(call, "trap '' TERM; " + DAEMONS + " wait; sleep 1000", marked)
            await daemons_started(marked)
            group.cancel_scope.cancel()
        assert not marked.alive()

    Backend(name).run(body)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("name", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("on_anyio", [True, False])
def test_a_start_that_is_cancelled_when_the_program_has_started_others(
    name: str, on_anyio: bool, stopped: bool, tmp_path: Path, marked: Marked
) -> None:
    """On a busy machine the loop, or the guardian that tells it (`stopped`), may be so late."""
    if name == "trio" and not on_anyio:
        pytest.skip("create_subprocess_exec() needs an asyncio loop")
    create: Any = aiopidfd.create_subprocess_exec
    if on_anyio:
        create = functools.partial(
            aiopidfd.anyio.open_process, stdin=None, stdout=None, stderr=None
        )

    async def body(held: HeldExec) -> None:
        command = (held.path, "-c", DAEMONS + " wait; sleep 1000")
        async with anyio.create_task_group() as group:
            arguments = [command] if on_anyio else command
            group.start_soon(functools.partial(create, *arguments, env=marked.env))
            while not (guardians := child_pids()):
                await anyio.sleep(0)
            held.wait_until_held()  # the loop does not turn from here on
            if stopped:  # it waits for the exec, and stops then
                os.kill(*guardians, signal.SIGSTOP)
            held.let_go()
            while len(marked.alive()) < 1 + OF_DAEMONS:
                time.sleep(0.001)
            group.cancel_scope.cancel()
        await anyio_until(lambda: not marked.alive())

    with held_exec(tmp_path) as held:
        Backend(name).run(functools.partial(body, held))


@pytest.mark.parametrize("name", ["asyncio", "uvloop", "trio"])
def test_a_tree_on_anyio(name: str, marked: Marked) -> None:
    async def body() -> None:
        process = await aiopidfd.anyio.open_process(
            DAEMONS + " wait", env=marked.env, stdin=None, stdout=None, stderr=None
        )
        await daemons_started(marked)
        await anyio_until(lambda: len(process.children()) == OF_DAEMONS)
        with anyio.move_on_after(0.05):
            await process.wait_tree()
            raise AssertionError
        process.terminate_tree()
        assert await process.wait_tree() == -signal.SIGTERM
        assert await process.kill_tree()
        assert await process.wait() == -signal.SIGTERM

    Backend(name).run(body)


# --- In a forked copy


async def test_a_forked_copy_has_no_tree(marked: Marked) -> None:
    process = await aiopidfd.create_subprocess_exec(*sh("sleep 1000 & wait"), env=marked.env)
    with hang_guard():
        await started(marked, 2)
        pid = os.fork()
        if pid == 0:
            try:
                process.terminate_tree()
            except ChildProcessError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        await until(lambda: len(marked.alive()) == 2)
        assert await process.kill_tree()
        await process.wait()


async def test_a_second_cancellation_leaves_no_newcomer_its_grace(
    tmp_path: Path, marked: Marked
) -> None:
    """What is born while all are killed at once is killed too, and not waited for."""
    script = (
        "trap '' TERM; (while :; do setsid sleep 0.01 & done) & read line; "
        f"touch {tmp_path}/ready; wait; sleep 1000"
    )
    task = asyncio.create_task(
        aiopidfd.run_process(script, input=b"go\n", env=marked.env, grace=10_000)
    )
    with hang_guard():
        await until((tmp_path / "ready").exists, 0.01)
        for _ in range(2):
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not marked.alive(), 0.01)
