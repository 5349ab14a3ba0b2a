"""Hosts: processes of their own, each with one subject in one state, that take samples when asked.

So what a subject has open, or keeps alive, is no burden on the others, and they still take turns.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from .latency import times_blocking, times_on_loop
from .subjects import SLEEP, AsyncSubject, async_subjects, blocking_subjects

Ask = Callable[[], list[float]]

PR_SET_CHILD_SUBREAPER: Final = 36


@contextmanager
def hosts(codes: Mapping[str, str]) -> Iterator[dict[str, Ask]]:
    """Start a host for each of `codes`, Python that calls `serve`; gives what asks it for a sample.

    They end with the block, and all that they have started does. One that fails has no samples; its
    traceback goes to stderr.
    """
    _adopt_orphans(True)
    started: dict[str, _Host] = {}
    try:
        for name, code in codes.items():
            started[name] = _Host(code)
            started[name].wait_ready()  # one by one: they would be in each other's way
        yield {name: host.ask for name, host in started.items()}
    finally:
        for host in started.values():
            host.kill()
        for host in started.values():
            host.reap()
        _adopt_orphans(False)


def _adopt_orphans(whether: bool) -> None:
    """What a host leaves becomes our child: to be waited for, and counted as ours."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(whether))


class _Host:
    """A process, the leader of a session and of a process group with all that it starts."""

    def __init__(self, code: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        self._read()

    def ask(self) -> list[float]:
        """A sample; nothing if the host is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return []
        answer: list[float] = json.loads(self._read() or "[]")
        return answer

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # it was not waited for, so it is there

    def reap(self) -> None:
        """Wait for it, and for all that it has left."""
        with suppress(BrokenPipeError):
            self._process.communicate()
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-self._process.pid, 0)


def serve(prepare: Callable[[], Ask]) -> None:
    """For the host: prepare, then take samples. It ends with all that it has started."""
    assert os.getpid() == os.getpgrp()
    # What it starts does not inherit these.
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    try:
        take = prepare()
        print("ready", file=replies, flush=True)
        for _ in requests:
            gc.collect()
            gc.disable()
            found = take()
            gc.enable()
            print(json.dumps(found), file=replies, flush=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os.killpg(0, signal.SIGKILL)


class Starter:
    """The subject of a host, with a loop or without. Never closed: the host is killed."""

    def __init__(self, name: str) -> None:
        self._kept: list[object] = []
        self._stack = ExitStack()
        self._subject: AsyncSubject | None = None
        self._spawn = blocking_subjects().get(name)
        if self._spawn is None:
            (self._subject,) = self._stack.enter_context(async_subjects(name))

    def times(self, spawns: int) -> list[float]:
        """Microseconds for the start and wait of /bin/true, each."""
        if self._spawn is not None:
            return times_blocking(self._spawn, spawns)
        assert self._subject is not None
        return self._subject.run(times_on_loop(self._subject, spawns))

    def keep(self, count: int) -> None:
        """Start that many programs that live."""
        if self._spawn is not None:
            self._kept += [self._spawn(SLEEP) for _ in range(count)]
        else:
            assert self._subject is not None
            self._subject.run(self._keep(self._subject, count))

    async def _keep(self, subject: AsyncSubject, count: int) -> None:
        for _ in range(count):
            self._kept.append(await subject.create(*SLEEP))


def open_descriptors(count: int) -> list[int]:
    return [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]


def raise_descriptor_limit() -> None:
    """As far as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
