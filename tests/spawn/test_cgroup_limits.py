"""Programs in cgroups with limits on processes, memory and CPU time.

The controllers must be had on cgroup v2, below our own cgroup: `tools/kernels.py` boots kernels
where they are.
"""

import asyncio
import errno
import signal
from pathlib import Path

import pytest

import aiopidfd

from .. import fresh
from ..support import hang_guard, python, sh, until
from .test_cgroup import by_each_method, controller
from .test_cgroup import cgroup as cgroup
from .test_cgroup import method as method

LONG = 120  # seconds for the hang guard, where little CPU time is to be had


def counted(file: Path) -> dict[str, int]:
    """What a file with lines of a name and a number says."""
    lines = file.read_text().splitlines()
    return {name: int(number) for name, number in map(str.split, lines)}


# pids.max

FILL = """if True:
    import os, time
    try:
        while os.fork():
            pass
    except BlockingIOError:
        print("full", flush=True)
    time.sleep(600)
"""


@by_each_method
@pytest.mark.parametrize("contain", [False, True])
async def test_a_tree_that_has_reached_pids_max_is_ended(cgroup: Path, contain: bool) -> None:
    """That takes no process more in there: the guardian is not in it."""
    with controller(cgroup.parent, "pids"), hang_guard(LONG):
        (cgroup / "pids.max").write_text("5")
        process = await aiopidfd.create_subprocess_exec(
            *python(FILL), cgroup=cgroup, contain=contain, stdout=aiopidfd.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"full\n"
        assert (cgroup / "pids.current").read_text() == "5\n"
        assert counted(cgroup / "pids.events")["max"] >= 1
        if contain:
            process.kill()
        else:
            assert await process.kill_tree()
        assert await process.wait_tree() == -signal.SIGKILL
        assert (cgroup / "cgroup.procs").read_text() == ""


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("contain", [False, True])
def test_our_own_pids_max(cgroup: Path, tasks: int, contain: bool) -> None:
    """There is room for us alone, or for a guardian but not for its program."""
    with controller(cgroup.parent, "pids"):
        output = fresh.run(
            f"""
            cgroup = pathlib.Path({str(cgroup)!r})
            assert aiopidfd.spawn(["true"], contain={contain}).wait() == 0 and childless()
            (cgroup / "cgroup.procs").write_text("0")
            before = open_fds().keys()
            (cgroup / "pids.max").write_text("{tasks}")
            try:
                aiopidfd.spawn(["true"], contain={contain})
            except BlockingIOError as exc:
                print(exc.errno == errno.EAGAIN)
            assert childless() and not _native.records() and open_fds().keys() == before
            (cgroup / "pids.max").write_text("3")
            print(aiopidfd.spawn(["true"], contain={contain}).wait())
            """
        )
        assert output == "True\n0\n"


def test_a_program_elsewhere_does_not_count_in_ours(cgroup: Path) -> None:
    """By clone3 it is born there; by clone(2) it is ours first, and there is no room for it."""
    host, place = cgroup / "host", cgroup / "place"
    host.mkdir(), place.mkdir()
    with controller(cgroup.parent, "pids"), controller(cgroup, "pids"):
        output = fresh.run(
            f"""
            host = pathlib.Path({str(host)!r})
            (host / "cgroup.procs").write_text("0")
            (host / "pids.max").write_text("2")
            print(aiopidfd.spawn(["true"], cgroup={str(place)!r}).wait() if childless() else None)
            assert childless()
            seccomp.install((seccomp.CLONE3, errno.ENOSYS))
            try:
                aiopidfd.spawn(["true"], cgroup={str(place)!r})
            except BlockingIOError as exc:
                print(exc.errno == errno.EAGAIN)
            """
        )
    assert output == "0\nTrue\n"


# memory.max


def limit_memory(cgroup: Path, limit: int) -> None:
    (cgroup / "memory.max").write_text(str(limit))
    if (cgroup / "memory.swap.max").exists():
        (cgroup / "memory.swap.max").write_text("0")


HOG = "len(b'x' * (1 << 28))"


@by_each_method
async def test_a_program_that_takes_more_than_memory_max(cgroup: Path) -> None:
    """The kernel kills it; the guardian is not in there, and tells."""
    with controller(cgroup.parent, "memory"), hang_guard(LONG):
        limit_memory(cgroup, 64 << 20)
        result = await aiopidfd.run_process(python(HOG), cgroup=cgroup, check=False)
        assert result.returncode == -signal.SIGKILL
        assert counted(cgroup / "memory.events")["oom_kill"] == 1


@by_each_method
@pytest.mark.parametrize("by", ["memory.oom.group", "contain"])
async def test_nothing_of_its_tree_is_left_then(cgroup: Path, by: str) -> None:
    """The kernel kills all that is in the cgroup if told so; `contain` the rest if not."""
    with controller(cgroup.parent, "memory"), hang_guard(LONG):
        limit_memory(cgroup, 64 << 20)
        if by == "memory.oom.group":
            (cgroup / by).write_text("1")
        process = await aiopidfd.create_subprocess_exec(
            *sh('setsid sleep 600 & exec "$@"', *python(HOG)),
            cgroup=cgroup,
            contain=by == "contain",
        )
        assert await process.wait_tree() == -signal.SIGKILL
        await until(lambda: not (cgroup / "cgroup.procs").read_text())


@by_each_method
@pytest.mark.parametrize("ids", [{}, {"extra_groups": []}])
async def test_a_memory_max_that_is_too_small_for_a_start(
    cgroup: Path, ids: dict[str, list[int]]
) -> None:
    """It is our memory that the program runs on before its exec, but the kernel spares us.

    While a child is in vfork, the OOM killer leaves it alone (in_vfork() in mm/oom_kill.c), and so
    those that share its memory.
    """
    with controller(cgroup.parent, "memory"), hang_guard(LONG):
        outcomes = []
        for limit in (0, *(1 << n for n in range(14, 26))):
            limit_memory(cgroup, limit)
            try:
                result = await aiopidfd.run_process(["true"], cgroup=cgroup, check=False, **ids)
                outcomes.append(result.returncode)
            except OSError as exc:
                assert exc.errno in {errno.ENOMEM, errno.E2BIG}, exc  # noqa: PT017
                outcomes.append(exc.errno)
            assert (cgroup / "cgroup.procs").read_text() == ""
        assert outcomes[-1] == 0
        assert set(outcomes[:-1]) <= {0, -signal.SIGKILL, errno.ENOMEM, errno.E2BIG}
        assert outcomes[0] != 0, outcomes


# cpu.max


@by_each_method
@pytest.mark.parametrize("contain", [False, True])
async def test_where_little_cpu_time_is_to_be_had(cgroup: Path, contain: bool) -> None:
    """Programs are started there all the same, and are ended."""
    with controller(cgroup.parent, "cpu"), hang_guard(LONG):
        (cgroup / "cpu.max").write_text("10000 100000")
        process = await aiopidfd.create_subprocess_exec(
            *sh("(while :; do :; done) & while :; do :; done"), cgroup=cgroup, contain=contain
        )
        await until(lambda: counted(cgroup / "cpu.stat")["nr_throttled"] >= 3)
        others = [aiopidfd.run_process(["true"], cgroup=cgroup) for _ in range(3)]
        assert [result.returncode for result in await asyncio.gather(*others)] == [0, 0, 0]
        if contain:
            process.kill()
        else:
            assert await process.kill_tree()
        assert await process.wait_tree() == -signal.SIGKILL
        assert (cgroup / "cgroup.procs").read_text() == ""
