"""Programs that are started, and how each must end."""

import errno
import os
import random
import resource
import signal
from dataclasses import dataclass
from typing import Any

from aiopidfd import DEVNULL, PIPE

from .world import World, WrongError

ENDLESS = ("/bin/sleep", "10")
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1)
FAILING: list[tuple[tuple[str, ...], dict[str, Any], int]] = [
    (("/nowhere/at/all",), {}, errno.ENOENT),
    (("not-in-the-path-at-all",), {}, errno.ENOENT),
    (("/etc/passwd",), {}, errno.EACCES),
    (("/bin/true",), {"cwd": "/nowhere"}, errno.ENOENT),
    (("/bin/true",), {"cwd": "/etc/passwd"}, errno.ENOTDIR),
]


def sh(script: str) -> tuple[str, ...]:
    """A command for the shell."""
    return ("/bin/sh", "-c", script)


@dataclass
class Program:
    """A program, its options, and what comes of it."""

    command: tuple[str, ...]
    options: dict[str, Any]
    codes: tuple[int, ...]
    output: int | None = None  # bytes on stdout, where that is a pipe

    def check(self, world: World, code: int | None, guardian: int, output: bytes | None) -> None:
        """See that it has ended so."""
        codes = self.codes
        is_bound = self.options.get("die_with_parent") or self.options.get("contain")
        if is_bound and guardian in world.killed:
            codes = (*codes, -signal.SIGKILL)
        world.check(str(self.command), code, guardian, *codes)
        if self.output is None or output is None or code not in self.codes:
            return
        if len(output) != self.output:
            raise WrongError(f"{self.command}: {len(output)} bytes, not {self.output}")


def options(luck: random.Random, world: World, null: int) -> dict[str, Any]:
    """Options that change nothing about how a program ends."""
    chosen: dict[str, Any] = {}
    if luck.random() < 0.2:
        chosen["contain"] = True
    if luck.random() < 0.1:
        chosen["user"] = os.getuid()
    if luck.random() < 0.2:
        chosen["cwd"] = luck.choice(["/", "/usr"])
    if luck.random() < 0.2:
        chosen["pass_fds"] = [null]
    if luck.random() < 0.2:
        chosen["start_new_session"] = True
    if luck.random() < 0.2:
        chosen["env"] = {"PATH": "/usr/bin:/bin", "FILLER": "x" * luck.randrange(5000)}
    if luck.random() < 0.1 and "pass_fds" not in chosen:
        chosen["close_fds"] = False
    if luck.random() < 0.1:
        chosen["die_with_parent"] = True
    if world.limited:  # its own limit is the library's business only until it runs
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        chosen["rlimits"] = {"NOFILE": (min(1024, hard), hard)}
    return chosen


def ending(luck: random.Random, world: World, null: int) -> Program:
    """A program that ends by itself, soon."""
    chosen = options(luck, world, null)
    code = luck.randrange(256)
    if luck.random() < 0.25:
        size = luck.choice([0, 1, 5000, 200_000, 1_000_000])
        chosen["stdout"] = PIPE
        return Program(("/usr/bin/head", "-c", str(size), "/dev/zero"), chosen, (0,), size)
    chosen["stdout"] = luck.choice([None, DEVNULL, null])
    if luck.random() < 0.1:
        number = luck.choice(SIGNALS)
        return Program(sh(f"kill -{int(number)} $$"), chosen, (-number,))
    if luck.random() < 0.3:
        return Program(sh(f"sleep {luck.random() / 5:.3f}; exit {code}"), chosen, (code,))
    return Program(sh(f"exit {code}"), chosen, (code,))


def endless(luck: random.Random, world: World, null: int) -> Program:
    """A program that runs until it is signalled."""
    return Program(ENDLESS, {**options(luck, world, null), "stdout": DEVNULL}, ())
