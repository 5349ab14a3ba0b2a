"""`python -m aiopidfd` prints what this kernel offers and how programs will be started.

`python -m aiopidfd ps [PID] [--json]` lists the guardians that run now.
"""

import argparse
import errno
import json
import os
import signal
import sys

from . import __version__
from ._spawn.kernel import Answer, Kernel, kernel

_HOW = {"clone3": "clone3(2)", "clone": "clone(2), because clone3 is blocked"}


def main(arguments: list[str] | None = None) -> int:
    """Print what was found. Returns 0 if programs can be started, else 1."""
    options = _parser().parse_args(arguments)
    here = kernel(again=True)
    print(json.dumps(_as_json(here), indent=2) if options.json else _as_text(here))
    return 0 if here.missing() is None else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aiopidfd",
        description="Tell what this kernel offers, and which way programs will be started. "
        "The exit status is 0 where they can be, 1 where they cannot, 2 for a wrong argument.",
        epilog="python -m aiopidfd ps [PID] [--json] lists the guardians that run now.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--version", action="version", version=f"aiopidfd {__version__}")
    return parser


def _name(answer: Answer) -> str:
    return errno.errorcode.get(answer.errno, str(answer.errno))


def _as_json(here: Kernel) -> dict[str, object]:
    missing = here.missing()
    return {
        "version": __version__,
        "release": here.release,
        "calls": [
            {
                "call": answer.name,
                "since": answer.since,
                "works": answer.works,
                "error": None if answer.works else _name(answer),
                "needed": answer.needed,
            }
            for answer in here.answers
        ],
        "missing": None if missing is None else missing.name,
        "method": here.method,
        "exit_info": here.exit_info,
    }


def _as_text(here: Kernel) -> str:
    rows = [("call", "since", "here", "needed")]
    for answer in here.answers:
        found = "yes" if answer.works else _name(answer)
        rows.append((answer.name, answer.since, found, "yes" if answer.needed else "no"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"Linux {here.release}", ""]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    lines.append("")
    missing = here.missing()
    if missing is not None:
        lines.append(
            f"Cannot spawn: {missing.name} is missing (Linux {missing.since}, or a filter)."
        )
        return "\n".join(lines)
    told = "is still known" if here.exit_info else "is lost: 255 is reported, with a warning"
    lines.append(f"Guardians are made by {_HOW[here.method or 'clone']}.")
    lines.append(f"When a guardian is killed, its program's status {told}.")
    return "\n".join(lines)


def main_ps(arguments: list[str]) -> int:
    """Run the command `ps [PID] [--json]`."""
    from ._spawn.ps import ps

    parser = argparse.ArgumentParser(
        "python -m aiopidfd ps",
        description="Print the guardians that there are, their hosts and programs.",
    )
    parser.add_argument("pid", metavar="PID", type=_pid, nargs="?", help="the host; default: all")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    chosen = parser.parse_args(arguments)
    return ps(chosen.pid, chosen.json)


def _pid(text: str) -> int:
    """The argument of `ps`."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"not a process id: {text!r}")
    return int(text)


def run() -> int:
    """The command line; returns its exit status. Whoever reads us, `head` say, may have enough."""
    try:
        try:
            return main_ps(sys.argv[2:]) if sys.argv[1:2] == ["ps"] else main()
        finally:
            sys.stdout.flush()
    except OSError as exc:
        if exc.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        if exc.errno == errno.EPIPE:  # our reader (`head`, for example) has closed the pipe
            return 128 + signal.SIGPIPE
        print(f"aiopidfd: {exc.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(run())
