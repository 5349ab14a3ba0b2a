"""The promise: whatever the host does, every status is right and the host notices nothing.

The children are programs that were exec'd: execve resets the exit signal, so one that never execs
would show nothing.
"""

import asyncio
import os
import threading

import pytest

import aiopidfd

from .. import fresh
from ..hosts import HOSTS, Seen

COMMANDS = {
    "exit 0": 0,
    "exit 3": 3,
    "exit 255": 255,
    "sleep 0.05; exit 7": 7,
    "kill -TERM $$": -15,
    "kill -KILL $$": -9,
}


async def statuses() -> dict[str, int]:
    async def run(command: str) -> int:
        process = await aiopidfd.create_subprocess_shell(command)
        return await process.wait()

    codes = await asyncio.gather(*(run(command) for command in COMMANDS))
    return dict(zip(COMMANDS, codes, strict=True))


def expect_no_child() -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("host", HOSTS)
async def test_statuses_are_right_and_nothing_is_seen(host: str) -> None:
    seen = Seen()
    with HOSTS[host](seen):
        for _ in range(5):
            assert await statuses() == COMMANDS
        if host != "__WALL reaper":
            process = await aiopidfd.create_subprocess_exec("sleep", "0.1")
            expect_no_child()  # while it runs
            assert await process.wait() == 0
            expect_no_child()  # and after
    assert seen.sigchld == 0
    if host != "__WALL reaper":  # that one may take guardians; what they had to say is not lost
        assert not seen.pids


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_is_really_hostile(host: str) -> None:
    """The same hosts notice, or rob, an ordinary child: or the test above shows nothing."""
    seen = Seen()
    with HOSTS[host](seen):
        lost = False
        for _ in range(20):
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                lost = True
    assert seen.sigchld or seen.pids or lost


async def test_the_blocking_form_is_invisible_too() -> None:
    seen = Seen()
    with HOSTS["blocking reaper"](seen):
        for _ in range(20):
            child = await asyncio.to_thread(aiopidfd.spawn, "exit 5", shell=True)
            assert await asyncio.to_thread(child.wait) == 5
    assert (seen.sigchld, seen.pids) == (0, [])


async def test_a_thread_that_spawned_and_then_ended() -> None:
    children: list[aiopidfd.Child] = []

    def spawn() -> None:
        children.append(aiopidfd.spawn("sleep 0.2; exit 6", shell=True))

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    # Its stack and its TLS, which the guardian was born with, are gone or another thread's.
    for _ in range(20):
        other = threading.Thread(target=bytearray, args=(1 << 20,))
        other.start()
        other.join()
    assert children[0].wait() == 6


SCRIPT = """
    seen = hosts.Seen()

    async def main():
        async def run(command):
            process = await aiopidfd.create_subprocess_shell(command)
            return await process.wait()

        for _ in range(10):
            codes = await asyncio.gather(*(run(f"exit {n}") for n in (0, 3, 255)))
            assert codes == [0, 3, 255], codes
        # An orphan of the program's comes to the guardian and, when that ends, to us: not before.
        process = await aiopidfd.create_subprocess_shell("(sleep 0.1 &) ; sleep 0.3; exit 4")
        assert await process.wait() == 4

    with hosts.reaper_thread(seen, os.WNOHANG):
        asyncio.run(main())
    assert (seen.sigchld, seen.pids) == (0, []), (seen.sigchld, seen.pids)
    print(os.getpid())
"""


def test_as_pid_1_of_a_pid_namespace() -> None:
    assert fresh.run(SCRIPT, "unshare", "--pid", "--fork", "--mount-proc") == "1\n"


def test_as_a_child_subreaper() -> None:
    become_subreaper = "    assert libc.prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER\n"
    fresh.run(become_subreaper + SCRIPT)
