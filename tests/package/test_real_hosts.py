"""gunicorn and supervisord as they are installed: both reap `waitpid(-1)`.

A thread in gunicorn's arbiter, or in supervisord, runs helper programs: see hosted.py. With asyncio
the host takes their statuses, with aiopidfd it never learns of them, and supervises as ever.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support import LOOPS, SOURCES

ROOT = Path(__file__).parents[2]

# How many helpers of asyncio's at most, until the first is lost. On Python 3.11, where the fewest
# are, it is one in fifty or so.
MOST_RUNS = 20_000

SUPERVISORD = """
[supervisord]
nodaemon = true
loglevel = debug
logfile = %(here)s/supervisord.log
pidfile = %(here)s/pid
childlogdir = %(here)s

; Interfaces are made with the server that offers them, so there must be one.
[unix_http_server]
file = %(here)s/socket

[rpcinterface:helpers]
supervisor.rpcinterface_factory = tests.hosted:supervisord_interface

; supervisord reaps after each piece of output that it reads.
[program:talker]
command = /bin/sh -c "while echo something; do sleep 0.002; done"
stdout_logfile = NONE
stderr_logfile = NONE
stopasgroup = true
killasgroup = true

[program:kept]
command = sleep 600
stdout_logfile = NONE
stderr_logfile = NONE
startsecs = 0
"""


class Host:
    """A running gunicorn or supervisord, in a session and a folder of its own."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def seen(self) -> dict[str, Any]:
        """What the helpers' thread has told."""
        try:
            seen: dict[str, Any] = json.loads((self.folder / "seen.json").read_text())
        except FileNotFoundError:
            return {"runs": 0, "wrong": [], "sigchld": 0}
        assert not seen["failed"], seen["failed"]
        return seen

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until it is so; a minute is the hang guard."""
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.01)

    def until_more_runs(self, number: int) -> None:
        goal = self.seen()["runs"] + number
        self.until(lambda: self.seen()["runs"] >= goal)

    def until_one_is_lost(self) -> None:
        self.until(lambda: self.seen()["wrong"] or self.seen()["runs"] > MOST_RUNS)
        assert self.seen()["wrong"], "asyncio lost no status: this host is not hostile"

    def stop(self) -> None:
        """As an administrator does it."""
        (self.folder / "enough").touch()
        self.process.terminate()
        assert self.process.wait(60) == 0, self.output()
        deadline = time.monotonic() + 10  # what it has killed may still be on its way out
        while left := session(self.process.pid):
            assert time.monotonic() < deadline, left
            time.sleep(0.01)


def session(leader: int) -> dict[int, str]:
    """What lives in this session, as /proc has it. Zombies are init's by now."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = stat.read_text()
            state, _parent, _group, its_leader = text.rsplit(")", 1)[1].split()[:4]
            if int(its_leader) == leader and state not in {"Z", "X"}:
                found[int(stat.parent.name)] = text
    return found


@contextlib.contextmanager
def running(
    folder: Path, library: str, loop: str, module: str, *args: str | Path
) -> Iterator[Host]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{SOURCES}:{ROOT}",
        "HOSTED_LIBRARY": library,
        "HOSTED_LOOP": loop,
    }
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Host(process, folder)
    finally:
        if process.poll() is None:  # the test has failed
            process.kill()
            for pid in session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def gunicorn(folder: Path, library: str, loop: str) -> contextlib.AbstractContextManager[Host]:
    return running(folder, library, loop, "gunicorn", "-c", "python:tests.hosted")


def supervisord(folder: Path, library: str, loop: str) -> contextlib.AbstractContextManager[Host]:
    configuration = folder / "supervisord.conf"
    configuration.write_text(SUPERVISORD)
    return running(
        folder, library, loop, "supervisor.supervisord", "-c", configuration, "--nodaemon"
    )


def served_by(host: Host) -> int:
    """The pid of the worker that answered a request."""
    address, port = (host.folder / "address").read_text().split()
    connection = http.client.HTTPConnection(address, int(port), timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 200
        return int(response.read())


def logged_pids(pattern: str, text: str) -> list[int]:
    return [int(pid) for pid in re.findall(pattern, text)]


def workers(host: Host) -> list[int]:
    return logged_pids(r"Booting worker with pid: (\d+)", host.output())


def not_workers(host: Host) -> list[int]:
    """Whose end gunicorn has logged although it was no worker: since 27 it says so."""
    ended = logged_pids(r"Worker \(pid:(\d+)\)", host.output())
    unknown = logged_pids(r"Reaped unknown child process \(pid:(\d+)", host.output())
    return [pid for pid in ended + unknown if pid not in workers(host)]


@pytest.mark.heavy
@pytest.mark.parametrize("loop", LOOPS)
def test_gunicorn_supervises_its_workers_and_sees_no_helper(tmp_path: Path, loop: str) -> None:
    with gunicorn(tmp_path, "aiopidfd", loop) as host:
        host.until_more_runs(200)
        host.until(lambda: len(workers(host)) == 2)
        assert host.seen()["sigchld"] == 0

        killed = served_by(host)
        os.kill(killed, signal.SIGKILL)
        # Served all the time, and by the successor in the end.
        host.until(lambda: served_by(host) not in {killed, *workers(host)[:2]})

        host.until_more_runs(200)
        seen = host.seen()
        assert seen["wrong"] == []
        assert seen["sigchld"] == 1  # the worker's
        host.stop()
    assert f"Worker (pid:{killed}) was sent SIGKILL!" in host.output()
    assert len(workers(host)) == 3
    assert not_workers(host) == []


def test_gunicorn_takes_asyncio_s_helpers(tmp_path: Path) -> None:
    """The control: gunicorn is a host that robs its own helpers."""
    with gunicorn(tmp_path, "asyncio", "asyncio") as host:
        host.until_one_is_lost()
        assert host.seen()["sigchld"] > 0
        host.until(lambda: not_workers(host))
        host.stop()


REAPED = r"reaped unknown pid (\d+)"


@pytest.mark.heavy
@pytest.mark.parametrize("loop", LOOPS)
def test_supervisord_supervises_its_programs_and_sees_no_helper(tmp_path: Path, loop: str) -> None:
    def kept() -> list[int]:
        return logged_pids(r"spawned: 'kept' with pid (\d+)", host.output())

    with supervisord(tmp_path, "aiopidfd", loop) as host:
        host.until_more_runs(200)
        assert host.seen()["sigchld"] == 0

        os.kill(kept()[0], signal.SIGKILL)
        host.until(lambda: len(kept()) == 2)

        host.until_more_runs(200)
        seen = host.seen()
        assert seen["wrong"] == []
        assert seen["sigchld"] == 1  # the killed one's
        host.stop()
    assert "exited: kept (terminated by SIGKILL; not expected)" in host.output()
    assert logged_pids(REAPED, host.output()) == []


@pytest.mark.heavy
def test_supervisord_takes_asyncio_s_helpers(tmp_path: Path) -> None:
    """The control: supervisord is a host that robs its own helpers."""
    with supervisord(tmp_path, "asyncio", "asyncio") as host:
        host.until_one_is_lost()
        assert host.seen()["sigchld"] > 0
        host.until(lambda: logged_pids(REAPED, host.output()))
        host.stop()


EXAMPLES = {
    "gunicorn_helper.py": ("-m", "gunicorn", "-c"),
    "supervisord_helper.py": (),
}


def run_example(example: str, folder: Path) -> tuple[list[str], list[str]]:
    """What it prints of aiopidfd and of asyncio."""
    result = subprocess.run(
        [sys.executable, *EXAMPLES[example], ROOT / "examples" / example],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines() if "/500" in line]
    ours, theirs = rows
    return ours, theirs


@pytest.mark.heavy
@pytest.mark.parametrize("example", EXAMPLES)
def test_example(tmp_path: Path, example: str) -> None:
    for _ in range(5):  # the host need not win against any of 500
        ours, theirs = run_example(example, tmp_path)
        assert ours == ["aiopidfd", "500/500", "0", "0", "7 (500x)"]
        library, right, reaped, signals, reported = theirs
        assert library == "asyncio"
        lost = 500 - int(right.removesuffix("/500"))
        assert int(reaped) == lost
        assert int(signals) > 0
        if lost:
            break
    assert lost > 0
    assert "255 (" in reported or "ProcessLookupError (" in reported
