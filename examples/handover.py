"""A listening socket from an old server to a new one, without a connection dropped.

    python handover.py

The old server knows nothing of it: its socket is taken out of it by pidfd_getfd(2), which
needs the right to ptrace it. The new one is started with the same socket, then the old one is told
to end. All the time a client connects, again and again. Exits with 0 if every answer came.
"""

import asyncio
import os
import signal
import sys
from collections import Counter

import aiopidfd

ENOUGH = 100  # answers of each server

# The descriptor is given to the new server, and made by the old one.
SERVER = """
import os, signal, socket, sys, threading
name, *given = sys.argv[1:]
listening = socket.socket(fileno=int(given[0])) if given else socket.create_server(("127.0.0.1", 0))
listening.settimeout(0.05)
ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())
print(listening.fileno(), listening.getsockname()[1], flush=True)
while not ending.is_set():
    try:
        connection, _ = listening.accept()
    except TimeoutError:
        continue
    with connection:
        connection.sendall(name.encode())
"""


async def serve(name: str, *given: int) -> tuple[aiopidfd.TextProcess, int, int]:
    """A server that runs: its process, the number of its socket's descriptor, and its port."""
    process = await aiopidfd.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, name, *map(str, given)),
        stdout=aiopidfd.PIPE,
        pass_fds=given,
        text=True,
    )
    assert process.stdout is not None
    number, port = map(int, (await process.stdout.readline()).split())
    return process, number, port


async def ask(port: int, answers: Counter[str]) -> None:
    while answers["the new server"] < ENOUGH:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers[(await reader.read()).decode()] += 1
        writer.close()
        await writer.wait_closed()


async def main() -> int:
    answers: Counter[str] = Counter()
    old, number, port = await serve("the old server")
    client = asyncio.create_task(ask(port, answers))
    while answers["the old server"] < ENOUGH:
        await asyncio.sleep(0.001)

    with aiopidfd.PidFd.from_process(old) as handle:
        listening = handle.getfd(number)
    new, _, _ = await serve("the new server", listening)
    os.close(listening)
    old.send_signal(signal.SIGTERM)
    print(f"the old server has ended: {await old.wait()}")

    await client
    new.terminate()
    await new.wait()
    for name, count in answers.items():
        print(f"{count} answers of {name}")
    return 0 if set(answers) == {"the old server", "the new server"} else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
