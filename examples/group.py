"""A server as a member of a task group: it ends with the group.

    pip install anyio trio
    python group.py [asyncio|trio]

Starts `python -m http.server` on a free port, waits until it says where it listens, fetches a page
from it, and leaves the group: the server gets SIGTERM, and is reaped before the block is left. What
it writes is printed line by line. Exits with 0 if the page came.
"""

import sys
import urllib.request
from functools import partial

try:
    import anyio
    import anyio.to_thread

    from aiopidfd.anyio import Process, supervise
except ModuleNotFoundError as exc:
    sys.exit(f"{exc.name} is needed: pip install anyio trio")

SERVER = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]


async def main() -> int:
    listening = anyio.Event()
    address = ""

    def on_line(line: str) -> None:
        nonlocal address
        print(f"server: {line}", flush=True)
        if line.startswith("Serving HTTP on"):  # ... 127.0.0.1 port 40001 (http://...:40001/) ...
            address = line[line.index("(") + 1 : line.index(")")]
            listening.set()

    def fetch() -> int:
        with urllib.request.urlopen(address, timeout=10) as response:
            return len(response.read())

    async with anyio.create_task_group() as group:
        # Raises FileNotFoundError here if there is no such program. If the server ends by itself
        # with another status than 0, the group ends with CalledProcessError.
        start = partial(supervise, SERVER, stdout=on_line, stderr=on_line, encoding="utf-8")
        server: Process = await group.start(start)
        with anyio.fail_after(30):
            await listening.wait()
        size = await anyio.to_thread.run_sync(fetch)
        print(f"fetched {size} bytes; the server's pid is {server.pid}")
        group.cancel_scope.cancel()

    print(f"the server has ended: {server.returncode}")
    return 0 if size else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio"))
