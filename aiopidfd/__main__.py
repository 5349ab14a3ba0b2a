"""`python -m aiopidfd`: what this kernel offers, and which way children will be made.

`python -m aiopidfd ps [PID] [--json]`: the guardians that there are.
"""

import argparse
import errno
import sys

from ._spawn.kernel import kernel


def main() -> int:
    """Print the table; 0 where programs can be spawned, 1 where not."""
    here = kernel(again=True)
    print(f"Linux {here.release}")
    print()
    rows = [("call", "since", "here", "needed")]
    for answer in here.answers:
        found = "yes" if answer.works else errno.errorcode.get(answer.errno, str(answer.errno))
        rows.append((answer.name, answer.since, found, "yes" if answer.needed else "no"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print()
    missing = here.missing()
    if missing is not None:
        print(f"Cannot spawn: {missing.name} is missing (Linux {missing.since}, or a filter).")
        return 1
    how = {"clone3": "clone3(2)", "clone": "clone(2), because clone3 is blocked"}
    print(f"Guardians are made by {how[here.method or 'clone']}.")
    told = "is still known" if here.exit_info else "is lost: 255 is reported, with a warning"
    print(f"When a guardian is killed, its program's status {told}.")
    return 0


def main_ps(arguments: list[str]) -> int:
    """`ps [PID] [--json]`."""
    from ._spawn.ps import ps

    parser = argparse.ArgumentParser(
        "python -m aiopidfd ps",
        description="Print the guardians that there are, their hosts and programs.",
    )
    parser.add_argument("pid", metavar="PID", type=int, nargs="?", help="the host; default: all")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    chosen = parser.parse_args(arguments)
    return ps(chosen.pid, chosen.json)


if __name__ == "__main__":
    sys.exit(main_ps(sys.argv[2:]) if sys.argv[1:2] == ["ps"] else main())
