"""What is refused names the option, or says what to use, before anything is started."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import trio
import uvloop

import aiopidfd
from aiopidfd import PIPE

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"ioprio": (2, 9)}, ValueError, "ioprio's level must be between 0 and 7, not 9"),
    ({"ioprio": (4, 0)}, ValueError, "ioprio's class must be between 0 and 3, not 4"),
    ({"ioprio": 3}, TypeError, "ioprio must be a pair of integers, not 3"),
    ({"rlimits": [("NOFILE", 3)]}, TypeError, "rlimits must be a mapping, not list"),
    ({"rlimits": 3}, TypeError, "rlimits must be a mapping, not int"),
    ({"cpu_affinity": 0}, TypeError, "cpu_affinity must be the numbers of processors, not int"),
    ({"cpu_affinity": "0"}, TypeError, "cpu_affinity must be the numbers of processors, not str"),
    ({"cpu_affinity": []}, ValueError, "cpu_affinity is empty"),
    ({"pass_fds": 3}, TypeError, "pass_fds must be numbers, not int"),
    ({"pass_fds": "3"}, TypeError, "pass_fds must be numbers, not str"),
    ({"pass_fds": ["3"]}, TypeError, "pass_fds must be an integer, not str"),
    ({"nice": "5"}, TypeError, "nice must be an integer, not str"),
    ({"umask": "022"}, TypeError, "umask must be an integer, not str"),
    ({"process_group": 1.0}, TypeError, "process_group must be an integer, not float"),
    ({"oom_score_adj": 1001}, ValueError, "oom_score_adj must be between -1000 and 1000"),
    ({"die_with_parent": "SIGTERM"}, TypeError, "die_with_parent must be an integer, not str"),
    ({"die_with_parent": ""}, TypeError, "die_with_parent must be an integer, not str"),
    ({"die_with_parent": []}, TypeError, "die_with_parent must be an integer, not list"),
    ({"pipesize": "1"}, TypeError, "pipesize must be an integer"),
    ({"pipesize": True}, TypeError, "pipesize must be an integer"),
    ({"umask": True}, TypeError, "umask must be an integer, not bool"),
    ({"process_group": True}, TypeError, "process_group must be an integer, not bool"),
    ({"pass_fds": [True]}, TypeError, "pass_fds must be an integer, not bool"),
    ({"rlimits": {"NOFILE": True}}, TypeError, "rlimits['NOFILE'] must be a pair of integers"),
    ({"user": True}, TypeError, "User must be a string or an integer"),
    ({"group": False}, TypeError, "Group must be a string or an integer"),
    ({"extra_groups": 3}, TypeError, "extra_groups must be groups, not int"),
    ({"extra_groups": [True]}, TypeError, "Items in extra_groups must be a string or an integer"),
    ({"stdin": True}, TypeError, "stdin must be PIPE, PTY, DEVNULL, a descriptor"),
    ({"stdout": False}, TypeError, "stdout must be PIPE, PTY, DEVNULL, a descriptor"),
    ({"cgroup": True}, TypeError, "cgroup must be a path or a directory's descriptor, not bool"),
    ({"shell": "/bin/bash"}, TypeError, "shell must be True or False, not str; `executable`"),
    *[
        ({name: value}, TypeError, f"{name} must be True or False, not {type(value).__name__}")
        for name in (
            "start_new_session",
            "restore_signals",
            "close_fds",
            "no_new_privs",
            "contain",
        )
        for value in ("yes", "", 1.0, [], None)
    ],
]


@pytest.mark.parametrize(("options", "error", "text"), BAD, ids=str)
async def test_the_option_is_named(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        await aiopidfd.run_process(["/no/such"], **options)
    assert str(caught.value).startswith(text)
    with pytest.raises(error) as caught:
        aiopidfd.spawn(["/no/such"], **options)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("flag", [0, 1, False, True])
async def test_numbers_are_flags(flag: int) -> None:
    """As for subprocess."""
    names = ("start_new_session", "restore_signals", "close_fds", "no_new_privs")
    result = await aiopidfd.run_process(["true"], **dict.fromkeys(names, flag))
    assert result.returncode == 0


async def test_a_size_that_the_kernel_refuses() -> None:
    for where in ("stdin", "stdout", "stderr"):
        with pytest.raises(OSError, match="for the option pipesize"):
            await aiopidfd.create_subprocess_exec("true", **{where: PIPE}, pipesize=2**31 - 1)


# Where there is no loop


@pytest.mark.parametrize("function", [aiopidfd.install, aiopidfd.uninstall])
def test_install_on_what_is_no_loop(function: Callable[..., None]) -> None:
    name = function.__name__
    for loop_class in (aiopidfd.EventLoop, asyncio.SelectorEventLoop, uvloop.Loop):
        before = {**vars(loop_class)}
        with pytest.raises(TypeError, match=rf"{name}\(\) takes an event loop, not the class "):
            function(loop_class)
        assert vars(loop_class) == before
    for thing in (5, asyncio, aiopidfd, lambda: None):
        with pytest.raises(TypeError, match="cannot be replaced: it is no event loop"):
            function(thing)


def test_the_way_out_of_trio_is_said() -> None:
    calls: list[Callable[[], Any]] = [
        lambda: aiopidfd.run_process(["/no/such"]),
        lambda: aiopidfd.create_subprocess_exec("/no/such"),
        lambda: aiopidfd.create_subprocess_shell("exit 1"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"of asyncio; on trio use aiopidfd\.anyio"):
            trio.run(call)

    async def install() -> None:
        aiopidfd.install()

    with pytest.raises(RuntimeError, match=r"^install\(\) needs .* on trio use aiopidfd\.anyio"):
        trio.run(install)


def test_without_any_loop_the_way_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"in plain code use aiopidfd\.spawn\(\)"):
        aiopidfd.run_process(["/no/such"]).send(None)
    with pytest.raises(RuntimeError, match=r"in plain code use aiopidfd\.spawn\(\)"):
        aiopidfd.create_subprocess_exec("/no/such").send(None)
    with pytest.raises(RuntimeError, match=r"loop_factory=aiopidfd\.EventLoop"):
        aiopidfd.install()


@pytest.mark.parametrize("size", [2**31, 2**32 + 4096, 2**40])
async def test_a_pipesize_that_fcntl_would_cut_down(size: int) -> None:
    with pytest.raises(OverflowError, match="pipesize does not fit into a C int"):
        await aiopidfd.create_subprocess_exec("true", stdout=aiopidfd.PIPE, pipesize=size)


@pytest.mark.parametrize("command", [None, 5, object(), bytearray(b"true"), {"true"}, {"true": 1}])
async def test_a_command_that_is_none(command: Any) -> None:
    kind = type(command).__name__
    message = f"the command must be a string, bytes, a path or a sequence, not {kind}"
    with pytest.raises(TypeError, match=message):
        await aiopidfd.run_process(command)
    with pytest.raises(TypeError, match=message):
        aiopidfd.spawn(command)
