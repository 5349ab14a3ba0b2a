"""The guardian's hazards, one by one: each test fails without its answer in native/."""

import asyncio
import contextlib
import errno
import logging
import os
import random
import re
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopidfd

from .. import fresh
from ..census import child_pids, soon
from ..held_exec import HeldExec, held_exec


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldExec]:
    with held_exec(tmp_path) as held:
        yield held


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def kill_quietly(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def gone(pid: int) -> None:
    """Wait until the process is a zombie or no more."""
    async with asyncio.timeout(30):
        while True:
            try:
                if status_of(pid)["State"].startswith(("Z", "X")):
                    return
            except (FileNotFoundError, ProcessLookupError):
                return
            await asyncio.sleep(0.005)


# --- Hazard 2: signal handlers


async def test_no_handler_of_ours_runs_in_the_guardian() -> None:
    ran = []
    before = signal.signal(signal.SIGUSR1, lambda *_: ran.append(1))
    try:
        process = await aiopidfd.create_subprocess_shell("sleep 0.2; exit 4")
        status = status_of(process.guardian_pid)
        assert int(status["SigCgt"], 16) == 0
        assert int(status["SigBlk"], 16) | 0x40100 == 2**64 - 1  # SIGKILL and SIGSTOP cannot be
        for _ in range(20):
            os.kill(process.guardian_pid, signal.SIGUSR1)
        assert await process.wait() == 4
        assert not ran
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_no_handler_of_ours_runs_in_the_child_before_exec(held: HeldExec) -> None:
    ran = []
    before = signal.signal(signal.SIGUSR1, lambda *_: ran.append(1))
    try:
        starting = asyncio.create_task(aiopidfd.create_subprocess_exec(held.path, "-c", "exit 3"))
        pid = await asyncio.to_thread(held.wait_until_held)
        assert int(status_of(pid)["SigCgt"], 16) == 0
        os.kill(pid, signal.SIGUSR1)  # it still shares our memory
        await gone(pid)
        process = await starting
        assert await process.wait() == -signal.SIGUSR1
        assert not ran
    finally:
        signal.signal(signal.SIGUSR1, before)


# --- Hazard 3: our files


async def test_a_pipe_that_we_close_ends_although_a_child_runs() -> None:
    read, write = os.pipe()
    async with await aiopidfd.create_subprocess_exec("sleep", "1000") as process:
        os.close(write)
        assert await asyncio.to_thread(os.read, read, 1) == b""
        os.close(read)
        assert process.returncode is None


async def test_a_listening_socket_that_we_close_is_closed() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with await aiopidfd.create_subprocess_exec("sleep", "1000"):
        listener.close()
        async with asyncio.timeout(30):
            while True:  # the guardian leaves our table a moment after the program is there
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                        break
                await asyncio.sleep(0.01)


async def test_the_guardian_keeps_what_it_waits_on_and_tells_by_alone() -> None:
    async with await aiopidfd.create_subprocess_exec("sleep", "1000") as process:
        table = Path(f"/proc/{process.guardian_pid}/fd")

        def kinds() -> list[str]:
            found = []
            for fd in table.iterdir():
                with contextlib.suppress(FileNotFoundError):  # it has just been closed
                    found.append(re.sub(r"\d+", "N", os.readlink(fd)))
            return sorted(found)

        of_its_own = ["anon_inode:[eventfd]", "anon_inode:[pidfd]", "anon_inode:[signalfd]"]
        async with asyncio.timeout(30):  # it opens one of them, and closes ours, after the start
            while kinds() != [*of_its_own, "pipe:[N]"]:
                await asyncio.sleep(0.01)


# --- Hazard 4: we die, or exec something else

HOST = """
    copy = {copy!r}

    async def main():
        processes = [await aiopidfd.create_subprocess_exec("sleep", "1000") for _ in range(3)]
        if copy == "os.fork":
            copies = [os.fork()]
        elif copy == "libc fork":
            copies = [libc.fork()]
        elif copy == "raw fork":
            copies = [libc.syscall(57) if os.uname().machine == "x86_64" else libc.fork()]
        else:
            copies = []
        if copies == [0]:
            time.sleep(1000)
        print(*(process.guardian_pid for process in processes))
        print(*(process.pid for process in processes))
        print(*copies, flush=True)
        {end}
        sys.exit(0)

    asyncio.run(main())
"""
ENDS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "_exit": "os._exit(0)",
    "exec": "os.execv('/bin/sleep', ['sleep', '1000'])",
}


@pytest.mark.parametrize("copy", ["none", "os.fork", "libc fork", "raw fork"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_guardians_go_when_we_do(end: str, copy: str) -> None:
    if (end, copy) == ("exec", "raw fork"):
        pytest.skip("a fork past the C library runs no at-fork handler: it keeps the life pipe")
    host = await aiopidfd.create_subprocess_exec(
        *fresh.command(HOST.format(end=ENDS[end], copy=copy)), stdout=aiopidfd.PIPE
    )
    assert host.stdout is not None
    guardians, programs, copies = [
        [int(pid) for pid in (await host.stdout.readline()).split()] for _ in range(3)
    ]
    try:
        assert len(guardians) == 3
        for pid in guardians:
            await gone(pid)
        for pid in programs:
            assert status_of(pid)["State"][0] in "SRD"  # an orphan like any other
    finally:
        with contextlib.suppress(ProcessLookupError):
            host.kill()
        for pid in (*programs, *copies):
            os.kill(pid, signal.SIGKILL)
        await host.wait()
        host.stdout.close()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_server_that_execs_itself_binds_its_port_again() -> None:
    code = """
        import socket
        port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
        listener = socket.socket()  # close-on-exec, and no SO_REUSEADDR
        deadline = time.monotonic() + 30
        while True:
            try:
                listener.bind(("127.0.0.1", port))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        listener.listen()
        if port:
            print("bound again")
            listener.close()
            sys.exit(0)
        null = aiopidfd.DEVNULL
        child = aiopidfd.spawn(["sleep", "5"], stdout=null, stderr=null)
        port = listener.getsockname()[1]
        os.execv(sys.executable, [*sys.orig_argv, str(port)])
    """
    output = await asyncio.to_thread(fresh.run, code)
    assert output == "bound again\n"


def test_a_start_goes_on_although_the_thread_ends_that_ran_its_loop(held: HeldExec) -> None:
    """PR_SET_PDEATHSIG is about that thread: another one may run the loop on."""
    starts: list[asyncio.Task[aiopidfd.Process]] = []
    codes: list[int] = []

    async def begin() -> None:
        starts.append(
            asyncio.create_task(aiopidfd.create_subprocess_exec(held.path, "-c", "exit 3"))
        )
        await asyncio.sleep(0)  # it is under way
        held.wait_until_held()

    async def end() -> None:
        held.let_go()
        codes.append(await (await starts.pop()).wait())

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        for step in (begin, end):
            thread = threading.Thread(target=lambda step=step: loop.run_until_complete(step()))
            thread.start()
            thread.join()
    assert codes == [3]


def test_a_start_that_is_given_up_before_the_child_is_born_comes_to_no_exec() -> None:
    """That may hang, and then its guardian may be killed, who alone knows that nobody wants it."""
    if os.geteuid():
        pytest.skip("SCHED_FIFO is root's")
    fresh.run(
        """
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # nothing runs beside us
        read, write = os.pipe()
        for _ in range(20):
            child = begin(f"echo x >&{write}", shell=True, pass_fds=[write])
            child._program.native.kill()
            assert child.wait(30) == -9
        os.close(write)
        assert os.read(read, 1) == b""
        """
    )


WORKER = """
        aiopidfd.spawn(["true"]).wait()
        if pid := os.fork():
            os.waitpid(pid, 0)
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG: it dies with its master
"""


@pytest.mark.parametrize(
    ("options", "first"),
    [({}, ""), ({"die_with_parent": True}, ""), ({"user": 0}, ""), ({}, WORKER)],
    ids=["plain", "die_with_parent", "user", "in a worker of who has started programs"],
)
def test_what_a_host_has_open_is_closed_with_it_although_an_exec_hangs(
    options: dict[str, int], first: str, tmp_path: Path
) -> None:
    """As on a dead NFS server: what is being started does not hold the ports of a dead host."""
    code = f"""
        import fcntl
        {first}
        fcntl.fcntl(int(sys.argv[1]), fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        asyncio.run(aiopidfd.create_subprocess_exec(sys.argv[2], "-c", "", **{options}))
    """
    command = fresh.command(code)  # first of all: where this cannot be had the test is skipped
    with held_exec(tmp_path) as held:
        read, write = os.pipe()
        with open(read, "rb") as output:
            host = subprocess.Popen(
                [*command, str(write), held.path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[write],
            )
            os.close(write)
            try:
                pid = held.wait_until_held()
                host.kill()
                assert select.select([output], [], [], 30)[0], "somebody has it open still"
                assert output.read() == b""
                if "die_with_parent" in options:
                    assert soon(lambda: not Path(f"/proc/{pid}").exists())
            finally:
                host.kill()
                host.wait(30)
                held.let_go()
        assert soon(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_guardians_of_the_program_before_an_exec_are_reaped() -> None:
    """Also those behind another zombie that tells nobody: waitid(2) shows the first alone."""
    code = """
        from pathlib import Path

        def zombies(name):
            found = []
            for pid in child_pids():
                fields = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
                if fields[0] == name and fields[2].split()[0] == "Z":
                    found.append(pid)
            return found

        def wait_for(name, count):
            deadline = time.monotonic() + 60
            while len(zombies(name)) < count:
                assert time.monotonic() < deadline, child_pids()
                time.sleep(0.01)

        if len(sys.argv) > 1:
            wait_for("aiopidfd-guard", 3)
            assert len(zombies("stranger")) == 1
            assert aiopidfd.spawn(["true"]).wait() == 0
            assert zombies("aiopidfd-guard") == []
            (stranger,) = zombies("stranger")
            assert os.waitpid(stranger, 0x40000000)[0] == stranger  # __WALL
            sys.exit(0)
        stack = ctypes.create_string_buffer(1 << 16)
        top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~15)
        Path("/proc/self/comm").write_text("stranger")
        assert libc.clone(libc.usleep, top, 0, ctypes.c_long(0)) > 0  # it sends no signal
        Path("/proc/self/comm").write_text("python")
        wait_for("stranger", 1)
        null = aiopidfd.DEVNULL
        for _ in range(3):
            aiopidfd.spawn(["sleep", "1000"], stdout=null, stderr=null, die_with_parent=True)
        os.execv(sys.executable, [*sys.orig_argv, "again"])
    """
    await asyncio.to_thread(fresh.run, code)


# --- Hazard 5: we fork


@pytest.mark.parametrize("fork", ["os.fork", "libc.fork"])
def test_a_forked_copy_owns_no_child_and_spawns_its_own(fork: str) -> None:
    fresh.run(
        f"""
        async def main():
            PIPE = aiopidfd.PIPE
            before = set(open_fds())
            process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            pid = {fork}()
            if pid == 0:
                left = set(open_fds()) - before if {fork!r} == "os.fork" else set()
                assert not left, left
                try:
                    process.send_signal(0)
                    assert False, "the copy can signal it"
                except ChildProcessError:
                    pass
                assert aiopidfd.spawn("exit 9", shell=True).wait() == 9
                del process
                os._exit(21)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 21
            process.stdin.close()
            assert await process.wait() == 0
            process.stdout.close()

        asyncio.run(main())
        """
    )


def test_waiting_in_a_forked_copy_is_an_error() -> None:
    fresh.run(
        """
        child = aiopidfd.spawn(["sleep", "0.2"])
        pid = os.fork()
        if pid == 0:
            try:
                child.wait()
            except ChildProcessError:
                os._exit(21)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 21
        assert child.wait() == 0
        """
    )


@pytest.mark.heavy
def test_forks_at_any_moment_from_another_thread() -> None:
    fresh.run(
        """
        done = threading.Event()

        def fork():
            while not done.is_set():
                pid = os.fork()
                if pid == 0:
                    os._exit(0 if aiopidfd.spawn(["/bin/true"]).wait() == 0 else 1)
                assert os.waitpid(pid, 0)[1] == 0

        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of such forks
        thread = threading.Thread(target=fork)
        thread.start()
        try:
            for n in range(300):
                assert aiopidfd.spawn(f"exit {n % 256}", shell=True).wait() == n % 256
        finally:
            done.set()
            thread.join()
        assert childless()
        """
    )


# --- Hazard 6: the guardian is killed


async def test_a_killed_guardian_does_not_lose_the_status() -> None:
    if not aiopidfd.kernel().exit_info:
        pytest.skip("the kernel (before 6.15) cannot tell: see the test without exit info")
    process = await aiopidfd.create_subprocess_shell("read line; exit 7", stdin=aiopidfd.PIPE)
    os.kill(process.guardian_pid, signal.SIGKILL)
    await gone(process.guardian_pid)
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 7
    assert process.rusage is None


async def test_a_signal_reaches_a_program_without_guardian() -> None:
    process = await aiopidfd.create_subprocess_exec("sleep", "1000")
    os.kill(process.guardian_pid, signal.SIGKILL)
    await gone(process.guardian_pid)
    await asyncio.sleep(0.05)
    process.terminate()
    status = await process.wait()  # before Linux 6.15 it depends on who comes first, we or init
    assert status == -signal.SIGTERM or (status == 255 and not aiopidfd.kernel().exit_info)


WITHOUT_EXIT_INFO = """
    import logging
    warned = []
    logging.getLogger("aiopidfd").addHandler(type("H", (logging.Handler,), dict(
        emit=lambda self, record: warned.append(record.getMessage())))())

    async def main():
        process = await aiopidfd.create_subprocess_shell("sleep 0.2; exit 7")
        os.kill(process.guardian_pid, signal.SIGKILL)
        print(await process.wait())

    seccomp.no_exit_info()
    asyncio.run(main())
    child = aiopidfd.spawn("sleep 0.2; exit 7", shell=True)
    os.kill(child.guardian_pid, signal.SIGKILL)
    print(child.wait(), len(warned))
    assert all("255" in text for text in warned), warned
"""


WITHOUT_PROC = ("unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh")


@pytest.mark.heavy
def test_where_the_kernel_cannot_tell_it_is_255_and_a_warning() -> None:
    assert fresh.run(WITHOUT_EXIT_INFO, *WITHOUT_PROC) == "255\n255 2\n"


@pytest.mark.heavy
@pytest.mark.skipif(not aiopidfd.kernel().exit_info, reason="it takes Linux 6.15")
def test_an_orphan_that_is_reaped_late_has_its_status() -> None:
    """Without /proc nobody can tell it before."""
    fresh.run(
        """
        import trio
        import aiopidfd.anyio

        # A subreaper above us adopts the orphans, and reaps each when it has been dead for a while.
        assert libc.prctl(36, 1, 0, 0, 0) == 0
        host = os.fork()
        if host:
            while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT).si_pid) != host:
                time.sleep(1.5)
                os.waitpid(dead, 0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(host, 0)[1]))

        def orphaned(process):
            os.kill(process.guardian_pid, signal.SIGKILL)
            process.terminate()
            return process

        async def main():
            process = await aiopidfd.create_subprocess_exec("sleep", "60")
            assert await orphaned(process).wait() == -15

        async def main_of_a_loop_that_is_late():
            def turn():
                time.sleep(0.02)
                asyncio.get_running_loop().call_soon(turn)

            process = await aiopidfd.create_subprocess_exec("sleep", "60")
            with contextlib.suppress(OSError):
                process.children()  # so it is looked at again and again
            turn()
            assert await orphaned(process).wait() == -15

        async def trio_s_main():
            process = await aiopidfd.anyio.open_process(["sleep", "60"])
            assert await orphaned(process).wait() == -15

        asyncio.run(main())
        asyncio.run(main_of_a_loop_that_is_late())
        trio.run(trio_s_main)
        assert orphaned(aiopidfd.spawn(["sleep", "60"])).wait() == -15
        """,
        *WITHOUT_PROC,
    )


def test_a_zombie_s_status_is_read_from_proc() -> None:
    """Before 6.15, or while whoever adopted it does not reap it."""
    fresh.run(
        """
        # A subreaper above us adopts the orphans and never reaps them.
        assert libc.prctl(36, 1, 0, 0, 0) == 0
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            os._exit(0)
        seccomp.no_exit_info()

        async def main():
            for command, status in {"exit 7": 7, "exit 0": 0, "kill -9 $$": -9}.items():
                process = await aiopidfd.create_subprocess_shell("sleep 0.1; " + command)
                os.kill(process.guardian_pid, signal.SIGKILL)
                assert await process.wait() == status

        asyncio.run(main())
        """
    )


def test_where_the_orphan_becomes_our_child_it_is_known_all_the_same() -> None:
    become_subreaper = "    assert libc.prctl(36, 1, 0, 0, 0) == 0\n"
    assert fresh.run(become_subreaper + WITHOUT_EXIT_INFO) == "7\n7 0\n"


async def test_killed_while_it_starts_the_program(held: HeldExec) -> None:
    starting = asyncio.create_task(aiopidfd.create_subprocess_exec(held.path, "-c", "exit 3"))
    pid = await asyncio.to_thread(held.wait_until_held)
    guardian = int(status_of(pid)["PPid"])
    os.kill(guardian, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="guardian"):
        await starting
    await gone(pid)


@pytest.mark.parametrize("filtered", ["clone3", "clone"])
@pytest.mark.heavy
def test_killed_at_any_moment_blocking(filtered: str) -> None:
    fresh.run(
        f"""
        import logging
        logging.getLogger("aiopidfd").addHandler(logging.NullHandler())
        if {filtered!r} == "clone":
            seccomp.like_docker()
        assert aiopidfd.kernel().method == {filtered!r}
        before, lost = None, 0
        for n in range(0, 400, 2):
            null = aiopidfd.DEVNULL
            child = begin("exit 7", shell=True)
            for _ in range(n * 3):
                pass
            os.kill(child.guardian_pid, signal.SIGKILL)
            try:
                child._program.wait_started()
                status = child.wait()
                # Before 6.15 the kernel cannot tell once whoever adopted it has reaped it.
                assert status == 7 or (status == 255 and not aiopidfd.kernel().exit_info), status
            except ChildProcessError:
                lost += 1
            child = None
            deadline = time.monotonic() + 30
            while child_pids() and time.monotonic() < deadline:
                _native.sweep()  # the guardian is on its way out
            before = before or set(open_fds())
            assert set(open_fds()) == before, (n, open_fds())
        # With clone(2) it can be unknown whether there is a child: then its record is kept for it.
        assert _native.records() <= (0 if {filtered!r} == "clone3" else lost), _native.records()
        """
    )


async def test_killed_at_any_moment(caplog: pytest.LogCaptureFixture) -> None:
    """Either the start fails, or the program's status is right; nothing hangs, nothing is left."""
    chance = random.Random(1)
    outcomes: dict[Any, int] = {}

    async def one(delay: float) -> None:
        task = asyncio.create_task(aiopidfd.create_subprocess_shell("exit 7"))
        await asyncio.sleep(0)
        for guardian in child_pids():
            asyncio.get_running_loop().call_later(delay, kill_quietly, guardian)
        try:
            process = await task
            outcome: Any = await process.wait()
        except ChildProcessError as exc:
            outcome = exc.errno
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    for _ in range(300):
        await one(chance.uniform(0, 0.0015))
    allowed = {7, errno.ECHILD}
    if not aiopidfd.kernel().exit_info:
        allowed.add(255)
    assert set(outcomes) <= allowed, outcomes
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_stopped_guardian_does_not_hide_a_kill() -> None:
    child = aiopidfd.spawn(["sleep", "1000"])
    os.kill(child.guardian_pid, signal.SIGSTOP)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL


# --- The guardian outlives our privileges


async def test_the_guardian_has_locked_itself_in() -> None:
    """It keeps the ids that we may drop later, in memory that we can write: it can do nothing."""
    async with await aiopidfd.create_subprocess_exec("sleep", "1000") as process:
        async with asyncio.timeout(30):
            while status_of(process.guardian_pid)["Seccomp"] != "2":
                await asyncio.sleep(0.01)
        assert status_of(process.guardian_pid)["NoNewPrivs"] == "1"
        assert status_of(process.pid)["Seccomp"] == status_of(os.getpid())["Seccomp"]
        assert status_of(process.pid)["NoNewPrivs"] == status_of(os.getpid())["NoNewPrivs"]


# --- Pid namespaces


def test_after_unshare_of_the_pid_namespace_the_pid_is_ours() -> None:
    fresh.run(
        """
        from tests.census import soon

        CLONE_NEWPID = 0x20000000
        assert libc.unshare(CLONE_NEWPID) == 0
        child = aiopidfd.spawn(["sleep", "1000"])
        # The kernel lets go of a vfork's parent a moment before it gives the program its name.
        assert soon(lambda: "Name:\tsleep" in read(f"/proc/{child.pid}/status"))
        child.kill()
        assert child.wait(30) == -9
        """
    )


@pytest.mark.parametrize("inner", [5000, 4000])
@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_a_guardian_that_has_the_same_number_in_both_pid_namespaces(way: str, inner: int) -> None:
    """Its child's number there is a stranger's here. 4000: its numbers differ, as mostly."""
    if os.geteuid():
        pytest.skip("unshare(2) is root's")
    code = f"""
        def next_is(number):
            pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))

        next_is(5001)
        stranger = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
        assert stranger == 5001
        next_is(6000)
        assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID
        keep = aiopidfd.spawn(["sleep", "1000"])  # its guardian is the other one's first process
        last = "echo {inner - 1} > /proc/sys/kernel/ns_last_pid"
        assert aiopidfd.spawn(last, shell=True).wait() == 0
        next_is(5000)
        child = aiopidfd.fork() if {way!r} == "fork" else aiopidfd.spawn(["sleep", "1000"])
        if child is None:
            time.sleep(1000)
        assert child.guardian_pid == 5000
        assert child.pid == 5002, child.pid
        child.kill()
        assert child.wait(30) == -9
        assert os.waitpid(stranger, os.WNOHANG) == (0, 0)
        os.kill(stranger, 9)
        os.waitpid(stranger, 0)
        keep.kill()
        keep.wait(30)
    """
    fresh.run(code, "unshare", "-pf", "--mount-proc", "--kill-child")


# --- What a host may do to descriptors that it does not know


def test_a_host_that_closes_every_descriptor_and_goes_on() -> None:
    fresh.run(
        """
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        os.closerange(3, 4096)  # as a daemon does
        numbers = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]  # and theirs are reused
        for _ in range(5):
            assert aiopidfd.spawn("sleep 0.05; exit 3", shell=True).wait() == 3
        for number in numbers:
            assert os.readlink(f"/proc/self/fd/{number}") == "/dev/null"
        """
    )


@pytest.mark.parametrize("number", range(3))
def test_a_host_that_takes_one_lifeline_s_number(number: int) -> None:
    fresh.run(
        f"""
        before = set(open_fds())
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        lifelines = sorted(fd for fd, kind in open_fds().items() if fd not in before)
        assert len(lifelines) >= 3, lifelines
        read, write = os.pipe()
        os.write(write, b"theirs" * 100)
        os.dup2(read, lifelines[{number}])
        for _ in range(5):
            assert aiopidfd.spawn("sleep 0.05; exit 3", shell=True).wait(30) == 3
        assert os.read(lifelines[{number}], 1000) == b"theirs" * 100
        """
    )


def test_threads_whose_descriptor_tables_differ_start_programs_at_once() -> None:
    """Each finds the lifelines that the other has made, at numbers that are not theirs."""
    fresh.run(
        """
        async def start(code):
            process = await aiopidfd.create_subprocess_exec("sh", "-c", f"exit {code}")
            assert await process.wait() == code

        async def some():
            for _ in range(100):
                await asyncio.gather(*[start(code) for code in range(4)])
                done.append(1)

        def on_another_table():
            assert libc.unshare(0x400) == 0  # CLONE_FILES
            asyncio.run(some())

        done = []
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # some stay, see limits.md
        thread = threading.Thread(target=on_another_table)
        thread.start()
        asyncio.run(some())
        thread.join()
        assert len(done) == 200
        """
    )


def test_a_host_without_standard_descriptors() -> None:
    """Ours never lie on 0 to 2, where a daemon opens /dev/null later."""
    fresh.run(
        """
        saved = os.dup(2)
        os.closerange(0, 3)
        child = aiopidfd.spawn("sleep 0.3; exit 3", shell=True)
        for fd in range(3):
            null = os.open("/dev/null", os.O_RDWR)
            assert null == fd, null
        assert child.wait(30) == 3
        os.dup2(saved, 2)
        """
    )


def test_a_copy_made_past_the_at_fork_handlers_touches_nothing() -> None:
    fresh.run(
        """
        for _ in range(50):
            child = begin("exit 7", shell=True)
            pid = libc._Fork()  # async-signal-safe: runs no handler
            if pid == 0:
                for touch in (child.poll, child.kill):
                    try:
                        touch()
                    except ChildProcessError:
                        continue
                    os._exit(1)
                child._program.abandon()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert child.wait(30) == 7
        """
    )


def test_a_dropped_one_whose_guardian_was_stopped_is_looked_after() -> None:
    """It cannot tell that its program is over; one of the next starts continues it."""
    child = aiopidfd.spawn(["sleep", "0.1"])
    guardian = child.guardian_pid
    os.kill(guardian, signal.SIGSTOP)
    with aiopidfd.PidFd.open(child.pid) as program:
        del child
        program.wait_blocking(reap=False)
    while guardian in child_pids():
        assert aiopidfd.spawn(["true"]).wait() == 0
