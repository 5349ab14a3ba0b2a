"""A function in a process of its own: with all that is in memory here, and unable to harm it.

    python in_fork.py

Counts the prime numbers below several limits, each in a forked process that has the sieve already;
one of them crashes, and only that one is lost. A host that ignores SIGCHLD loses no status.

Exits with 0 if so.
"""

import asyncio
import os
import signal
import sys

import aiopidfd

LIMIT = 200_000
SIEVE = bytearray(b"\1") * LIMIT  # copied by nobody: the forked processes share its pages
SIEVE[:2] = b"\0\0"
for number in range(2, int(LIMIT**0.5) + 1):
    SIEVE[number * number :: number] = bytes(len(range(number * number, LIMIT, number)))


def count_primes(below: int) -> int:
    if below > LIMIT:
        os.abort()
    return sum(SIEVE[:below])


async def main() -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as some host programs do
    limits = (100, 10_000, LIMIT, LIMIT + 1)
    calls = (aiopidfd.run_in_fork(count_primes, limit) for limit in limits)
    results = await asyncio.gather(*calls, return_exceptions=True)
    for limit, result in zip(limits, results, strict=True):
        if isinstance(result, aiopidfd.NoResultError):
            result = f"lost: returncode {result.returncode}"
        print(f"primes below {limit:,}: {result}")
    return 0 if results[:3] == [25, 1229, 17984] else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
