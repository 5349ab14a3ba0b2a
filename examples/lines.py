"""Follow what a program prints, line by line, for as long as you like.

    python lines.py                                     # a demonstration
    python lines.py --seconds 60 tail -F /var/log/syslog
    python lines.py --seconds 60 journalctl -f

Lines come as they are written and may be of any length: asyncio's own reader gives up at 64 KiB.
When the time is over, or the reader has seen enough, leaving the `async with` ends the program and
what it has started: SIGTERM, some time to react, SIGKILL; it is reaped and its pipes are closed.
"""

import argparse
import asyncio
import shutil
import sys
import time

import aiopidfd

# Prints a short line each 0.2 seconds, and among them one of a million characters. It never ends,
# and says goodbye when it is asked to.
DEMONSTRATION = r"""
trap 'echo "goodbye"; exit 0' TERM
count=0
while :; do
    count=$((count + 1))
    echo "line $count"
    [ $count -eq 3 ] && head -c 1000000 /dev/zero | tr '\0' x && echo
    sleep 0.2 &
    wait
done
"""


def shortened(line: str, width: int) -> str:
    """The line as far as it fits, without what a terminal would obey."""
    text = "".join(c if c.isprintable() else " " for c in line[:width])
    return text if len(line) <= width else f"{text[: width - 24]}... ({len(line):,} characters)"


async def follow(command: list[str], seconds: float) -> int | None:
    """Print the program's lines until it ends, or the time is over. Returns its return code."""
    width = shutil.get_terminal_size().columns - 12
    start = time.monotonic()
    process = await aiopidfd.create_subprocess_exec(
        *command, stdout=aiopidfd.PIPE, text=True, errors="replace"
    )
    async with process:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                async for line in process.stdout:
                    elapsed = time.monotonic() - start
                    print(f"{elapsed:8.3f} s  {shortened(line.rstrip(), width)}", flush=True)
                await process.wait()
        except TimeoutError:
            print(f"{seconds:g} seconds are over")
    return process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to follow it")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the program and its arguments")
    arguments = parser.parse_args()
    command = arguments.command or ["/bin/sh", "-c", DEMONSTRATION]
    try:
        returncode = asyncio.run(follow(command, arguments.seconds))
    except OSError as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"the program has ended: {returncode}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
