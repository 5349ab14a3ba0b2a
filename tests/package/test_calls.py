"""docs/calls.md: its tables are what the calls take and the handles have."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from operator import attrgetter
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import multiprocessing, subprocess
from aiopidfd.subprocess._popen import TextOptions

TEXT = (Path(__file__).parents[2] / "docs" / "calls.md").read_text()


def table(number: int) -> tuple[list[str], dict[str, list[str]]]:
    """The heads of its columns, and its rows by their first cell."""
    found = re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
    lines = [line.strip("|").split("|") for line in found[number].splitlines()]
    rows = [[cell.strip(" `") for cell in line] for line in lines]
    return rows[0][1:], {row[0]: row[1:] for row in rows[2:]}


KEYWORDS, CALLS = table(0)
METHODS, HANDLES = table(1)

# Each as a function of a command that returns the program's output.
Run = Callable[..., Awaitable[bytes]]


async def _read_asyncio(process: aiopidfd.Process) -> bytes:
    return (await process.communicate())[0] or b""


async def by_exec(*command: Any) -> bytes:
    command = command if len(command) > 1 else (command[0],)
    return await _read_asyncio(await aiopidfd.create_subprocess_exec(*command, stdout=PIPE))


async def by_shell(command: Any) -> bytes:
    return await _read_asyncio(await aiopidfd.create_subprocess_shell(command, stdout=PIPE))


async def by_run_process(command: Any, **options: Any) -> bytes:
    return (await aiopidfd.run_process(command, check=False, **options)).stdout


async def by_pipeline(command: Any) -> bytes:
    result = await aiopidfd.run_pipeline(command, ["cat"], check=False)
    output: bytes = result.stdout
    return output


async def by_asyncio_supervise(command: Any) -> bytes:
    lines: list[bytes] = []
    await aiopidfd.supervise(command, stdout=lines.append, check=False)
    return b"\n".join(lines)


async def by_start_in(command: Any) -> bytes:
    lines: list[bytes] = []
    async with asyncio.TaskGroup() as group:
        await aiopidfd.start_in(group, command, stdout=lines.append, check=False)
    return b"\n".join(lines)


async def by_spawn(command: Any, **options: Any) -> bytes:
    with Path("out").open("w+b") as out:
        aiopidfd.spawn(command, stdout=out, **options).wait()
        return Path("out").read_bytes()


async def by_open_process(command: Any) -> bytes:
    async with await aiopidfd.anyio.open_process(command) as process:
        assert process.stdout is not None
        return b"".join([chunk async for chunk in process.stdout])


async def by_anyio_run(command: Any) -> bytes:
    return (await aiopidfd.anyio.run_process(command, check=False)).stdout


async def by_anyio_pipeline(command: Any) -> bytes:
    result = await aiopidfd.anyio.run_pipeline(command, ["cat"], check=False)
    output: bytes = result.stdout
    return output


async def by_supervise(command: Any) -> bytes:
    lines: list[bytes] = []
    await aiopidfd.anyio.supervise(command, stdout=lines.append, check=False)
    return b"\n".join(lines)


async def by_popen(command: Any, **options: Any) -> bytes:
    output: bytes = subprocess.Popen(command, stdout=PIPE, **options).communicate()[0]
    return output


async def by_run(command: Any, **options: Any) -> bytes:
    return subprocess.run(command, stdout=PIPE, **options).stdout


async def by_check_output(command: Any, **options: Any) -> bytes:
    output: bytes = subprocess.check_output(command, **options)
    return output


RUNS: dict[str, Run] = {
    "create_subprocess_exec": by_exec,
    "create_subprocess_shell": by_shell,
    "run_process": by_run_process,
    "run_pipeline": by_pipeline,
    "supervise": by_asyncio_supervise,
    "start_in": by_start_in,
    "spawn": by_spawn,
    "anyio.open_process": by_open_process,
    "anyio.run_process": by_anyio_run,
    "anyio.run_pipeline": by_anyio_pipeline,
    "anyio.supervise": by_supervise,
    "subprocess.Popen": by_popen,
    "subprocess.run": by_run,
    "subprocess.check_output": by_check_output,
}

TAKES_NO_PROGRAM = {
    "create_subprocess_shell",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
}


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program whose name means something else to a shell: it prints `it`."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "echo it;exit"
    path.write_text("#!/bin/sh\necho it $*\n")
    path.chmod(0o755)
    return path


def test_no_call_is_missing() -> None:
    starts = ("create", "run_", "spawn", "start", "supervise")
    public = {name for name in aiopidfd.__all__ if name.startswith(starts)} - {"run_in_fork"}
    theirs = {name for name in aiopidfd.anyio.__all__ if name.islower()}
    public |= {f"anyio.{name}" for name in theirs - {"install", "uninstall"}}
    functions = {name for name in subprocess.__all__ if name.islower()} | {"Popen"}
    public |= {f"subprocess.{name}" for name in functions}
    assert CALLS.keys() == public


@pytest.mark.parametrize("call", CALLS)
def test_the_keywords_that_it_takes(call: str) -> None:
    function = attrgetter(call)(aiopidfd)
    takes = {*inspect.signature(function).parameters}
    if call == "start_in":  # which hands all but the group to supervise()
        takes |= {*inspect.signature(aiopidfd.supervise).parameters}
    if call.startswith("subprocess.") and "options" in takes:
        takes |= TextOptions.__annotations__.keys()
    if call == "subprocess.check_output":
        takes |= {"input", "output_limit"}  # which it hands to run()
    cells = dict(zip(KEYWORDS, CALLS[call], strict=True))
    del cells["a string is"]
    assert cells == {name: "yes" if name in takes else "-" for name in cells}
    if "getoutput" not in call and "getstatusoutput" not in call:
        assert "options" in takes


@pytest.mark.parametrize("call", RUNS)
async def test_what_a_string_is(call: str, program: Path) -> None:
    run = RUNS[call]
    if CALLS[call][0] == "for the shell":
        assert (await run("printf '%s' a; exit")).strip() == b"a"
    else:
        assert (await run(str(program))) == b"it\n"
    if CALLS[call][1] == "yes":
        assert await run(str(program), shell=False) == b"it\n"
        assert await run("printf '%s' a; exit", shell=True) == b"a"


@pytest.mark.parametrize("call", sorted(RUNS.keys() - TAKES_NO_PROGRAM))
async def test_a_path_is_a_program(call: str, program: Path) -> None:
    assert (await RUNS[call](program)).strip() == b"it"
    command = [program, "a b"]
    run = RUNS[call]
    output = await (run(*command) if call == "create_subprocess_exec" else run(command))
    assert output.strip() == b"it a b"


async def test_what_takes_no_program_refuses_a_path(program: Path) -> None:
    with pytest.raises(ValueError, match="must be a string"):
        await aiopidfd.create_subprocess_shell(program)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        subprocess.getoutput(program)  # type: ignore[arg-type]


@pytest.mark.parametrize("handles", HANDLES)
def test_what_a_handle_has(handles: str) -> None:
    for name in handles.replace("`", "").split(", "):
        cls = {
            "anyio.Process": aiopidfd.anyio.Process,
            "multiprocessing.Process": multiprocessing.Process,
        }.get(name) or attrgetter(name)(aiopidfd)
        for method, cell in zip(METHODS, HANDLES[handles], strict=True):
            function = getattr(cls, method.removesuffix("()"), None)
            if method == "with":
                has = "blocks" if hasattr(cls, "__enter__") else "-"
                has = "async" if hasattr(cls, "__aenter__") else has
            elif inspect.iscoroutinefunction(function):
                has = "await"
            elif function is not None:
                has = "blocks" if method == "kill_tree()" else "yes"
            else:
                has = "-"
            assert has == cell, (name, method)
        assert all(
            hasattr(cls, each) or each in getattr(cls, "__annotations__", {})
            for each in ("pid", "pidfd", "guardian_pid", "rusage")
        )
