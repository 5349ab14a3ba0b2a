"""A server as a member of an `asyncio.TaskGroup`: it ends with the group. No other library.

    python task_group.py

The same as group.py, which is for anyio: starts `python -m http.server` on a free port, waits
until it says where it listens, fetches a page from it, and ends the server. If anything fails
meanwhile the group is cancelled: the server gets SIGTERM, five seconds, SIGKILL, and is reaped
before the block is left. Exits with 0 if the page came.
"""

import asyncio
import sys
import urllib.request

import aiopidfd

SERVER = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]


async def main() -> int:
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_output(stream: str, line: str) -> None:
        print(f"server: {line}", flush=True)
        if line.startswith("Serving HTTP on"):  # ... 127.0.0.1 port 40001 (http://...:40001/) ...
            address.set_result(line[line.index("(") + 1 : line.index(")")])

    def fetch(url: str) -> int:
        with urllib.request.urlopen(url, timeout=10) as response:
            return len(response.read())

    async with asyncio.TaskGroup() as group:
        # Raises FileNotFoundError here if there is no such program.
        server = await aiopidfd.start_in(
            group, SERVER, on_output=on_output, encoding="utf-8", check=False
        )
        async with asyncio.timeout(30):
            url = await address
        size = await asyncio.to_thread(fetch, url)
        print(f"fetched {size} bytes; the server's pid is {server.pid}")
        server.terminate()

    print(f"the server has ended: {server.returncode}")
    return 0 if size else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
