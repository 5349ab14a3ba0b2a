"""`python -m aiopidfd`: what this kernel offers, and which way children will be made."""

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


if __name__ == "__main__":
    sys.exit(main())
