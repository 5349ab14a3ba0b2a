"""A program in a cgroup of its own, with limits, from its first moment.

    python in_cgroup.py [--below DIRECTORY] [COMMAND ...]

Makes a cgroup (version 2) below its own, or below DIRECTORY; limits its memory to 256 MiB and its
processes to 64, where those controllers are there; runs the command in it, prints what it used,
kills what it has left behind, and removes the cgroup. Without a command it runs one that says where
it is and leaves a process behind. Exits with the command's status; with 2 where no cgroup can be
made, or nothing be started in it.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import aiopidfd

DEFAULT = ["sh", "-c", "grep ^0:: /proc/self/cgroup; sleep 600 & exit 3"]
LIMITS = {"memory.max": str(256 << 20), "pids.max": "64"}
USED = ("memory.peak", "pids.peak")


def our_own() -> Path:
    """The directory of the cgroup that we are in. LookupError: there is none to be seen."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    name = next((line[3:] for line in lines if line.startswith("0::")), "/")
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        _, _, _, root, where, *rest = mount.split()
        if rest[rest.index("-") + 1] == "cgroup2" and Path(name).is_relative_to(root):
            return Path(where) / Path(name).relative_to(root)
    raise LookupError("no cgroup v2 is mounted here")


def make(parent: Path) -> Path:
    if not (parent / "cgroup.controllers").exists():
        raise LookupError(f"{parent} is not a cgroup v2")
    return Path(tempfile.mkdtemp(prefix="in-cgroup-", dir=parent))


def limit(cgroup: Path) -> None:
    for name, value in LIMITS.items():
        if (cgroup / name).exists():
            (cgroup / name).write_text(value)
            print(f"{name}: {value}", flush=True)
        else:
            control = cgroup.parent / "cgroup.subtree_control"
            print(f"{name}: no such controller in {control}", flush=True)


async def clear(cgroup: Path) -> None:
    """Kill all that is in it (cgroup.kill: Linux 5.14), and wait until it is gone."""
    left = (cgroup / "cgroup.procs").read_text().split()
    print(f"left behind and killed: {len(left)}")
    (cgroup / "cgroup.kill").write_text("1")
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        await asyncio.sleep(0.01)


def used(cgroup: Path) -> None:
    cpu = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    print(f"CPU time: {int(cpu['usage_usec']) / 1000:.1f} ms")
    for name in USED:
        if (cgroup / name).exists():
            print(f"{name}: {(cgroup / name).read_text().strip()}")


async def main() -> int:
    parser = argparse.ArgumentParser(description="Run a program in a cgroup of its own.")
    parser.add_argument("--below", type=Path, metavar="DIRECTORY")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    try:
        cgroup = make(args.below or our_own())
    except (OSError, LookupError) as exc:
        print(f"no cgroup can be made: {exc}", file=sys.stderr)
        return 2
    try:
        limit(cgroup)
        command = args.command or DEFAULT
        process = await aiopidfd.create_subprocess_exec(*command, cgroup=cgroup)
        status = await process.wait()
        print(f"status: {status}")
        used(cgroup)
    except OSError as exc:
        print(exc, file=sys.stderr)
        return 2
    finally:
        await clear(cgroup)
        cgroup.rmdir()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
