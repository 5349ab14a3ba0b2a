#!/usr/bin/env python3
"""Try what is installed, in a host that ignores SIGCHLD: one program by each way to start one.

    python tools/smoke.py     # in an environment with the wheel and nothing else

Nothing but the standard library is used. Exit status 0 says that all statuses were right.
"""

import asyncio
import platform
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent.parent
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != HERE]

import aiopidfd  # noqa: E402 - what is installed, and not the checkout that this file is in
import aiopidfd.multiprocessing  # noqa: E402


async def on_a_loop() -> None:
    """Streams, text, a tree, a forked process."""
    assert (await aiopidfd.run_process("/bin/cat; exit 3", input=b"x", check=False)).stdout == b"x"
    process = await aiopidfd.create_subprocess_exec(
        "/bin/cat", stdin=aiopidfd.PIPE, stdout=aiopidfd.PIPE, text=True
    )
    assert await process.communicate("a line\n") == ("a line\n", None)
    process = await aiopidfd.create_subprocess_shell("/bin/sleep 60 & /bin/sleep 60", contain=True)
    assert await process.kill_tree()
    assert await process.wait() == -signal.SIGKILL
    assert await aiopidfd.run_in_fork(pow, 2, 10) == 1024


async def on_our_loop() -> None:
    """Asyncio's own function, which is ours on this loop."""
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
    assert await process.wait() == 3


def main() -> None:
    """Each floor of the package once."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert aiopidfd.spawn(["/bin/sh", "-c", "exit 3"]).wait() == 3
    asyncio.run(on_a_loop())
    with asyncio.Runner(loop_factory=aiopidfd.EventLoop) as runner:
        runner.run(on_our_loop())
    context = aiopidfd.multiprocessing.get_context()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(pow, 2, 10).result() == 1024
    where = Path(aiopidfd.__file__).parent
    print(f"aiopidfd {aiopidfd.__version__} works: Python {platform.python_version()}, {where}")


if __name__ == "__main__":
    main()
