"""The most frequent words of some files: six programs, each of which reads the one before it.

    python words.py                      # of this file
    python words.py --count 20 *.txt

What goes from one program to the next goes through the kernel alone. `head` ends when it has
enough; that those before it then die of SIGPIPE is no failure. If one does fail, the others are
not waited for in vain: all statuses are there, and its own words are told. Needs the usual tools
of a Unix (cat, tr, sort, uniq, head).
"""

import argparse
import asyncio
import sys

import aiopidfd


async def count_words(files: list[str], count: int) -> list[tuple[int, str]]:
    """(how often, the word) of the most frequent ones. Raises PipelineError."""
    result = await aiopidfd.run_pipeline(
        ["cat", "--", *files],
        ["tr", "-cs", "A-Za-z", "\n"],
        ["tr", "A-Z", "a-z"],
        "sort | uniq -c",  # a string is the shell's
        ["sort", "-k1,1nr", "-k2"],
        ["head", "-n", str(count)],
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        text=True,
        timeout=60,
    )
    rows = [line.split() for line in result.stdout.splitlines()]
    return [(int(row[0]), row[1]) for row in rows if len(row) == 2]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10, help="how many words")
    parser.add_argument("files", nargs="*", default=[__file__])
    arguments = parser.parse_args()
    try:
        words = asyncio.run(count_words(arguments.files, arguments.count))
    except aiopidfd.PipelineError as exc:
        print(f"{exc.cmd[0]} has failed: {exc.returncode}: {exc.stderr.strip()}", file=sys.stderr)
        print(f"all statuses: {exc.result.returncodes}", file=sys.stderr)
        return 1
    except (OSError, aiopidfd.TimeoutExpired) as exc:
        print(exc, file=sys.stderr)
        return 1
    for number, word in words:
        print(f"{number:7} {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
