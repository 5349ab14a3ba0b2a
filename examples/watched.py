"""Run a command as a careful service would: shown, bounded, and not for ever.

    python watched.py                                        # a demonstration
    python watched.py --idle 30 --timeout 600 --keep 4096 make -j4

Each line that it writes is shown as it comes, with the name of the stream. Only the last bytes are
kept in memory, however much it writes: of a command that fails they are shown again. One that says
nothing for too long is ended, with all that it has started, and so is one that takes too long.
Exits with the command's return code, or with 124 after a timeout.
"""

import argparse
import asyncio
import sys

import aiopidfd

DEMONSTRATION = """
for i in 1 2 3; do echo "step $i"; sleep 0.1; done
seq 1 1000 | tail -n 1
echo "now it hangs" >&2
exec sleep 600
"""


def show(stream: str, line: str) -> None:
    print(f"{stream}: {line}", flush=True)


async def watch(command: list[str], idle: float, timeout: float | None, keep: int) -> int:
    """Run it; returns the exit status of ours."""
    try:
        result = await aiopidfd.run_process(
            command,
            on_output=show,
            output_limit=keep,
            on_limit="tail",
            idle_timeout=idle,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )
    except aiopidfd.IdleTimeoutError as exc:
        print(f"it said nothing for {exc.timeout:g} seconds, and was ended")
        return 124
    except aiopidfd.TimeoutExpired as exc:
        print(f"{exc.timeout:g} seconds are over, and it was ended")
        return 124
    if result.returncode != 0:
        print(f"it has failed: {result.returncode}. Its last words, without")
        print(f"the {result.stdout_dropped} and {result.stderr_dropped} bytes before them:")
        print(result.stdout + result.stderr)
    return result.returncode if result.returncode >= 0 else 128 - result.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=float, default=2.0, help="seconds that it may be silent")
    parser.add_argument("--timeout", type=float, help="seconds that it may take")
    parser.add_argument("--keep", type=int, default=1000, help="bytes of each stream to keep")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the program and its arguments")
    arguments = parser.parse_args()
    command = arguments.command or ["/bin/sh", "-c", DEMONSTRATION]
    try:
        return asyncio.run(watch(command, arguments.idle, arguments.timeout, arguments.keep))
    except OSError as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
