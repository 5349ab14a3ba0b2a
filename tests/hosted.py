"""What runs inside the hosts of test_real_hosts.py: in gunicorn's arbiter, or in supervisord.

A thread of the host runs rounds of helper programs, until a file named `enough` is there. What was
seen so far stands in `seen.json` after each round. Which library and which loop run the helpers is
said by the environment.
"""

import asyncio
import json
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import aiopidfd

from .support import LOOPS

AT_ONCE = 20
# 3 and 4 are what a gunicorn worker exits with to shut the server down.
STATUSES = (0, 1, 3, 4, 7, 255)

LIBRARIES = {
    "aiopidfd": aiopidfd.create_subprocess_exec,
    "asyncio": asyncio.create_subprocess_exec,
}


class Helpers(threading.Thread):
    """Runs the helpers, and remembers what came of them."""

    def __init__(self, ready: Callable[[], bool] = lambda: True) -> None:
        super().__init__(name="helpers")
        self.ready = ready
        self.create = LIBRARIES[os.environ["HOSTED_LIBRARY"]]
        self.loop_factory = LOOPS[os.environ["HOSTED_LOOP"]]
        self.folder = Path.cwd()
        # Helpers run; [expected, reported] of those that went wrong; SIGCHLDs that the host had;
        # an exception of this thread.
        self.seen: dict[str, Any] = {"runs": 0, "wrong": [], "sigchld": 0, "failed": ""}

    def count_sigchld(self) -> None:
        """Goes before the host's own handler. To be called in the main thread."""
        theirs: Any = signal.getsignal(signal.SIGCHLD)
        assert callable(theirs), theirs

        def count(signum: int, frame: Any) -> None:
            self.seen["sigchld"] += 1
            theirs(signum, frame)

        signal.signal(signal.SIGCHLD, count)

    def run(self) -> None:
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # a warning for each lost status
        try:
            while not self.ready():
                time.sleep(0.01)
            with asyncio.Runner(loop_factory=self.loop_factory) as runner:
                while not (self.folder / "enough").exists():
                    runner.run(self.round())
                    self.tell()
        except BaseException:
            self.seen["failed"] = traceback.format_exc()
            self.tell()

    async def round(self) -> None:
        expected = [STATUSES[number % len(STATUSES)] for number in range(AT_ONCE)]
        reported = await asyncio.gather(*map(self.run_one, expected))
        self.seen["runs"] += AT_ONCE
        pairs = zip(expected, reported, strict=True)
        self.seen["wrong"] += [pair for pair in pairs if pair[0] != pair[1]]

    async def run_one(self, status: int) -> int | str:
        try:
            process = await self.create("/bin/sh", "-c", f"exit {status}")
        except ProcessLookupError as exc:  # asyncio's, on Python 3.12: reaped before it looked
            return repr(exc)
        return await process.wait()

    def tell(self) -> None:
        new = self.folder / "seen.json.new"
        new.write_text(json.dumps(self.seen))
        new.replace(self.folder / "seen.json")


# gunicorn -c python:tests.hosted

bind = "127.0.0.1:0"
workers = 2
loglevel = "debug"
control_socket_disable = True
wsgi_app = "tests.hosted:app"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Served by a worker, which says its pid."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def when_ready(server: Any) -> None:
    host, port = server.LISTENERS[0].sock.getsockname()
    Path("address.new").write_text(f"{host} {port}")
    Path("address.new").replace("address")
    helpers = Helpers(lambda: len(server.WORKERS) == server.num_workers)
    helpers.count_sigchld()
    helpers.start()


# [rpcinterface:helpers] supervisor.rpcinterface_factory = tests.hosted:supervisord_interface


def supervisord_interface(supervisord: Any) -> object:
    from supervisor import events  # here, as gunicorn has no need of it

    helpers = Helpers(lambda: len(supervisord.options.pidhistory) == 2)

    def running(event: object) -> None:
        helpers.count_sigchld()
        helpers.start()

    events.subscribe(events.SupervisorRunningEvent, running)
    return object()
