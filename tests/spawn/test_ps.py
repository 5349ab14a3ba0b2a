"""`python -m aiopidfd ps`: what /proc shows of guardians, here and in other processes."""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopidfd
from aiopidfd._spawn.ps import Guarded, guarded, ps

from .. import fresh
from ..support import SOURCES, gate, proc_status, sh
from .test_trees import as_root


def run(*args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": SOURCES}
    command = [sys.executable, "-W", "error", "-m", "aiopidfd", "ps", *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def found(pid: int | None) -> Guarded:
    (one,) = [one for one in guarded(os.getpid()) if one.pid == pid]
    return one


@contextlib.contextmanager
def spawned(*command: str, **options: Any) -> Iterator[aiopidfd.Child]:
    child = aiopidfd.spawn(command, **options)
    try:
        # A start is told before the kernel has put the arguments into the program's memory.
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes():
            time.sleep(0.001)
        yield child
    finally:
        child.kill_tree()
        child.wait()


def test_a_program_and_a_contained_one() -> None:
    since = time.time()
    with spawned("sleep", "1000") as plain, spawned("sleep", "1000", contain=True) as contained:
        while found(contained.pid).contained is not True:  # it locks itself in in a moment
            pass
        for child in (plain, contained):
            one = found(child.pid)
            assert one.guardian == child.guardian_pid
            assert one.host == os.getpid()
            assert one.host_command[0] == sys.orig_argv[0]
            assert one.command == ["sleep", "1000"]
            assert one.contained is (child is contained)
            assert one.processes == 1
            assert one.started is not None
            assert since - 2 < one.started < time.time() + 2  # btime is in whole seconds


def test_a_tree() -> None:
    script = "(setsid sh -c 'sleep 1000 & sleep 1000' &); sleep 1000 & wait"
    with spawned(*sh(script)) as child:
        while found(child.pid).processes != 5:
            time.sleep(0.001)
        assert len(child.children()) == 4
        assert found(child.pid).command == list(sh(script))


def test_what_stays_when_the_program_has_exited() -> None:
    with gate() as (read, release, _):
        child = aiopidfd.spawn(sh("setsid sleep 1000 & read line"), stdin=read)
        while found(child.pid).processes != 2:
            time.sleep(0.001)
        (left,) = child.children()
        release()
        child.wait()
        while (one := found(left.getpid())).processes != 1:
            time.sleep(0.001)
        assert one.guardian == child.guardian_pid
        left.kill()
        left.close()


def test_a_guardian_that_nobody_reaps() -> None:
    fresh.run("""
        import logging
        from aiopidfd._spawn.ps import guarded
        child = aiopidfd.spawn(["sleep", "1000"])
        guardian = child.guardian_pid
        os.kill(guardian, signal.SIGKILL)
        while ") Z" not in read(f"/proc/{guardian}/stat"):
            time.sleep(0.001)
        (one,) = guarded(os.getpid())
        assert (one.guardian, one.pid, one.command, one.started, one.processes) == (
            guardian, None, [], None, 0), one
        child.kill()
        logging.disable()  # before Linux 6.15 its status is lost, with a warning
        child.wait()
        assert guarded(os.getpid()) == []
    """)


def test_in_another_process() -> None:
    code = """
        children = [aiopidfd.spawn(["sleep", "1000"], contain=contain) for contain in (False, True)]
        for child in children:
            while not read(f"/proc/{child.pid}/cmdline"):
                time.sleep(0.001)
        print(*(child.pid for child in children), flush=True)
        sys.stdin.read()
        for child in children:
            child.kill()
            child.wait()
    """
    with subprocess.Popen(
        fresh.command(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        pids = [int(pid) for pid in host.stdout.readline().split()]
        result = run(str(host.pid), "--json")
        assert (result.returncode, result.stderr) == (0, "")
        told = json.loads(result.stdout)
        assert [one["pid"] for one in told] == pids
        assert {one["host"] for one in told} == {host.pid}
        assert told[0].keys() == set(Guarded._fields)
        assert told[0]["contained"] is False
        everything = json.loads(run("--json").stdout)
        assert {*pids} < {one["pid"] for one in everything} | {0}
        lines = run(str(host.pid)).stdout.splitlines()
        assert lines[0].split() == [
            "HOST", "GUARDIAN", "PID", "STARTED", "CONTAINED", "TREE", "COMMAND"
        ]  # fmt: skip
        for line, one in zip(lines[1:3], told, strict=True):
            assert re.fullmatch(
                rf"{host.pid} +{one['guardian']} +{one['pid']} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
                r" +(yes|no) +1 +sleep 1000",
                line,
            ), line
        assert lines[3].startswith(f"host {host.pid}: {sys.executable} -W error -c ")
        assert len(lines) == 4
        host.communicate("", 60)


def test_a_host_without_programs_and_one_that_does_not_exist() -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        result = run(str(other.pid))
        assert (result.returncode, len(result.stdout.splitlines())) == (0, 1)
        result = run(str(other.pid), "--json")
        assert (result.returncode, result.stdout) == (0, "[]\n")
        other.kill()
    result = run(str(other.pid))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"There is no process {other.pid} in /proc.\n"
    assert run("nonsense").returncode == 2


def test_a_process_that_only_has_the_name() -> None:
    """Its exit signal is SIGCHLD."""
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(15, b"aiopidfd-guard")  # PR_SET_NAME
        signal.pause()
    try:
        while proc_status(Path(f"/proc/{pid}/status").read_text(), "Name")["Name"][:4] != "aiop":
            pass
        assert pid not in {one.guardian for one in guarded()}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_names_and_arguments_that_are_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "a) (b\n c"
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, program)
    with spawned(str(program), "1000", executable=str(program)) as child:
        assert found(child.pid).command[0] == str(program)
        assert ps(os.getpid()) == 0
        assert f"'{tmp_path}/a) (b\\n c' 1000" in capsys.readouterr().out
    argument = "\x1b[31m\udcff"
    with gate() as (read, _, _), spawned(*sh("read line", argument), stdin=read) as child:
        assert found(child.pid).command[-1] == argument
        assert ps(os.getpid()) == 0
        assert "'\\x1b[31m\\udcff'" in capsys.readouterr().out
        assert ps(os.getpid(), as_json=True) == 0
        told = json.loads(capsys.readouterr().out)
        assert argument in [one["command"][-1] for one in told]


@as_root
def test_by_somebody_else_it_is_not_known_whether_it_is_contained() -> None:
    fresh.run("""
        from aiopidfd._spawn.ps import guarded
        child = aiopidfd.spawn(["sleep", "1000"], contain=True)
        while not read(f"/proc/{child.pid}/cmdline"):
            time.sleep(0.001)
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([]), os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                (one,) = guarded(os.getppid())
                assert (one.pid, one.contained) == (child.pid, None), one
                assert (one.command, one.processes) == (["sleep", "1000"], 1), one
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        child.kill()
        child.wait()
    """)


def test_a_guardian_is_told_from_its_host_by_its_name_only() -> None:
    """Its command line is in memory that both share: so it cannot be another one."""
    with spawned("sleep", "1000") as child:
        names = [Path(f"/proc/{pid}/comm").read_text() for pid in ("self", child.guardian_pid)]
        assert names[1] == "aiopidfd-guard\n" != names[0]
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in ("self", child.guardian_pid)]
        assert lines[0] == lines[1]


@pytest.mark.parametrize("word", ["-1", "0", "x", "", "1.5"])
def test_what_is_no_pid_is_a_wrong_argument(word: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "aiopidfd", "ps", word], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "error: " in result.stderr
