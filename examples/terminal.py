"""Drive an interactive program at a terminal of its own: bash, as you would by hand.

    python terminal.py

A program at a pipe shows no prompt, has no job control, and often no line editing. With
`aiopidfd.PTY` it has a terminal: it writes a prompt, which we wait for; it sees the window change;
Ctrl-C interrupts what runs in it, and not bash itself; and its output ends when it exits.
"""

import asyncio
import os
import sys

import aiopidfd
from aiopidfd import PTY

PROMPT = b"ready> "
INTERRUPT = b"\x03"  # Ctrl-C; the terminal makes a SIGINT of it


async def drive() -> int | None:
    process = await aiopidfd.create_subprocess_exec(
        *("bash", "--norc", "--noprofile", "-i"),
        stdin=PTY,
        stdout=PTY,
        stderr=PTY,
        window_size=(24, 80),
        env={**os.environ, "PS1": PROMPT.decode(), "TERM": "dumb"},
    )
    async with process:
        terminal, screen = process.stdin, process.stdout
        assert terminal is not None
        assert screen is not None

        async def say(line: bytes, until: bytes = PROMPT) -> None:
            """Type it, and show what comes up to there. The terminal itself shows what we type."""
            terminal.write(line)
            sys.stdout.write((await screen.readuntil(until)).decode())

        await say(b"")
        await say(b"tty\n")
        await say(b"stty size; read; stty size\n", until=b"\n24 80\r\n")
        process.set_window_size(50, 132)
        await say(b"\n")
        await say(b"sh -c 'echo wait...; exec sleep 600'\n", until=b"\nwait...\r\n")
        await say(INTERRUPT)
        await say(b"echo $?\n")
        terminal.write(b"exit 3\n")
        sys.stdout.write((await screen.read()).decode())  # to the end, which is no error
        return await process.wait()


if __name__ == "__main__":
    print("bash has ended:", asyncio.run(drive()))
