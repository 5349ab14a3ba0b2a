"""`python -m benchmarks [--quick] [NAME ...]`: measure, and print tables of medians and ratios.

All subjects take turns within one run, in an order that is shuffled each round, so that a noisy
moment of the machine hits all of them. Always exits with 0: this is a benchmark, not a test.
"""

import argparse

from . import capture, gap, latency, many, pressure
from .machine import Others, describe

MEASUREMENTS = {
    "gap": gap.measure,
    "latency": latency.measure,
    "many": many.measure,
    "capture": capture.measure,
    "pressure": pressure.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, less to be trusted")
    arguments = parser.parse_args()
    if unknown := set(arguments.names).difference(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")

    print(describe(), flush=True)
    for name in arguments.names or MEASUREMENTS:
        print()
        others = Others()
        print(MEASUREMENTS[name](quick=arguments.quick))
        print(f"  {others.describe()}", flush=True)


if __name__ == "__main__":
    main()
