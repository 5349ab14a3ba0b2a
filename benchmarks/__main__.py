"""`python -m benchmarks [--quick] [--json FILE] [NAME ...]`: measure, print medians and ratios.

All subjects take turns within one run, in an order that is shuffled each round, so that a noisy
moment of the machine hits all of them. Always exits with 0: this is a benchmark, not a test.
`python -m benchmarks.plot` draws what was written to FILE.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from . import (
    capture,
    descriptors,
    environment,
    gap,
    imports,
    latency,
    lines,
    live,
    many,
    memory,
    opened,
    pressure,
    run,
    writes,
)
from .machine import Others, describe

MEASUREMENTS = {
    "gap": gap.measure,
    "latency": latency.measure,
    "run": run.measure,
    "many": many.measure,
    "live": live.measure,
    "open": opened.measure,
    "memory": memory.measure,
    "descriptors": descriptors.measure,
    "capture": capture.measure,
    "lines": lines.measure,
    "writes": writes.measure,
    "pressure": pressure.measure,
    "env": environment.measure,
    "import": imports.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, less to be trusted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    arguments = parser.parse_args()
    if unknown := set(arguments.names).difference(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")

    print(describe(), flush=True)
    measured: list[dict[str, Any]] = []
    for name in arguments.names or MEASUREMENTS:
        others = Others()
        tables = MEASUREMENTS[name](quick=arguments.quick)
        meanwhile = others.describe()
        for table in tables:
            print(f"\n{table.text()}")
            measured.append({"name": name, **table.data(), "meanwhile": meanwhile})
        print(f"  {meanwhile}", flush=True)
        if arguments.json is not None:  # after each: a run that is interrupted has left something
            run = {
                "python": platform.python_version(),
                "machine": describe(),
                "quick": arguments.quick,
                "measurements": measured,
            }
            arguments.json.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
