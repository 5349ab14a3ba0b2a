"""Where calls are blocked: clone(2) in clone3's place, or one clear error. And what is printed."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import aiopidfd

from .. import fresh


def test_this_kernel_has_all_that_is_needed() -> None:
    kernel = aiopidfd.kernel()
    assert kernel.missing() is None
    assert kernel.method in {"clone3", "clone"}
    assert kernel is aiopidfd.kernel()  # asked once
    assert all(answer.works for answer in kernel.answers if answer.needed)


SPAWN = """
    async def main():
        process = await aiopidfd.create_subprocess_shell("exit 3")
        return await process.wait()

    {filter}
    assert asyncio.run(main()) == 3
    assert aiopidfd.spawn("exit 4", shell=True).wait() == 4
    print(aiopidfd.kernel().method)
"""
FILTERS = {
    "like Docker": "seccomp.like_docker()",
    "EPERM": "seccomp.install((seccomp.CLONE3, errno.EPERM))",
    "after the first spawn": "assert asyncio.run(main()) == 3; seccomp.like_docker()",
}


@pytest.mark.parametrize("name", FILTERS)
def test_clone_serves_where_clone3_is_blocked(name: str) -> None:
    assert fresh.run(SPAWN.format(filter=FILTERS[name])) == "clone\n"


def test_clone_keeps_the_promise() -> None:
    """What clone(2) lacks is CLONE_CLEAR_SIGHAND: handlers and SIGCHLD are reset by hand there."""
    fresh.run(
        """
        seccomp.like_docker()
        signal.signal(signal.SIGUSR1, lambda *_: os.write(2, b"a handler ran"))
        for name, host in hosts.HOSTS.items():
            seen = hosts.Seen()
            with host(seen):
                for status in (0, 3, 255):
                    assert aiopidfd.spawn(f"exit {status}", shell=True).wait() == status
            if name != "__WALL reaper":
                assert (seen.sigchld, seen.pids) == (0, []), (name, seen.sigchld, seen.pids)
        child = aiopidfd.spawn("sleep 0.2; exit 5", shell=True)
        for _ in range(10):
            os.kill(child.guardian_pid, signal.SIGUSR1)
        assert child.wait() == 5
        """
    )


BLOCKED = {
    "clone": "(seccomp.CLONE3, errno.ENOSYS), (seccomp.clone_number(), errno.EPERM)",
    "pidfd_open": "(seccomp.PIDFD_OPEN, errno.ENOSYS)",
    "pidfd_send_signal": "(seccomp.PIDFD_SEND_SIGNAL, errno.ENOSYS)",
    "close_range": "(seccomp.CLOSE_RANGE, errno.EPERM)",
}


@pytest.mark.parametrize("call", BLOCKED)
def test_the_missing_call_is_named(call: str) -> None:
    output = fresh.run(
        f"""
        seccomp.install({BLOCKED[call]})
        fds = None
        for attempt in (lambda: aiopidfd.spawn(["/bin/true"]),
                        lambda: asyncio.run(aiopidfd.run_process("true"))):
            try:
                attempt()
            except OSError as exc:
                print(exc)
            fds = fds or set(open_fds())  # the first made the lifelines
        import gc
        gc.collect()  # the loop's hub goes with the loop
        assert set(open_fds()) == fds
        assert aiopidfd.kernel().method is None
        """
    )
    first, second = output.splitlines()
    assert first == second
    assert f"{call}(2)" in first
    assert "5.10" in first
    assert aiopidfd.kernel().release in first


def test_the_module_prints_a_table() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "aiopidfd"], capture_output=True, text=True, check=True
    )
    assert aiopidfd.kernel().release in result.stdout
    for answer in aiopidfd.kernel().answers:
        assert answer.name in result.stdout
    assert "Guardians are made by" in result.stdout
    assert result.stderr == ""


def test_the_module_says_no_where_it_cannot_work() -> None:
    output = fresh.run(
        """
        import runpy
        seccomp.install((seccomp.CLOSE_RANGE, errno.EPERM))
        try:
            runpy.run_module("aiopidfd", run_name="__main__")
        except SystemExit as exc:
            print("exit status", exc.code)
        """
    )
    assert "EPERM" in output
    assert "Cannot spawn: close_range(2)" in output
    assert output.endswith("exit status 1\n")


# The module's command line


def module(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-m", "aiopidfd", *arguments]
    defaults = {"capture_output": True, "text": True, "check": False}
    return subprocess.run(command, **(defaults | options))


def test_the_module_as_json() -> None:
    result = module("--json")
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    here = aiopidfd.kernel()
    assert told["version"] == aiopidfd.__version__
    assert told["release"] == here.release
    assert (told["method"], told["exit_info"], told["missing"]) == (
        here.method,
        here.exit_info,
        None,
    )
    assert [
        (call["call"], call["since"], call["works"], call["needed"]) for call in told["calls"]
    ] == [(answer.name, answer.since, answer.works, answer.needed) for answer in here.answers]


def test_the_module_as_json_where_it_cannot_work() -> None:
    output = fresh.run(
        """
        import runpy
        seccomp.install((seccomp.CLOSE_RANGE, errno.EPERM))
        sys.argv = ["aiopidfd", "--json"]
        try:
            runpy.run_module("aiopidfd", run_name="__main__")
        except SystemExit as exc:
            assert exc.code == 1
        """
    )
    told = json.loads(output)
    assert (told["missing"], told["method"]) == ("close_range(2)", None)
    needed = [call for call in told["calls"] if call["needed"]]
    assert [call["error"] for call in needed if not call["works"]] == ["EPERM"]


def test_the_module_s_help_and_version() -> None:
    result = module("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: python -m aiopidfd [-h] [--json] [--version]")
    result = module("--version")
    assert result.stdout == f"aiopidfd {aiopidfd.__version__}\n"


@pytest.mark.parametrize("nonsense", [["nonsense"], ["--nonsense"], ["--js"], ["--json", "x"]])
def test_the_module_refuses_nonsense(nonsense: list[str]) -> None:
    result = module(*nonsense)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"unrecognized arguments: {nonsense[-1]}" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--help"], ["--version"]], ids=str)
def test_the_module_s_reader_has_had_enough(arguments: list[str]) -> None:
    """As `python -m aiopidfd | head -n 0`."""
    read, write = os.pipe()
    os.close(read)
    result = module(*arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert result.stderr == ""
    # argparse itself takes no notice of it. It sees it only where nothing is buffered.
    seen_by_argparse = arguments in (["--help"], ["--version"]) and os.environ.get(
        "PYTHONUNBUFFERED"
    )
    assert result.returncode == (0 if seen_by_argparse else 128 + signal.SIGPIPE)


@pytest.mark.parametrize("arguments", [[], ["--json"], ["ps", "--json"]], ids=str)
def test_the_module_s_disk_is_full(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = module(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (1, "aiopidfd: No space left on device\n")
