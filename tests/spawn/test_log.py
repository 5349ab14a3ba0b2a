"""The logger "aiopidfd" at DEBUG: each start and each exit, once; and nothing when it is off."""

import logging
import os
import resource
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd._spawn import log
from aiopidfd._spawn.program import Program

from ..anyio_support import BACKENDS, Backend
from ..census import child_pids
from ..support import sh


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    seen: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler = Handler()
    logger = logging.getLogger("aiopidfd")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield seen
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    names = ("event", "pid", "command", "status", "seconds", "rusage")
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


def test_a_start_and_an_exit(
    backend: Backend, records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    # xdist cannot send pytest's copy of the log: no text with surrogates.
    monkeypatch.setattr(logging.getLogger("aiopidfd"), "propagate", False)

    async def body() -> None:
        process = await aiopidfd.anyio.open_process(
            [*sh("sleep 0.05; exit 3"), "a b", b"\xff"], stdin=None, stdout=None, stderr=None
        )
        assert await process.wait() == 3
        start, end = records
        command = ["/bin/sh", "-c", "sleep 0.05; exit 3", "sh", "a b", "\udcff"]
        assert fields(start) == {"event": "start", "pid": process.pid, "command": command}
        found = fields(end)
        assert found.pop("seconds") > 0
        usage = found.pop("rusage")
        assert isinstance(usage, resource.struct_rusage)
        assert usage.ru_maxrss > 0
        assert found == {"event": "exit", "pid": process.pid, "command": command, "status": 3}
        assert start.getMessage() == (
            f"started pid {process.pid}: /bin/sh -c 'sleep 0.05; exit 3' sh 'a b' '\udcff'"
        )
        assert f"pid {process.pid} has ended with 3 after " in end.getMessage()
        assert {record.levelno for record in records} == {logging.DEBUG}

    backend.run(body)


def test_by_signal_and_without_a_loop(records: list[logging.LogRecord]) -> None:
    child = aiopidfd.spawn(["sleep", "1000"])
    child.kill()
    child.wait()
    forked = aiopidfd.fork()
    if forked is None:
        os._exit(5)
    forked.wait()
    assert [(r.event, r.pid, getattr(r, "status", None)) for r in records] == [  # type: ignore[attr-defined]
        ("start", child.pid, None),
        ("exit", child.pid, -signal.SIGKILL),
        ("start", forked.pid, None),
        ("exit", forked.pid, 5),
    ]


def test_a_start_that_fails_is_no_start(records: list[logging.LogRecord]) -> None:
    with pytest.raises(FileNotFoundError):
        aiopidfd.spawn(["/no/such/program"])
    assert not records


def test_without_its_guardian(records: list[logging.LogRecord]) -> None:
    child = aiopidfd.spawn(["sleep", "1000"])
    os.kill(child.guardian_pid, signal.SIGKILL)
    while child_pids():
        child.poll()
    child.kill()
    code = child.wait()
    *_, end = records
    assert fields(end)["status"] == code
    assert fields(end)["rusage"] is None


def test_once_however_many_wait(records: list[logging.LogRecord]) -> None:
    for _ in range(20):
        child = aiopidfd.spawn(sh("sleep 0.01"))
        threads = [threading.Thread(target=child.wait) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [fields(record)["event"] for record in records] == ["start", "exit"]
        records.clear()


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.CRITICAL])
def test_off_nothing_is_computed(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(program: Program) -> list[str]:
        raise AssertionError("the command was put into words")

    monkeypatch.setattr(log, "_command", refuse)
    logger = logging.getLogger("aiopidfd")
    logger.setLevel(level)
    try:
        assert aiopidfd.spawn(sh("exit 3")).wait() == 3
    finally:
        logger.setLevel(logging.NOTSET)
