"""A real host, supervisord: helper programs inside it.

    pip install supervisor
    python supervisord_helper.py

supervisord hosts code of yours by the `rpcinterface` sections of its configuration. Each time that
one of the programs that it supervises prints something, or each second, it calls `waitpid(-1)`,
until no more comes. So it also takes the statuses of children that hosted code has started.

Here it supervises one program, which prints a lot, and hosts a thread, which runs 500 helpers that
exit with status 7, 20 at a time, by aiopidfd and then by asyncio. asyncio loses those that
supervisord is quicker to reap: it says 255, or on Python 3.12 and later raises ProcessLookupError,
and supervisord logs `reaped unknown pid N (exit status 7)`. aiopidfd's statuses are all right, and
supervisord notices nothing: no child, no SIGCHLD.

Then it stops. Exits with 0 if every status that aiopidfd reported is right.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiopidfd

try:
    from supervisor import events, loggers
    from supervisor.supervisord import main as supervisord_main
except ModuleNotFoundError:
    sys.exit("This runs inside supervisord: pip install supervisor")

PROGRAMS = 500
AT_ONCE = 20
STATUS = 7
COMMAND = ("/bin/sh", "-c", f"exit {STATUS}")

# Interfaces are made with the server that offers them, so there must be one.
CONFIGURATION = """
[supervisord]
nodaemon = true
silent = true
logfile = %(here)s/log
pidfile = %(here)s/pid
childlogdir = %(here)s

[unix_http_server]
file = %(here)s/socket

[rpcinterface:helpers]
supervisor.rpcinterface_factory = __main__:host_helpers

[program:talker]
command = /bin/sh -c "while echo something; do sleep 0.002; done"
stdout_logfile = NONE
stderr_logfile = NONE
startsecs = 0
stopasgroup = true
killasgroup = true
"""

Create = Callable[..., Awaitable[asyncio.subprocess.Process]]


class Act:
    """What a library reports of its helpers, and what supervisord notices of them."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.reported: Counter[int | str] = Counter()
        self.reaped = 0  # lines of supervisord's log that say so
        self.signals = 0  # SIGCHLD


# aiopidfd comes first: supervisord still has to do with asyncio's programs after the last of them.
LIBRARIES: dict[str, Create] = {
    "aiopidfd": aiopidfd.create_subprocess_exec,
    "asyncio": asyncio.create_subprocess_exec,
}
acts: list[Act] = []  # the last is the one that goes on, until
over = threading.Event()


async def run_programs(create: Create, reported: Counter[int | str]) -> None:
    async def run_one() -> int | str:
        try:
            process = await create(*COMMAND)
        except ProcessLookupError as exc:  # reaped before asyncio looked for it
            return type(exc).__name__
        return await process.wait()

    for _ in range(PROGRAMS // AT_ONCE):
        reported.update(await asyncio.gather(*(run_one() for _ in range(AT_ONCE))))


class Notices(loggers.Handler):
    """Counts what supervisord logs of processes that are none of its programs."""

    def emit(self, record: Any) -> None:
        if acts and record.msg.startswith("reaped unknown pid"):
            acts[-1].reaped += 1

    def close(self) -> None:
        """There is no stream to close."""


def host_helpers(supervisord: Any) -> object:
    """Called by supervisord while it starts. Returns an interface, here one without a method."""
    # asyncio logs a warning for each status that it lost.
    logging.getLogger("asyncio").setLevel(logging.ERROR)

    def helpers() -> None:
        try:
            for name, create in LIBRARIES.items():
                acts.append(Act(name))
                asyncio.run(run_programs(create, acts[-1].reported))
        finally:
            over.set()
            os.kill(os.getpid(), signal.SIGTERM)  # as an administrator stops supervisord

    def running(event: object) -> None:
        """Called when the talker runs. Supervisord's signal handlers are in place then."""
        theirs = signal.getsignal(signal.SIGCHLD)
        assert callable(theirs)

        def count(signum: int, frame: Any) -> None:
            if acts and not over.is_set():
                acts[-1].signals += 1
            theirs(signum, frame)

        signal.signal(signal.SIGCHLD, count)
        supervisord.options.logger.addHandler(Notices())
        threading.Thread(target=helpers).start()

    events.subscribe(events.ProcessStateRunningEvent, running)
    return object()


def row(*cells: object) -> str:
    widths = (10, 8, 8, 8, 40)
    aligned = (str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(aligned).rstrip()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "supervisord.conf")
        configuration.write_text(CONFIGURATION)
        supervisord_main(["-c", str(configuration)])

    print(f"{PROGRAMS} programs that exit with status {STATUS}, inside supervisord:\n")
    print(row("library", "right", "reaped", "SIGCHLDs", "reported"))
    for act in acts:
        reported = ", ".join(f"{what} ({times}x)" for what, times in act.reported.most_common())
        right = f"{act.reported[STATUS]}/{PROGRAMS}"
        print(row(act.library, right, act.reaped, act.signals, reported))
    cured = any(act.library == "aiopidfd" and act.reported[STATUS] == PROGRAMS for act in acts)
    return 0 if cured else 1


if __name__ == "__main__":
    sys.exit(main())
