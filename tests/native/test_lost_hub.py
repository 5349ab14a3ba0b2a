"""A loop whose hub, or what the hub watches, the host has closed or replaced."""

import os
from pathlib import Path

import pytest

import aiopidfd

from .. import fresh

FIRST = """
import fcntl, select, tempfile, uvloop
from aiopidfd._spawn.hub_of_each_loop import current_hub

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}

def run(main, loop="asyncio"):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())

def pidfds():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if "pidfd" in os.readlink(f"/proc/self/fd/{name}"):
                found.add(int(name))
    return found

def of_hub():
    "The set, and the eventfd that it watches first."
    number = current_hub().number
    (event,) = [
        int(line.split()[1])
        for line in read(f"/proc/self/fdinfo/{number}").splitlines()
        if "tfd" in line and " data:                0 " in line
    ]
    return number, event

def put(fd, number):
    "The host's own file, at that number."
    if fd != number:
        os.dup2(fd, number, inheritable=False)
        os.close(fd)

def start(*command):
    return aiopidfd.create_subprocess_exec(*command)
"""
has_pidfs = pytest.mark.skipif(
    tuple(map(int, aiopidfd.kernel().release.split(".")[:2])) < (6, 9),
    reason="before Linux 6.9 a pidfd has no identity, and cannot be opened again",
)
both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def run(code: str, *wrapper: str) -> None:
    fresh.run(f"exec({FIRST!r}, globals())\n" + fresh.dedent(code), *wrapper)


@has_pidfs
@both_loops
def test_exits_are_told_although_both_pidfds_are_closed_and_the_hub_is_whole(loop: str) -> None:
    """At the next starts, each of which looks at some programs."""
    run(
        f"""
        async def main():
            number, event = of_hub()
            processes = [await start("sleep", "0.2") for _ in range(5)]
            os.closerange(max(number, event) + 1, 4096)
            waits = asyncio.gather(*(process.wait() for process in processes))
            await asyncio.sleep(0.4)
            async with asyncio.timeout(30):
                for _ in range(5):
                    assert await (await start("true")).wait() == 0
                assert await waits == [0] * 5

        run(main, {loop!r})
        """
    )


@both_loops
def test_a_lost_hub_is_looked_at_by_one_timer(loop: str, tmp_path: Path) -> None:
    """However long a start is under way, and whatever else the loop has to look at."""
    run(
        f"""
        from tests.held_exec import held_exec

        async def main():
            hub = current_hub()
            pending = most = 0
            later = hub._later

            def count(seconds, function, *args):
                nonlocal pending, most
                if type(hub)._look_again not in getattr(function, "args", ()):
                    return later(seconds, function, *args)
                pending += 1
                most = max(most, pending)

                def look():
                    nonlocal pending
                    pending -= 1
                    function()

                return later(seconds, look)

            hub._later = count
            with held_exec(pathlib.Path({str(tmp_path)!r})) as held:
                hanging = asyncio.create_task(start(held.path, "-c", "exit 3"))
                await asyncio.to_thread(held.wait_until_held)
                os.close(hub.number)
                late = await start("sleep", "60")  # and one that must be looked at
                late.children()
                os.kill(late.guardian_pid, signal.SIGSTOP)
                late.kill()
                await asyncio.sleep(0.5)
                assert most == 1
                held.let_go()
            assert await (await hanging).wait() == 3
            assert await late.wait() == -9

        run(main, {loop!r})
        """
    )


@both_loops
def test_starts_that_wait_for_their_turn_when_the_hub_is_lost(loop: str) -> None:
    run(
        f"""
        async def main():
            number = of_hub()[0]
            closed = False

            async def one():
                nonlocal closed
                process = await start("true")
                if not closed:
                    closed = True
                    os.close(number)
                return await process.wait()

            async with asyncio.timeout(30):
                assert await asyncio.gather(*(one() for _ in range(40))) == [0] * 40

        run(main, {loop!r})
        """
    )


def test_on_trio_a_lost_hub_s_programs_are_told_of() -> None:
    run(
        """
        import trio
        import aiopidfd.anyio

        async def main():
            processes = []
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    processes.append(await aiopidfd.anyio.open_process(["sleep", "0.4"]))
                    nursery.start_soon(processes[0].wait)
                    await trio.sleep(0.1)
                    os.close(current_hub().number)
                    processes.append(await aiopidfd.anyio.open_process(["false"]))
                    nursery.start_soon(processes[1].wait)
            assert [process.returncode for process in processes] == [0, 1]
            for process in processes:
                await process.aclose()

        trio.run(main)
        """
    )


def test_a_transport_of_the_host_s_has_the_number_of_the_hub() -> None:
    """It does not read yet when a start makes another hub."""
    run(
        """
        import socket

        async def main():
            running = asyncio.create_task((await start("sh", "-c", "sleep 0.2; exit 7")).wait())
            loop, number = asyncio.get_running_loop(), of_hub()[0]
            os.close(number)
            ours, other = socket.socketpair()
            put(ours.detach(), number)
            making = asyncio.create_task(
                loop.create_connection(asyncio.Protocol, sock=socket.socket(fileno=number))
            )
            while number not in loop._transports:
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                assert await (await start("false")).wait() == 1
                assert await running == 7
            transport, _ = await making
            transport.close()
            other.close()
            await asyncio.sleep(0)

        run(main)
        """
    )


def test_our_reader_is_taken_away_by_another_thread() -> None:
    """In debug mode a loop takes few calls from there."""
    run(
        """
        async def main():
            running = asyncio.create_task((await start("sh", "-c", "sleep 0.2; exit 7")).wait())
            loop, number = asyncio.get_running_loop(), of_hub()[0]
            loop.set_debug(True)
            thread = threading.Thread(target=loop.remove_reader, args=[number])
            thread.start()
            thread.join()
            async with asyncio.timeout(30):
                assert await (await start("false")).wait() == 1
                assert await running == 7

        run(main)
        """
    )


TRIO = """
        import socket, trio
        import aiopidfd.anyio

"""


def test_on_trio_the_host_closes_a_socket_where_the_hub_was() -> None:
    """trio tells our task of it, which still sleeps on that number."""
    run(
        f"""{TRIO}
        async def main():
            process = await aiopidfd.anyio.open_process(["sleep", "0.3"])
            number = current_hub().number
            await trio.sleep(0.05)
            os.close(number)
            ours, other = socket.socketpair()
            put(ours.detach(), number)
            theirs = trio.socket.from_stdlib_socket(socket.socket(fileno=number))
            with trio.fail_after(30):
                theirs.close()
                other.close()
                assert await process.wait() == 0
                await process.aclose()

        trio.run(main)
        """
    )


def test_a_run_of_trio_ends_where_no_hub_can_be_made_any_more() -> None:
    run(
        f"""{TRIO}
        async def main():
            await aiopidfd.anyio.run_process(["true"])
            os.close(current_hub().number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(7)[1]))
            with contextlib.suppress(OSError):
                await aiopidfd.anyio.run_process(["true"])
                raise AssertionError

        trio.run(main)
        """
    )


@pytest.mark.heavy
def test_an_interrupt_at_each_line_of_a_renewal_loses_no_program() -> None:
    run(
        """
        from aiopidfd._spawn import hub_of_each_loop as module

        class Interrupt(BaseException):
            pass

        def tracer(line, lines):
            def local(frame, event, arg):
                if event == "line":
                    lines.append(frame.f_lineno)
                    if len(lines) == line:
                        raise Interrupt
                return local

            names = {"renew", "_watch", "_unwatch", "_look_at_lost"}
            return lambda frame, event, arg: (
                local
                if frame.f_code.co_filename == module.__file__ and frame.f_code.co_name in names
                else None
            )

        async def main(line):
            running = asyncio.create_task((await start("sh", "-c", "sleep 0.1; exit 7")).wait())
            await asyncio.sleep(0)
            os.close(current_hub().number)
            lines = []
            sys.settrace(tracer(line, lines))
            try:
                interrupted = await start("true")
            except Interrupt:
                interrupted = None
            finally:
                sys.settrace(None)
            async with asyncio.timeout(30):
                if interrupted is not None:  # it came elsewhere
                    assert await interrupted.wait() == 0, line
                assert await (await start("false")).wait() == 1, line
                assert await running == 7, line
            return len(lines) == line

        line = 1
        while asyncio.run(main(line)):
            line += 1
        assert line > 20
        """
    )


@both_loops
def test_no_descriptor_for_another_hub_for_a_while(loop: str) -> None:
    """It is made once, however many starts have failed before."""
    run(
        f"""
        async def main():
            process = await start("sleep", "0.5")
            hub = current_hub()
            os.close(hub.number)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            for _ in range(100):
                with contextlib.suppress(OSError):
                    await start("true")
                    raise AssertionError
            await asyncio.sleep(0.1)  # it is tried again
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            made = []
            hub_of = _native.hub
            _native.hub = lambda: made.append(1) or hub_of()
            await asyncio.sleep(0.3)
            assert len(made) == 1
            async with asyncio.timeout(30):
                assert await process.wait() == 0

        run(main, {loop!r})
        """
    )


@both_loops
@pytest.mark.parametrize("removes", [False, True])
def test_the_host_s_reader_is_not_taken_away(loop: str, removes: bool) -> None:
    """For a file of its own, at the number where our set was. What runs is told of all the same.

    The number is watched for the host only if it has removed our reader before.
    """
    run(
        f"""
        async def main():
            loop, number = asyncio.get_running_loop(), of_hub()[0]
            running = asyncio.create_task((await start("sh", "-c", "sleep 0.2; exit 7")).wait())
            seen = []
            os.close(number)
            if {removes}:
                loop.remove_reader(number)
            read_end, write_end = os.pipe()
            write_end = fcntl.fcntl(write_end, fcntl.F_DUPFD_CLOEXEC, 100)
            put(read_end, number)
            loop.add_reader(number, lambda: seen.append(os.read(number, 1)))
            async with asyncio.timeout(30):
                assert await (await start("true")).wait() == 0
                os.write(write_end, b"x")
                while not seen and {removes}:
                    await asyncio.sleep(0.01)
                assert await running == 7
            assert loop.remove_reader(number) in (True, None)  # uvloop does not say

        run(main, {loop!r})
        """
    )


@pytest.mark.parametrize("when", ["", "in a copy"])
def test_a_stranger_s_set_that_watches_a_pipe_of_its_own_is_not_taken_for_ours(when: str) -> None:
    run(
        f"""
        async def main():
            number, event = of_hub()
            read_end, write_end = (
                fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in os.pipe()
            )
            os.dup2(read_end, event, inheritable=False)
            theirs = select.epoll()
            os.dup2(theirs.fileno(), number, inheritable=False)
            theirs = select.epoll.fromfd(number)
            theirs.register(event, select.EPOLLIN)
            links = [os.readlink(f"/proc/self/fd/{{fd}}") for fd in (number, event)]
            if {when!r}:
                pid = os.fork()
                now = [os.readlink(f"/proc/self/fd/{{fd}}") for fd in (number, event)]
                if pid == 0:
                    os._exit(now != links)
                assert os.waitpid(pid, 0)[1] == 0
            async with asyncio.timeout(30):
                assert await (await start("false")).wait() == 1
            assert theirs.poll(0) == []
            return links, theirs

        with asyncio.Runner() as runner:
            links, theirs = runner.run(main())
        assert set(links) <= set(open_fds().values())
        """
    )


def test_the_lifelines_and_the_guardian_s_pidfd_are_closed_in_one_start() -> None:
    """It is made once more, and a whole hub tells of it."""
    run(
        """
        async def main():
            hub = current_hub()
            for _ in range(60):
                assert await (await start("true")).wait() == 0
                for number in pidfds():  # the lifeline
                    os.close(number)
                guardian = os.dup(0)
                os.close(guardian)
                task = asyncio.create_task(start("true"))
                await asyncio.sleep(0)
                with contextlib.suppress(OSError):
                    os.close(guardian)
                async with asyncio.timeout(30):
                    assert await (await task).wait() == 0

        run(main)
        """
    )


@has_pidfs
def test_lifelines_that_are_lost_while_many_start_are_made_once() -> None:
    """What is left of them stays."""
    run(
        """
        async def main():
            async def some():
                processes = await asyncio.gather(*(start("true") for _ in range(16)))
                assert await asyncio.gather(*(one.wait() for one in processes)) == [0] * 16

            await some()
            before = len(open_fds())
            for _ in range(5):
                (lifeline,) = pidfds()
                os.close(lifeline)
                await some()
            while len(pidfds()) > 1:  # guardians that are about to leave
                await asyncio.sleep(0.01)
            assert len(open_fds()) == before, open_fds()

        run(main)
        """
    )


@has_pidfs
def test_an_orphan_whose_pidfd_is_closed_is_told_of() -> None:
    run(
        """
        import logging
        logging.getLogger("aiopidfd").setLevel(logging.ERROR)  # before 6.15 its status may be lost

        async def main():
            assert await (await start("true")).wait() == 0
            before = pidfds()
            process = await start("sleep", "0.5")
            os.kill(process.guardian_pid, signal.SIGKILL)
            await asyncio.sleep(0.1)
            for number in pidfds() - before:
                os.close(number)
            async with asyncio.timeout(30):
                for _ in range(3):
                    assert await (await start("true")).wait() == 0
                assert await process.wait() in (0, 255)

        run(main)
        """
    )


@has_pidfs
@pytest.mark.skipif(not aiopidfd.kernel().exit_info, reason="before 6.15 its status may be lost")
def test_an_orphan_whose_pidfd_is_closed_and_cannot_be_opened_again_yet() -> None:
    """Its exit is not taken for known until it can."""
    run(
        """
        import subprocess
        before = pidfds()
        child = aiopidfd.spawn(["sh", "-c", "read x; exit 5"], stdin=(ends := os.pipe())[0])
        os.kill(child._program.guardian_pid, signal.SIGKILL)
        for number in pidfds() - before:
            os.close(number)
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(5):
            assert child.poll() is None
        try:
            raise AssertionError(child.wait(3))  # longer than one waits for who reaps it
        except subprocess.TimeoutExpired:
            pass
        for number in taken:
            os.close(number)
        assert child.poll() is None
        os.write(ends[1], b"\\n")
        assert child.wait(30) == 5
        """
    )


def test_the_lifelines_and_the_hub_are_lost_in_one_start() -> None:
    run(
        """
        async def main():
            before = open_fds().keys()
            number, event = of_hub()
            assert await (await start("true")).wait() == 0
            for fd in open_fds().keys() - before - {number, event}:
                os.close(fd)
            task = asyncio.create_task(start("sh", "-c", "exit 3"))
            await asyncio.sleep(0)
            os.close(number)
            os.close(event)
            time.sleep(0.05)
            async with asyncio.timeout(30):
                assert await (await start("true")).wait() == 0
                assert await (await task).wait() == 3

        run(main)
        """
    )


@has_pidfs
@pytest.mark.parametrize("when", ["", "in a copy"])
def test_the_host_s_pidfd_at_our_number_after_a_start(when: str) -> None:
    """One that failed; or, in a copy, one that the loop has not heard of. It is not closed."""
    run(
        f"""
        async def main():
            assert await (await start("true")).wait() == 0
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            theirs = os.pidfd_open(pid)
            os.waitpid(pid, 0)  # of a process that is reaped: a pidfd without a pid
            before = pidfds()
            command = ["sleep", "0.1"] if {when!r} else ["/nonexistent"]
            task = asyncio.create_task(start(*command))
            await asyncio.sleep(0)
            time.sleep(0.05)  # that start is over, and the loop does not know it yet
            numbers = pidfds() - before
            assert numbers
            for number in numbers:
                os.dup2(theirs, number, inheritable=False)
            if {when!r}:
                pid = os.fork()
                if pid == 0:
                    os._exit(not numbers <= pidfds())
                assert os.waitpid(pid, 0)[1] == 0
                assert await (await task).wait() == 0
            else:
                with contextlib.suppress(FileNotFoundError):
                    await task
                    raise AssertionError
            await asyncio.sleep(0.05)
            assert numbers <= pidfds()

        run(main)
        """
    )


def test_all_that_is_open_is_passed_with_high_numbers() -> None:
    """Each file comes to its own number, though the start lends low ones that are among them."""
    run(
        """
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
        aiopidfd.prepare()
        high = [os.dup2(os.memfd_create(f"file {n}"), 4096 + n) for n in range(3)]
        passed = sorted(fd for fd in open_fds() if fd > 2 and not fd in pidfds())
        want = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in passed}
        print_links = (
            "import os, sys; "
            "print({int(fd): os.readlink(f'/proc/self/fd/{fd}') for fd in sys.argv[1:]})"
        )
        result = aiopidfd.subprocess.run(
            [sys.executable, "-c", print_links, *map(str, passed)],
            pass_fds=passed, capture_output=True, text=True, check=True,
        )
        assert eval(result.stdout) == want
        """
    )


@has_pidfs
@pytest.mark.skipif(os.geteuid() != 0, reason="a process chooses its child's pid as root only")
def test_a_child_of_the_host_s_that_has_a_guardian_s_pid_is_not_reaped() -> None:
    """A reaper with __WALL has taken the guardian, and the child has no exit signal either."""
    run(
        """
        import struct

        def child_with(pid, status):  # clone3(2), set_tid
            numbers = (ctypes.c_int * 1)(pid)
            args = struct.pack("11Q", 0, 0, 0, 0, 0, 0, 0, 0, ctypes.addressof(numbers), 1, 0)
            found = libc.syscall(435, ctypes.c_char_p(args), ctypes.c_size_t(len(args)))
            if found == 0:
                os._exit(status)
            assert found == pid, ctypes.get_errno()

        child = aiopidfd.spawn(["sleep", "0.2"])
        guardian = child.guardian_pid
        while os.waitpid(-1, 0x40000000)[0] != guardian:
            pass
        child_with(guardian, 7)
        time.sleep(0.05)
        assert child.wait() == 0
        assert os.waitstatus_to_exitcode(os.waitpid(guardian, 0x40000000)[1]) == 7
        """,
        "unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
    )  # fmt: skip


@has_pidfs
def test_an_orphan_whose_tree_was_asked_for_is_not_looked_at_again_and_again() -> None:
    """Its pidfd tells."""
    run(
        """
        import logging
        logging.getLogger("aiopidfd").setLevel(logging.ERROR)  # before 6.15 its status may be lost

        async def main():
            process = await start("sleep", "1")
            process.children()
            os.kill(process.guardian_pid, signal.SIGKILL)
            await asyncio.sleep(0.1)
            hub, looks = current_hub(), []
            later = hub._later
            hub._later = lambda *args: looks.append(args) or later(*args)
            await asyncio.sleep(0.5)
            assert looks == []
            process.kill()
            async with asyncio.timeout(30):
                await process.wait()

        run(main)
        """
    )


@both_loops
def test_a_timer_that_is_interrupted_rings_once_more(loop: str) -> None:
    """And only once, however often it was asked for."""
    run(
        f"""
        from aiopidfd._spawn.hub_of_each_loop import Hub

        async def main():
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            rung, hub = [], current_hub()

            def function(hub):
                rung.append(hub)
                if len(rung) == 1:
                    raise InterruptedError

            for _ in range(3):
                hub._later_once(0.001, function)
            while len(rung) < 2 or hub._timers:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            assert rung == [hub, hub]

        run(main, {loop!r})
        """
    )


def test_on_trio_an_interrupt_while_a_listener_is_forgotten_does_not_hang_the_run() -> None:
    """The task that serves the hub is shielded as long as anybody listens."""
    run(
        """
        import trio
        import aiopidfd.anyio

        class Interrupting(dict):
            def pop(self, *args):
                super().pop(*args)
                raise InterruptedError

        async def main():
            process = await aiopidfd.anyio.open_process(["sleep", "60"])
            with trio.move_on_after(0.05):
                await process.wait()
            hub = current_hub()
            hub._listeners = Interrupting(hub._listeners)
            process.kill()
            with contextlib.suppress(InterruptedError):
                await process.wait()
            hub._listeners = {}

        signal.alarm(60)
        trio.run(main)
        """
    )


def test_a_timer_that_an_interrupt_has_lost_is_asked_for_anew() -> None:
    """The loop had taken it, and a signal handler raised before anything of ours was called.

    The one that was asked for meanwhile, and comes late, does not make it two.
    """
    run(
        """
        from aiopidfd._spawn.hub_of_each_loop import Hub

        async def main():
            hub, rung, lost = current_hub(), [], []
            later, function = hub._later, rung.append
            hub._later = lambda seconds, call: lost.append(call)
            hub._later_once(0.001, function)
            hub._later = later
            hub._later_once(0.001, function)
            assert len(lost) == 1
            time.sleep(0.002)
            hub._later_once(0.001, function)
            lost[0]()
            await asyncio.sleep(0.02)
            assert rung == [hub]
            assert not hub._timers

        run(main)
        """
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_timer_rings_although_the_loop_is_always_late(loop: str) -> None:
    """In each turn it is asked for before the loop looks at its timers."""
    run(
        f"""
        import trio
        from aiopidfd._spawn.hub_of_each_loop import Hub

        async def main(sleep):
            hub, rung = current_hub(), []
            for _ in range(40):
                hub._later_once(0.001, rung.append)
                time.sleep(0.002)
                await sleep(0)
            assert len(rung) > 10, rung

        if {loop!r} == "trio":
            trio.run(main, trio.sleep)
        else:
            run(lambda: main(asyncio.sleep), {loop!r})
        """
    )


@both_loops
def test_a_hub_that_another_thread_closes_in_the_moment_of_a_start(loop: str) -> None:
    run(
        f"""
        from aiopidfd._spawn import start as module

        async def main():
            assert await (await start("true")).wait() == 0
            make_plan = module.make_plan

            def close_it(*args, **options):
                module.make_plan = make_plan
                for fd in of_hub():
                    os.close(fd)
                return make_plan(*args, **options)

            module.make_plan = close_it
            assert await (await start("sh", "-c", "exit 3")).wait() == 3
            assert module.make_plan is make_plan

        run(main, {loop!r})
        """
    )


@both_loops
def test_a_hub_that_another_thread_closes_in_the_moment_of_a_fork(loop: str) -> None:
    run(
        f"""
        def close_it(event, _):
            if event == "os.fork" and armed:
                armed.clear()
                for fd in of_hub():
                    os.close(fd)

        async def main():
            assert await (await start("true")).wait() == 0
            armed.append(True)
            assert await aiopidfd.run_in_fork(int, "7") == 7
            assert not armed

        armed = []
        sys.addaudithook(close_it)
        run(main, {loop!r})
        """
    )
