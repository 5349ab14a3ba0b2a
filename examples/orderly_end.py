"""A service whose programs are ended in order when it ends itself: none of them is left.

    python orderly_end.py

Starts, in the place of a web service's helpers, three programs: one that ends at SIGTERM, one that
saves its work first, and one that does not listen. Then it sends itself SIGTERM. The loop's option
`shutdown_grace` ends them when the runner ends. Prints how each has ended, and what is left (0).
"""

import asyncio
import os
import signal
import sys
from functools import partial
from subprocess import PIPE

import aiopidfd

HELPERS = {
    "simple": "echo ready; sleep 600",
    "careful": "trap 'sleep 0.2; exit 3' TERM; echo ready; sleep 600 & wait",
    "deaf": "trap '' TERM; echo ready; sleep 600 & wait; sleep 600",
}


async def serve(processes: dict[str, aiopidfd.Process]) -> None:
    """Start the helpers, and serve until SIGTERM."""
    for name, script in HELPERS.items():
        process = await aiopidfd.create_subprocess_exec("sh", "-c", script, stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        processes[name] = process
    print(f"running: {len(aiopidfd.running())}", flush=True)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    os.kill(os.getpid(), signal.SIGTERM)
    await over.wait()


def main() -> int:
    processes: dict[str, aiopidfd.Process] = {}
    factory = partial(aiopidfd.EventLoop, shutdown_grace=1)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(processes))
    for name, process in processes.items():
        print(f"{name}: {process.returncode}")
    left = len(aiopidfd.running())
    print(f"left: {left}")
    return left


if __name__ == "__main__":
    sys.exit(main())
