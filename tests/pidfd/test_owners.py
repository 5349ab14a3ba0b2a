"""What owns descriptors can be neither copied nor pickled, and says who and how it is."""

import asyncio
import copy
import multiprocessing.reduction
import os
import pickle
import re
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE, PTY, PidFd

from ..anyio_support import BACKENDS, Backend, backends
from ..census import open_fds
from ..support import hang_guard

WAYS: dict[str, Callable[[Any], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "multiprocessing": multiprocessing.reduction.ForkingPickler.dumps,
    **{f"pickle {n}": lambda it, n=n: pickle.dumps(it, n) for n in range(6)},
}
ADDRESS = re.compile(r" at 0x")


def is_one_of_a_kind(*owners: Any) -> None:
    before = open_fds()
    for owner in owners:
        assert owner is not None
        for way in WAYS.values():
            with pytest.raises(TypeError) as caught:
                way(owner)
            assert str(caught.value) == f"cannot pickle {type(owner).__name__!r} object"
    assert open_fds() == before


def test_as_a_socket() -> None:
    with socket.socket() as theirs, pytest.raises(TypeError, match="cannot pickle 'socket' object"):
        copy.copy(theirs)


def test_handles() -> None:
    with aiopidfd.spawn(["sleep", "1000"]) as child, PidFd.from_process(child) as handle:
        is_one_of_a_kind(child, handle, child.handle(), handle.hold())
        assert repr(child) == f"<Child pid={child.pid} running>"
        assert repr(handle) == f"<PidFd pid={child.pid} running fd={handle.fileno()}>"
        child.kill()
        child.wait()
        assert repr(child) == f"<Child pid={child.pid} returncode=-9>"
        assert repr(handle) == f"<PidFd exited fd={handle.fileno()}>"
    assert repr(handle) == "<PidFd closed>"
    is_one_of_a_kind(handle)


def test_what_is_lent_is_lent_once() -> None:
    with PidFd.open(os.getpid()) as handle, aiopidfd.spawn(["sleep", "1000"]) as child:
        for name, lent in (("hold", handle.hold()), ("handle", child.handle())):
            with lent as fd:
                assert fd >= 0
                with pytest.raises(RuntimeError, match=f"^{name}.. lends a descriptor once: call"):
                    lent.__enter__()
            with pytest.raises(RuntimeError, match=f"^{name}.. lends a descriptor once: call"):
                lent.__enter__()
        child.kill()


def test_a_subclass_says_its_own_name() -> None:
    class Mine(PidFd):
        pass

    with Mine.open(os.getpid()) as handle:
        is_one_of_a_kind(handle)
        assert repr(handle) == f"<Mine pid={os.getpid()} running fd={handle.fileno()}>"


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("choice", [PIPE, PTY])
async def test_a_process(choice: int, text: bool) -> None:
    with hang_guard():
        process: Any = await aiopidfd.create_subprocess_exec(
            "cat", stdin=choice, stdout=choice, stderr=PIPE, text=text
        )
        streams = (process.stdin, process.stdout, process.stderr)
        below = [getattr(stream, "buffer", stream) for stream in streams]
        pipes = [stream.transport for stream in below]
        is_one_of_a_kind(process, *streams, *below, *pipes)
        names = ("stdin", "stdout", "stderr")
        said = " ".join(f"{name}={pipe!r}" for name, pipe in zip(names, pipes, strict=True))
        kind = type(process).__name__
        assert repr(process) == f"<{kind} pid={process.pid} running {said}>"
        for pipe in pipes:
            assert repr(pipe) == f"<{type(pipe).__name__} open fd={pipe.fileno()}>"
        for stream, pipe in zip(streams, pipes, strict=True):
            assert repr(stream).startswith(f"<{type(stream).__name__} ")
            assert repr(pipe) in repr(stream)
            assert not ADDRESS.search(repr(stream))
        if text:
            assert "encoding='" in repr(process.stdout)
        if choice == PTY:
            is_one_of_a_kind(process._terminal)
            assert repr(process._terminal).startswith("<Terminal open fd=")
        await process.aclose()
        assert repr(process.stdout).endswith(">")
        assert [repr(pipe) for pipe in pipes] == [f"<{type(p).__name__} closed>" for p in pipes]


async def test_a_transport() -> None:
    loop = asyncio.get_running_loop()
    aiopidfd.install(loop)
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "cat", stderr=None)
    pipes: list[Any] = [transport.get_pipe_transport(number) for number in (0, 1)]
    is_one_of_a_kind(transport, transport.get_extra_info("subprocess"), *pipes)
    assert repr(transport) == (
        f"<SubprocessTransport pid={transport.get_pid()} running "
        f"stdin={pipes[0]!r} stdout={pipes[1]!r}>"
    )
    transport.close()
    with hang_guard():
        await transport._wait()
    aiopidfd.uninstall(loop)


@backends(*BACKENDS)
@pytest.mark.parametrize("choice", [PIPE, PTY])
def test_on_anyio(backend: Backend, choice: int) -> None:
    async def body() -> None:
        async with await aiopidfd.anyio.open_process(
            ["cat"], stdin=choice, stdout=choice, stderr=PIPE
        ) as process:
            streams: list[Any] = [process.stdin, process.stdout, process.stderr]
            is_one_of_a_kind(process, *streams)
            names = ("stdin", "stdout", "stderr")
            said = " ".join(f"{name}={pipe!r}" for name, pipe in zip(names, streams, strict=True))
            assert repr(process) == f"<Process pid={process.pid} running {said}>"
            for stream in streams:
                kind = type(stream).__name__
                assert repr(stream) == f"<{kind} open fd={stream.fileno()}>"
            process.kill()
        assert [repr(s) for s in streams] == [f"<{type(s).__name__} closed>" for s in streams]
        assert repr(process).startswith(f"<Process pid={process.pid} returncode=-9 ")

    backend.run(body)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="no child watchers any more")
def test_a_child_watcher() -> None:
    watcher = aiopidfd.PidfdChildWatcher()
    is_one_of_a_kind(watcher)
    assert repr(watcher) == "<PidfdChildWatcher watches []>"
    watcher.close()
    assert repr(watcher) == "<PidfdChildWatcher closed>"
