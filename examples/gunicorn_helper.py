"""A real host, gunicorn: helper programs inside its arbiter.

    pip install gunicorn
    gunicorn -c gunicorn_helper.py

The arbiter is the process that supervises the workers. At each SIGCHLD it calls `waitpid(-1)` until
no more comes, so it also takes the statuses of children that a hook of yours has started. Here the
hook `when_ready` starts a thread, which runs 500 helpers that exit with status 7, 20 at a time, by
aiopidfd and then by asyncio.

asyncio loses those that the arbiter is quicker to reap: it says 255, or on Python 3.12 and
later raises ProcessLookupError. gunicorn 27 says of them, at level debug, that it reaped an unknown
child; gunicorn 26 takes them for workers and logs `Worker (pid:N) exited with code 7.` aiopidfd's
statuses are all right, and gunicorn notices nothing: no child, no SIGCHLD.

Then the server stops. Exits with 0 if every status that aiopidfd reported is right.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import aiopidfd

PROGRAMS = 500
AT_ONCE = 20
# Not 3: gunicorn 26 would shut the server down, as it reads "Worker failed to boot" in that.
STATUS = 7
COMMAND = ("/bin/sh", "-c", f"exit {STATUS}")

# What gunicorn reads of this file: settings, and further down hooks and the application.
bind = "127.0.0.1:0"
workers = 2
loglevel = "warning"
control_socket_disable = True
pythonpath = str(Path(__file__).parent)
wsgi_app = f"{Path(__file__).stem}:app"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served\n"]


Create = Callable[..., Awaitable[asyncio.subprocess.Process]]


class Act:
    """What a library reports of its helpers, and what the arbiter notices of them."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.reported: Counter[int | str] = Counter()
        self.reaped: set[int] = set()  # pids that gunicorn's log says it has reaped
        self.signals = 0  # SIGCHLD


# aiopidfd comes first: the arbiter still has to do with asyncio's programs after the last of them.
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


class Notices(logging.Handler):
    """Remembers the processes whose end gunicorn logs. No worker ends while the helpers run."""

    def emit(self, record: logging.LogRecord) -> None:
        if acts and record.msg.startswith(("Reaped unknown child", "Worker (pid:%s) exited")):
            assert isinstance(record.args, tuple)
            pid = record.args[0]
            assert isinstance(pid, int)
            acts[-1].reaped.add(pid)


def when_ready(server: Any) -> None:
    """Called by gunicorn in the arbiter, in the main thread, before it forks the workers."""
    log = server.log.error_log
    for handler in log.handlers:
        handler.setLevel(log.level)
    log.setLevel(logging.DEBUG)
    log.addHandler(Notices())
    # asyncio logs a warning for each status that it lost.
    logging.getLogger("asyncio").setLevel(logging.ERROR)

    theirs = signal.getsignal(signal.SIGCHLD)
    assert callable(theirs)

    def count(signum: int, frame: Any) -> None:
        if acts and not over.is_set():
            acts[-1].signals += 1
        theirs(signum, frame)

    signal.signal(signal.SIGCHLD, count)

    def helpers() -> None:
        try:
            while len(server.WORKERS) < server.num_workers:
                time.sleep(0.01)
            for name, create in LIBRARIES.items():
                acts.append(Act(name))
                asyncio.run(run_programs(create, acts[-1].reported))
        finally:
            over.set()
            os.kill(os.getpid(), signal.SIGTERM)  # as an administrator stops gunicorn

    threading.Thread(target=helpers).start()


def row(*cells: object) -> str:
    widths = (10, 8, 8, 8, 40)
    aligned = (str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(aligned).rstrip()


def on_exit(server: Any) -> None:
    """Called by gunicorn in the arbiter, when the workers are gone."""
    print(f"{PROGRAMS} programs that exit with status {STATUS}, inside gunicorn's arbiter:\n")
    print(row("library", "right", "reaped", "SIGCHLDs", "reported"))
    for act in acts:
        reported = ", ".join(f"{what} ({times}x)" for what, times in act.reported.most_common())
        right = f"{act.reported[STATUS]}/{PROGRAMS}"
        print(row(act.library, right, len(act.reaped), act.signals, reported))
    sys.stdout.flush()
    cured = any(act.library == "aiopidfd" and act.reported[STATUS] == PROGRAMS for act in acts)
    if not cured:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit("gunicorn runs this: pip install gunicorn && gunicorn -c gunicorn_helper.py")
