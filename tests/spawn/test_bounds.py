"""Options that bound a program or tie it to us: what people did in preexec_fn."""

import asyncio
import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import aiopidfd

from .. import fresh
from ..support import hang_guard, proc_status, python, until

CAP_SYS_RESOURCE = 1 << 24  # capabilities(7)


def effective_capabilities() -> int:
    return int(proc_status(Path("/proc/self/status").read_text(), "CapEff")["CapEff"], 16)


may_raise = pytest.mark.skipif(
    not effective_capabilities() & CAP_SYS_RESOURCE, reason="it takes CAP_SYS_RESOURCE"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise what it asks for")


async def output(*command: str, **options: Any) -> str:
    result = await aiopidfd.run_process(command, text=True, **options)
    return str(result.stdout)


async def in_python(expression: str, **options: Any) -> Any:
    script = f"import os, resource, signal; print({expression})"
    return eval(await output(*python(script), **options))


# Limits


@pytest.mark.parametrize("name", [resource.RLIMIT_CORE, "CORE", "RLIMIT_CORE", "core"])
async def test_rlimits_by_any_name(name: Any) -> None:
    limits = await in_python("resource.getrlimit(resource.RLIMIT_CORE)", rlimits={name: (0, 4096)})
    assert limits == (0, 4096)


async def test_several_rlimits() -> None:
    rlimits: dict[str, Any] = {
        "NOFILE": 64,
        "FSIZE": (1 << 20, resource.RLIM_INFINITY),
        "CPU": (5, 10),
    }
    found = await in_python(
        "[resource.getrlimit(r) for r in"
        " (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)]",
        rlimits=rlimits,
    )
    assert found == [(64, 64), (1 << 20, resource.RLIM_INFINITY), (5, 10)]
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY  # ours


@pytest.mark.heavy
async def test_a_limit_is_enforced() -> None:
    result = await aiopidfd.run_process("while :; do :; done", rlimits={"CPU": (1, 2)}, check=False)
    assert result.returncode == -signal.SIGXCPU


@may_raise
async def test_a_limit_that_is_raised_before_the_ids_change() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = {"NOFILE": hard + 1}
    found = await output("/bin/sh", "-c", "ulimit -Hn", rlimits=raised, user=65534)
    assert int(found) == hard + 1


@pytest.mark.parametrize("unlimited", [-1, 2**64 - 1, resource.RLIM_INFINITY])
async def test_no_limit_by_any_number(unlimited: int) -> None:
    found = await output("/bin/sh", "-c", "ulimit -Hf", rlimits={"FSIZE": unlimited})
    assert found == "unlimited\n"


BAD_RLIMITS: list[tuple[Any, type[Exception], str]] = [
    ({"NOTHING": 1}, ValueError, "rlimits: no such resource: 'NOTHING'"),
    ({1.5: 1}, ValueError, "rlimits: no such resource: 1.5"),
    ({"CORE": (2, 1)}, ValueError, r"rlimits\['CORE'\]: the soft limit is above the hard one"),
    ({"CORE": (-1, 1)}, ValueError, "above the hard one"),
    ({"CORE": -2}, ValueError, "out of range: -2"),
    ({"CORE": 1 << 64}, ValueError, "out of range"),
    ({"CORE": "1"}, TypeError, r"rlimits\['CORE'\] must be a pair of integers, not '1'"),
    ({"CORE": (1,)}, TypeError, "must be a pair of integers"),
]


@pytest.mark.parametrize("case", range(len(BAD_RLIMITS)))
async def test_rlimits_that_are_none(case: int) -> None:
    rlimits, error, message = BAD_RLIMITS[case]
    with pytest.raises(error, match=message):
        await aiopidfd.create_subprocess_exec("true", rlimits=rlimits)


async def test_a_resource_that_the_kernel_does_not_know() -> None:
    with pytest.raises(OSError, match=r"Invalid argument \(for the option rlimits\)"):
        await aiopidfd.create_subprocess_exec("true", rlimits={1000: 1})


# Priorities


async def test_nice() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert await in_python("os.getpriority(os.PRIO_PROCESS, 0)", nice=11) == 11
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


@as_root
async def test_what_takes_privileges_comes_before_the_ids() -> None:
    assert (await output("nice", nice=-7, user=65534, group=65534)).strip() == "-7"


async def test_cpu_affinity() -> None:
    cpu = max(os.sched_getaffinity(0))
    assert await in_python("os.sched_getaffinity(0)", cpu_affinity=[cpu]) == {cpu}
    assert await in_python("os.sched_getaffinity(0)", cpu_affinity=range(2000)) == (
        os.sched_getaffinity(0)
    )
    with pytest.raises(OSError, match=r"Invalid argument \(for the option cpu_affinity\)"):
        await aiopidfd.create_subprocess_exec("true", cpu_affinity=[9999])


async def test_scheduler() -> None:
    stat = await output("cat", "/proc/self/stat", scheduler=(os.SCHED_BATCH, 0))
    # The field `policy`: musl's sched_getscheduler(2) always fails.
    assert int(stat.rpartition(")")[2].split()[38]) == os.SCHED_BATCH
    with pytest.raises(OSError, match=r"Invalid argument \(for the option scheduler\)"):
        await aiopidfd.create_subprocess_exec("true", scheduler=(os.SCHED_BATCH, 7))


async def test_ioprio() -> None:
    assert (await output("ionice", ioprio=(2, 6))).strip() == "best-effort: prio 6"
    assert (await output("ionice", ioprio=(3, 0))).strip() == "idle"


async def test_oom_score_adj_is_the_program_s_alone() -> None:
    """It lives in the memory map, which the child shares with us until exec."""
    ours = Path("/proc/self/oom_score_adj").read_text()
    for value in (1000, 7):
        assert await output("cat", "/proc/self/oom_score_adj", oom_score_adj=value) == f"{value}\n"
        assert Path("/proc/self/oom_score_adj").read_text() == ours


@may_raise
async def test_oom_score_adj_is_lowered_before_the_ids_change() -> None:
    found = await output("cat", "/proc/self/oom_score_adj", oom_score_adj=-500, user=65534)
    assert found == "-500\n"


async def test_oom_score_adj_where_descriptors_are_closed() -> None:
    """It is written through one that is opened on the way: whatever its number."""
    fresh.run("""
        os.close(0)
        found = aiopidfd.spawn(["grep", "-qx", "9", "/proc/self/oom_score_adj"],
                               oom_score_adj=9, rlimits={"NOFILE": 4}, stdin=aiopidfd.DEVNULL)
        assert found.wait() == 0
        found = aiopidfd.spawn(["true"], oom_score_adj=9)
        assert found.wait() == 0
    """)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"nice": 20}, ValueError, "nice must be between -20 and 19, not 20"),
    ({"nice": "5"}, TypeError, "nice must be an integer, not str"),
    ({"oom_score_adj": 1001}, ValueError, "oom_score_adj must be between -1000 and 1000"),
    ({"cpu_affinity": []}, ValueError, "cpu_affinity is empty"),
    ({"cpu_affinity": [-1]}, ValueError, "cpu_affinity must be between 0 and"),
    ({"scheduler": 3}, TypeError, "scheduler must be a pair of integers, not 3"),
    ({"ioprio": (4, 0)}, ValueError, "ioprio's class must be between 0 and 3"),
    ({"ioprio": (2, 8)}, ValueError, "ioprio's level must be between 0 and 7"),
    ({"die_with_parent": 99}, ValueError, "die_with_parent must be between 1 and"),
    ({"die_with_parent": "x"}, TypeError, "die_with_parent must be an integer, not str"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
async def test_what_cannot_be(case: int) -> None:
    options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        await aiopidfd.create_subprocess_exec("true", **options)


# Bonds


@pytest.mark.parametrize("user", [None, pytest.param(65534, marks=as_root)])
async def test_no_new_privs(user: int | None) -> None:
    for wanted in (False, True):
        text = await output("cat", "/proc/self/status", no_new_privs=wanted, user=user)
        assert proc_status(text, "NoNewPrivs") == {"NoNewPrivs": str(int(wanted))}


DIES = """
    child = aiopidfd.spawn(["sleep", "60"], {options})
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def lives(pid: int) -> bool:
    """Whether it runs. Whoever adopts it may leave a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in {"Z", "X"}


async def run_to_death(options: str) -> int:
    """The pid of a program whose parent has been killed."""
    result = await aiopidfd.run_process(
        fresh.command(DIES.format(options=options)), text=True, check=False, drain=0
    )
    assert result.returncode == -9, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize("user", ["", pytest.param(", user=65534", marks=as_root)])
async def test_die_with_parent(user: str) -> None:
    pid = await run_to_death(f"die_with_parent=True{user}")
    with hang_guard():
        await until(lambda: not lives(pid))


async def test_without_it_the_program_lives_on() -> None:
    pid = await run_to_death("")
    await asyncio.sleep(0.05)
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)


async def test_die_with_parent_by_another_signal() -> None:
    """And by the guardian's end, whoever has killed it."""
    process = await aiopidfd.create_subprocess_shell(
        "trap 'echo ended; exit 0' USR1; echo up; while :; do sleep 0.01; done",
        stdout=aiopidfd.PIPE,
        die_with_parent=signal.SIGUSR1,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    os.kill(process.guardian_pid, signal.SIGKILL)
    assert await process.stdout.readline() == b"ended\n"
    assert await process.wait() in (0, 255)


async def test_the_end_of_the_thread_that_spawned_is_no_end() -> None:
    """With everybody else it is: PR_SET_PDEATHSIG(2const)."""
    children: list[aiopidfd.Child] = []

    def spawn() -> None:
        children.append(aiopidfd.spawn(["sleep", "60"], die_with_parent=True))

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    (child,) = children
    with pytest.raises(aiopidfd.TimeoutExpired):
        child.wait(0.1)
    child.kill()
    assert child.wait() == -9
