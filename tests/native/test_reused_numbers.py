"""Descriptors of ours that the host closes, or puts its own files at, at the worst moments.

A double close anywhere in the host, or a daemon's closerange(), may hit any number of ours.
"""

from pathlib import Path

import pytest

import aiopidfd

from .. import fresh
from ..stuck import stuck_file

NUMBERS = """
def numbers(what, pid=None):
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
            if what in link and not link.startswith("/"):
                if pid is None or f"Pid:\\t{pid}\\n" in read(f"/proc/self/fdinfo/{name}"):
                    found.add(int(name))
        except FileNotFoundError:
            pass
    return found

async def begun():
    await (await aiopidfd.create_subprocess_exec("true")).wait()
    return numbers("pidfd")

def busy(text):  # its exec is tried again for as long as the descriptor is open
    path = tempfile.mkdtemp() + "/program"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o755)
    os.write(fd, text)
    return path, fd
"""
FIRST = f"import subprocess, tempfile\n{NUMBERS}"
SLEEP = "pathlib.Path('/bin/sleep').read_bytes()"

has_pidfs = pytest.mark.skipif(
    tuple(map(int, aiopidfd.kernel().release.split(".")[:2])) < (6, 9),
    reason="before Linux 6.9 a pidfd has no identity, and cannot be opened again",
)


def run(code: str) -> None:
    fresh.run(f"exec({FIRST!r}, globals())\n" + fresh.dedent(code))


@has_pidfs
def test_a_stranger_s_pidfd_where_a_program_s_was() -> None:
    """Before its exec: the stranger lives on, and it is the program that is killed."""
    run(
        f"""
        aiopidfd.spawn(["true"]).wait()
        path, writer = busy({SLEEP})
        stranger = subprocess.Popen(["sleep", "1000"], stdout=-3, stderr=-3)
        os.dup2(os.pidfd_open(stranger.pid), 200, inheritable=False)
        children, before = [], len(numbers("pidfd"))
        start = threading.Thread(target=lambda: children.append(aiopidfd.spawn([path, "1000"])))
        start.start()
        while len(numbers("pidfd")) < before + 2:
            pass
        for number in range(3, 100):  # the writer goes with it
            os.dup2(200, number, inheritable=False)
        start.join()
        (child,) = children
        child.kill()
        assert child.wait() == -9
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()
        """
    )


@pytest.mark.parametrize("call", ["CALL_CLONE3", "CALL_CLONE"])
def test_a_stranger_s_pidfd_in_a_start_that_is_called_off(call: str, tmp_path: Path) -> None:
    run(
        f"""
        from tests.held_exec import held_exec

        aiopidfd.spawn(["true"]).wait()
        stranger = subprocess.Popen(["sleep", "1000"], stdout=-3, stderr=-3)
        other = os.pidfd_open(stranger.pid)
        before = numbers("pidfd")
        with held_exec(pathlib.Path({str(tmp_path)!r})) as held:
            child = _native.spawn(
                None, _native.{call}, False, False, 0, False, -1, -1, (),
                (os.fsencode(held.path),), (b"sh", b"-c", b"exec sleep 1000"), None, [], [],
            )
            held.wait_until_held()
            guardian, program = sorted(numbers("pidfd") - before)
            os.dup2(other, program)
            child.kill()
            held.let_go()
        while child.poll() not in (_native.FAILED, _native.EXITED):
            time.sleep(0.001)
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()
        """
    )


@has_pidfs
def test_a_file_where_a_guardian_s_pidfd_was() -> None:
    """It is not closed, however early it came."""
    run(
        """
        aiopidfd.spawn(["true"]).wait()
        with tempfile.NamedTemporaryFile() as ours:
            for _ in range(50):
                guardian = os.open("/dev/null", os.O_RDONLY)
                os.close(guardian)
                child = _native.spawn(
                    None, 0, False, False, 0, False, -1, -1, (), (b"/bin/true",), (b"true",),
                    None, [], [],
                )
                os.dup2(ours.fileno(), guardian, inheritable=False)
                while child.poll() < _native.EXITED:
                    time.sleep(0.0005)
                child.finish(5_000_000)
                child.close()
                assert os.readlink(f"/proc/self/fd/{guardian}") == ours.name
                os.close(guardian)
        """
    )


def test_a_start_that_is_repeated_and_fails_closes_the_first_guardian_s_pidfd() -> None:
    run(
        """
        for _ in range(5):
            _native.prepare()
            hub = _native.hub()
            ours = sorted(numbers("pipe:") | numbers("event") | numbers("pidfd"))
            child = _native.spawn(
                hub, 0, False, False, 0, False, -1, -1, (), (b"/bin/true",), (b"true",),
                None, [], [],
            )
            for number in ours:
                if number > 2:
                    os.close(number)
            while child.poll() not in (_native.FAILED, _native.EXITED):
                time.sleep(0.001)
            child.finish(10_000_000)
            child.close()
            del child, hub
            while _native.sweep():
                time.sleep(0.001)
            assert len(numbers("pidfd")) <= 1  # a lifeline
            os.closerange(3, 100)
        """
    )


def test_the_standard_three_are_opened_while_a_program_starts() -> None:
    """Its pidfd lay at 0, and there is /dev/null by the time that we look."""
    run(
        """
        async def main():
            await begun()
            standard = [os.dup(fd) for fd in range(3)]
            os.closerange(0, 3)
            task = asyncio.create_task(aiopidfd.create_subprocess_exec("sleep", "0.3"))
            await asyncio.sleep(0)
            time.sleep(0.05)  # the program runs, and the loop does not know it yet
            for fd in range(3):
                null = os.open("/dev/null", os.O_RDWR)
                if null != fd:
                    os.dup2(null, fd)
                    os.close(null)
            process = await task
            assert [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
            assert await process.wait() == 0
            for fd in range(3):
                os.dup2(standard[fd], fd)

        asyncio.run(main())
        """
    )


@pytest.mark.parametrize("reused", [False, True])
def test_a_start_fails_and_its_guardian_s_pidfd_is_gone(reused: bool) -> None:
    """The loop hears of it all the same."""
    run(
        f"""
        async def main():
            before = await begun()
            path, writer = busy(b"#!/nonexistent\\n")
            task = asyncio.create_task(aiopidfd.create_subprocess_exec(path))
            while not (new := numbers("pidfd") - before):
                await asyncio.sleep(0)
            if {reused}:
                os.dup2(0, min(new))
            else:
                os.close(min(new))
            os.close(writer)
            with contextlib.suppress(FileNotFoundError):
                async with asyncio.timeout(30):
                    await task
                raise AssertionError

        asyncio.run(main())
        """
    )


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_hub_is_lost(loop: str, reused: bool) -> None:
    """Its programs, those that are being started too, are told of by a new one. Nothing spins."""
    run(
        f"""
        import anyio, re, uvloop
        import aiopidfd.anyio
        from aiopidfd._spawn.hub_of_each_loop import known_hub

        async def start(*command):
            if {loop!r} == "trio":
                return await aiopidfd.anyio.open_process(
                    command, stdin=None, stdout=None, stderr=None
                )
            return await aiopidfd.create_subprocess_exec(*command)

        async def main():
            await (await start("true")).wait()
            events = numbers("eventfd")
            watched = re.findall(r"tfd: +(\\d+)", read(f"/proc/self/fdinfo/{{known_hub().number}}"))
            (event,) = [int(fd) for fd in watched if int(fd) in events]
            processes = [await start("sleep", "0.4") for _ in range(3)]
            path, writer = busy({SLEEP})
            turns = 0

            async def begin():
                processes.append(await start(path, "0.2"))

            with anyio.fail_after(60):
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(begin)
                    await anyio.sleep(0.005)
                    if {reused}:
                        os.dup2(0, event)
                    else:
                        os.close(event)
                    os.close(writer)
                used = time.process_time()
                assert [await process.wait() for process in processes] == [0] * 6
                assert time.process_time() - used < 0.3  # of 0.4 s: it did not spin
                assert await (await start("false")).wait() == 1

        if {loop!r} == "trio":
            anyio.run(main, backend="trio")
        else:
            anyio.run(main, backend_options={{"use_uvloop": {loop!r} == "uvloop"}})
        """
    )


def test_a_hub_that_was_closed_does_not_close_another() -> None:
    run(
        """
        _native.prepare()
        old = _native.hub()
        number = old.fd
        os.closerange(3, 4096)
        while (fd := os.open("/dev/null", os.O_RDONLY)) != number - 1:
            pass
        os.close(fd)
        new = _native.hub()
        assert new.fd == number
        del old
        assert new.fd == number
        """
    )


@has_pidfs
def test_the_tree_of_a_daemon() -> None:
    """Its guardian is found again."""
    run(
        """
        child = aiopidfd.spawn("sleep 1000 & exec sleep 1000", shell=True)
        while len(child.children()) < 1:
            time.sleep(0.001)
        (other,) = {process.getpid() for process in child.children()} - {child.pid}
        os.closerange(3, 4096)
        assert child.kill_tree()
        assert child.wait() == -9
        assert not os.path.exists(f"/proc/{other}")
        """
    )


@has_pidfs
@pytest.mark.parametrize("reused", [False, True])
def test_an_exit_is_told_though_its_pidfd_is_gone_and_the_tree_is_waited_for(reused: bool) -> None:
    run(
        f"""
        async def main():
            await begun()
            process = await aiopidfd.create_subprocess_shell("sleep 1000 & exec sleep 0.2")
            tree = asyncio.create_task(process.wait_tree())
            await asyncio.sleep(0.05)
            for number in numbers("pidfd", process.pid):
                if number == process.pidfd:
                    os.dup2(0, number) if {reused} else os.close(number)
            async with asyncio.timeout(30):
                assert await process.wait() == 0
            assert not tree.done()
            await process.kill_tree()
            await tree

        asyncio.run(main())
        """
    )


def test_a_file_whose_server_does_not_answer(tmp_path: Path) -> None:
    """A start asks it nothing (statx(2), AT_STATX_DONT_SYNC): it would hold up every thread."""
    with stuck_file(tmp_path):
        run(
            f"""
            file = os.open({str(tmp_path)!r}, os.O_PATH)
            assert aiopidfd.spawn(["true"], pass_fds=[file]).wait() == 0
            """
        )
