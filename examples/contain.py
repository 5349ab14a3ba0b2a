"""A script that leaves daemons behind, and what is left of it: nothing, if it is contained.

    python contain.py

Runs the same shell script twice. It starts a daemon, which leaves its parent, its group and its
session, and ends. Without `contain` the daemon is there afterwards; its pidfd, taken while the
script ran, ends it. With `contain` it is gone when the script has ended. Exits with 0 if so.
"""

import asyncio
import subprocess
import sys

import aiopidfd

SCRIPT = "(setsid setsid sleep 600 > /dev/null 2>&1 &); read line"


async def left_behind(contain: bool) -> list[aiopidfd.PidFd]:
    """Run the script; those of its processes that are there when it has ended."""
    script = await aiopidfd.create_subprocess_shell(SCRIPT, stdin=subprocess.PIPE, contain=contain)
    assert script.stdin is not None
    while not (children := [child for child in script.children() if is_daemon(child)]):
        await asyncio.sleep(0.01)
    script.stdin.close()
    await script.wait()
    return [child for child in children if is_alive(child)]


def is_daemon(process: aiopidfd.PidFd) -> bool:
    """Whether it sleeps already: what starts it is not yet a `sleep`."""
    try:
        with open(f"/proc/{process.getpid()}/comm") as file:
            return file.read() == "sleep\n"
    except (ProcessLookupError, FileNotFoundError):
        return False


def is_alive(process: aiopidfd.PidFd) -> bool:
    try:
        process.send_signal(0)
    except ProcessLookupError:
        return False
    return True


async def main() -> int:
    daemons = await left_behind(contain=False)
    print(f"not contained: {len(daemons)} left")
    for daemon in daemons:
        with daemon:
            daemon.kill()
    contained = await left_behind(contain=True)
    print(f"contained: {len(contained)} left")
    return 0 if len(daemons) == 1 and not contained else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
