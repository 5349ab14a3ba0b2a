"""A careless call is refused, before anything is started, in words that name what is wrong."""

import asyncio
import io
import os
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import uvloop

import aiopidfd
import aiopidfd.anyio
from aiopidfd import subprocess

from ..support import HOLD_STDOUT, gate, hang_guard

NOT = "/no/such/program"


async def on_a_loop_of_ours(**options: Any) -> None:
    loop = asyncio.get_running_loop()
    aiopidfd.install(loop)
    try:
        await loop.subprocess_exec(asyncio.SubprocessProtocol, NOT, **options)
    finally:
        aiopidfd.uninstall(loop)


# Each way to start a program. If it came to a start, that would raise FileNotFoundError.
CALLS: dict[str, Callable[..., Any]] = {
    "create_subprocess_exec": lambda **o: aiopidfd.create_subprocess_exec(NOT, **o),
    "create_subprocess_shell": lambda **o: aiopidfd.create_subprocess_shell("exit 99", **o),
    "run_process": lambda **o: aiopidfd.run_process([NOT], **o),
    "supervise": lambda **o: aiopidfd.supervise([NOT], **o),
    "run_pipeline": lambda **o: aiopidfd.run_pipeline([NOT], [NOT], **o),
    "spawn": lambda **o: aiopidfd.spawn([NOT], **o),
    "Popen": lambda **o: subprocess.Popen([NOT], **o),
    "subprocess.run": lambda **o: subprocess.run([NOT], **o),
    "loop.subprocess_exec": on_a_loop_of_ours,
    "anyio.open_process": lambda **o: aiopidfd.anyio.open_process([NOT], **o),
    "anyio.run_process": lambda **o: aiopidfd.anyio.run_process([NOT], **o),
    "anyio.supervise": lambda **o: aiopidfd.anyio.supervise([NOT], **o),
    "anyio.run_pipeline": lambda **o: aiopidfd.anyio.run_pipeline([NOT], [NOT], **o),
}


async def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    result = function(*args, **options)
    return await result if isinstance(result, Awaitable) else result


async def refused(name: str, error: type[Exception], **options: Any) -> str:
    with hang_guard(), pytest.raises(error) as caught:
        await call(CALLS[name], **options)
    assert type(caught.value) is error
    return str(caught.value.args[0] if isinstance(caught.value, KeyError) else caught.value)


class NoDescriptor:
    """What some test runners and notebooks put in the place of sys.stdin."""

    def readline(self) -> str:
        return ""


CLOSED = socket.socket()  # its number is -1, which to subprocess is as good as None
CLOSED.close()

NO_STR = "expected str, bytes or os.PathLike object, not"

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"env": ["A=1"]}, AttributeError, ".* 'items': env must be a mapping of names to values"),
    ({"env": "A=1"}, AttributeError, ".* 'items': env must be a mapping of names to values"),
    ({"env": 3}, AttributeError, ".* 'items': env must be a mapping of names to values"),
    ({"env": {"A": None}}, TypeError, f"{NO_STR} NoneType .*option env, the value of 'A'"),
    ({"env": {"B": "", "A": 1}}, TypeError, f"{NO_STR} int .*option env, the value of 'A'"),
    ({"env": {1: "A"}}, TypeError, f"{NO_STR} int .*option env, the name 1"),
    ({"env": {"PATH": None}}, TypeError, f"{NO_STR} NoneType .*option env, the value of 'PATH'"),
    ({"env": {"A=B": "C"}}, ValueError, "illegal environment variable name .*env, 'A=B'"),
    ({"env": {"A": "\0"}}, ValueError, "embedded null byte .*option env, the value of 'A'"),
    ({"env": {"A": "\ud800"}}, UnicodeEncodeError, ".*surrogates .*option env, the value of 'A'"),
    ({"cwd": 5}, TypeError, f"{NO_STR} int .*option cwd"),
    ({"cwd": ["/"]}, TypeError, f"{NO_STR} list .*option cwd"),
    ({"cwd": "/\0"}, ValueError, "embedded null byte .*option cwd"),
    ({"cwd": "\ud800"}, UnicodeEncodeError, ".*surrogates .*option cwd"),
    ({"cwd": "/no/such"}, FileNotFoundError, ".*No such file or directory: '/no/such'$"),
    ({"cwd": "/dev/null"}, NotADirectoryError, ".*Not a directory: '/dev/null'$"),
    ({"executable": 5}, TypeError, f"{NO_STR} int .*option executable"),
    ({"executable": ["/bin/true"]}, TypeError, f"{NO_STR} list .*option executable"),
    ({"executable": "a\0b"}, ValueError, "embedded null byte .*option executable"),
    ({"executable": "/no/such"}, FileNotFoundError, ".*No such file or directory: '/no/such'$"),
    ({"pass_fds": [-1]}, ValueError, r"bad value\(s\) in pass_fds: -1"),
    ({"pass_fds": [2**40]}, ValueError, r"bad value\(s\) in pass_fds: 1099511627776"),
    ({"pass_fds": [10**6]}, OSError, ".*Bad file descriptor .*option pass_fds"),
    ({"user": "nobody at all"}, KeyError, r"getpwnam\(\): name not found: .*option user"),
    ({"user": ""}, KeyError, r"getpwnam\(\): name not found: .*option user"),
    ({"group": "no such"}, KeyError, r"getgrnam\(\): name not found: .*option group"),
    ({"extra_groups": ["no such"]}, KeyError, r"getgrnam\(\): .*option extra_groups"),
    ({"extra_groups": b"root"}, ValueError, "Groups must be a list, not .*option extra_groups"),
    ({"extra_groups": [-1]}, ValueError, "Group ID cannot be negative.*option extra_groups"),
    ({"extra_groups": [2**40]}, ValueError, "invalid group id .*option extra_groups"),
    ({"extra_groups": [b"root"]}, TypeError, "Items in extra_groups must .*option extra_groups"),
    ({"group": -1}, ValueError, "Group ID cannot be negative, got -1 .*option group"),
    ({"group": 2**40}, OverflowError, "gid is greater than maximum .*option group"),
    ({"group": 1.5}, TypeError, "Group must be a string or an integer, .*option group"),
    ({"user": -1}, ValueError, "User ID cannot be negative, got -1 .*option user"),
    ({"user": 2**40}, OverflowError, "uid is greater than maximum .*option user"),
    ({"user": b"root"}, TypeError, "User must be a string or an integer .*option user"),
    ({"umask": 99999}, ValueError, "umask must be at most 0o777, not 0o303237"),
    ({"stdin": io.StringIO()}, io.UnsupportedOperation, ".*stdin .*StringIO.* PIPE.*`input`"),
    ({"stdout": io.BytesIO()}, io.UnsupportedOperation, r".*stdout .*BytesIO.* PIPE.* \[file\]"),
    ({"stdin": NoDescriptor()}, TypeError, r"stdin must be .* with fileno\(\) .*not NoDescriptor$"),
    ({"stdin": "text"}, TypeError, r"stdin must be PIPE, .*not str; open\(\) the file first"),
    ({"stdout": "file.txt"}, TypeError, r"stdout must be .*not str; open\(\) the file first"),
    ({"stderr": Path("x")}, TypeError, r"stderr must be .*not PosixPath; open\(\) the file first"),
    ({"stdin": 2**40}, OverflowError, "stdin does not fit into a C int: 1099511627776"),
    ({"stdout": CLOSED}, OSError, ".*Bad file descriptor .for the option stdout"),
    ({"scheduler": (2**70, 0)}, OverflowError, "scheduler does not fit into a C int"),
    ({"scheduler": (0, 2**40)}, OverflowError, "scheduler does not fit into a C int"),
    ({"rlimits": {2**70: 1}}, OverflowError, "a key of rlimits does not fit into a C int"),
    ({"cgroup": 2**40}, OverflowError, "cgroup does not fit into a C int"),
]


def without_addresses(value: object) -> str:
    return re.sub(" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize(("options", "error", "text"), WRONG, ids=without_addresses)
async def test_an_option_is_named(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    for name in CALLS:
        said = await refused(name, error, **options)
        assert re.match(text, said), (name, said)


def test_on_trio() -> None:
    async def main() -> None:
        for options, error, text in WRONG:
            for name in CALLS:
                if name.startswith("anyio."):
                    with pytest.raises(error) as caught:
                        await CALLS[name](**options)
                    said = caught.value.args[0] if error is KeyError else caught.value
                    assert re.match(text, str(said)), (name, said)

    trio.run(main)


# The command

EMPTY = ["", b"", "  ", "\n", b"\t\n"]
BY_A_SHELL: dict[str, Callable[..., Any]] = {
    "run_process": aiopidfd.run_process,
    "supervise": aiopidfd.supervise,
    "run_pipeline": aiopidfd.run_pipeline,
    "the second of run_pipeline": lambda command: aiopidfd.run_pipeline("exit 99", command),
    "anyio.open_process": aiopidfd.anyio.open_process,
    "anyio.run_process": aiopidfd.anyio.run_process,
    "anyio.supervise": aiopidfd.anyio.supervise,
    "anyio.run_pipeline": aiopidfd.anyio.run_pipeline,
}
BY_THEMSELVES: dict[str, Callable[..., Any]] = {
    **BY_A_SHELL,
    "spawn": aiopidfd.spawn,
    "Popen": subprocess.Popen,
    "subprocess.run": subprocess.run,
    "create_subprocess_exec": lambda command: aiopidfd.create_subprocess_exec(*command),
}


@pytest.mark.parametrize("command", EMPTY)
async def test_a_string_that_is_no_command(command: Any) -> None:
    """A shell would say that all went well."""
    with hang_guard():
        for function in BY_A_SHELL.values():
            with pytest.raises(ValueError, match=r"^the command is empty$"):
                await call(function, command)
        async with asyncio.TaskGroup() as group:
            with pytest.raises(ValueError, match=r"^the command is empty$"):
                await aiopidfd.start_in(group, command)


async def test_who_asks_for_a_shell_gets_one() -> None:
    """As with asyncio and subprocess."""
    with hang_guard():
        assert (await aiopidfd.run_process("", shell=True)).returncode == 0
        assert await (await aiopidfd.create_subprocess_shell("")).wait() == 0
        assert subprocess.run("", shell=True).returncode == 0


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        (["/bin/true", 5], TypeError, r"^expected str, .* not int \(for argument 1 of the comm"),
        (["/bin/true", "", None], TypeError, r"not NoneType \(for argument 2 of the command\)$"),
        (["a\0b"], ValueError, r"^embedded null byte \(for argument 0 of the command\)$"),
        (["/bin/true", "\ud800"], UnicodeEncodeError, r"surrogates .* \(for argument 1 of the com"),
        (
            [["ls", "-l"]],
            TypeError,
            r"not list .*argument 0 .*: pass the arguments one by one, as ",
        ),
        (["ls", ("-l",)], TypeError, r"not tuple .*argument 1 .*: pass the arguments one by one"),
    ],
    ids=str,
)
async def test_an_argument_is_named(command: Any, error: type[Exception], text: str) -> None:
    with hang_guard():
        for function in BY_THEMSELVES.values():
            with pytest.raises(error, match=text):
                await call(function, command)


async def test_the_one_command_of_a_shell_is_argument_0() -> None:
    with hang_guard():
        for function in (aiopidfd.create_subprocess_shell, aiopidfd.run_process):
            with pytest.raises(ValueError, match=r"embedded null byte .for argument 0 of"):
                await function("exit\0 99")


async def test_a_list_in_the_place_of_a_program() -> None:
    with hang_guard(), pytest.raises(TypeError, match=r"not list .* one by one, as \*args$"):
        await aiopidfd.create_subprocess_exec(["ls", "-l"])  # type: ignore[call-overload]


async def test_a_list_of_commands_in_the_place_of_commands() -> None:
    for run_pipeline in (aiopidfd.run_pipeline, aiopidfd.anyio.run_pipeline):
        with hang_guard(), pytest.raises(TypeError, match=r"commands one by one, as \*commands$"):
            await run_pipeline([["echo", "x"], ["cat"]])  # type: ignore[list-item]


def test_run_knows_its_own_keywords() -> None:
    """Not only those of `Popen`."""
    for slip, meant in (("timout", "timeout"), ("chek", "check"), ("output_limt", "output_limit")):
        with pytest.raises(TypeError, match=rf"^Popen.* got .* {slip!r}: did you mean {meant!r}\?"):
            subprocess.run([NOT], **{slip: 1})  # type: ignore[call-overload]


def test_names_that_only_the_module_subprocess_has() -> None:
    for name in ("run", "Popen", "check_output"):
        with pytest.raises(AttributeError, match=rf"{name!r}: aiopidfd\.subprocess has one$"):
            getattr(aiopidfd, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        getattr(aiopidfd, "nothing")  # noqa: B009


async def test_a_pipeline_whose_last_command_is_wrong_starts_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for wrong in ({"stdout": io.StringIO()}, {"pipesize": "x"}, {"pipesize": 2**40}):
        for run_pipeline in (aiopidfd.run_pipeline, aiopidfd.anyio.run_pipeline):
            with hang_guard(), pytest.raises((TypeError, ValueError, OverflowError)):
                await run_pipeline(["touch", str(made)], ["true"], **wrong)  # type: ignore[operator]
    with hang_guard(), pytest.raises(TypeError):
        await aiopidfd.run_pipeline(["touch", str(made)], ["true", 5])  # type: ignore[list-item]
    assert not made.exists()


async def test_a_pipeline_of_generators() -> None:
    """Each is looked at before the first start, and is not empty at its own."""
    for run_pipeline in (aiopidfd.run_pipeline, aiopidfd.anyio.run_pipeline):
        words = (iter(["echo", "x"]), (word for word in ["cat"]))
        with hang_guard():
            result = await run_pipeline(*words)  # type: ignore[operator]
        assert result.stdout == b"x\n"
        assert result.args == (["echo", "x"], ["cat"])


# What only some functions take

SOME: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"limit": 0}, ValueError, "Limit cannot be <= 0"),
    ({"limit": -1}, ValueError, "Limit cannot be <= 0"),
    ({"limit": float("nan")}, ValueError, "Limit cannot be <= 0"),
    ({"limit": "64"}, TypeError, "limit must be a number of bytes, not str"),
    ({"limit": None}, TypeError, "limit must be a number of bytes, not NoneType"),
    ({"limit": True}, TypeError, "limit must be a number of bytes, not bool"),
    ({"encoding": "nope"}, LookupError, "unknown encoding: nope .for the option encoding"),
    ({"encoding": "base64"}, LookupError, "'base64' is not a text encoding.*option encoding"),
    ({"encoding": "a\0"}, ValueError, "embedded null character .for the option encoding"),
    ({"encoding": 5}, TypeError, "encoding must be str, not int"),
    ({"errors": "nope"}, LookupError, "unknown error handler name 'nope' .for the option errors"),
    ({"errors": 5}, TypeError, "errors must be str, not int"),
    ({"text": "yes"}, TypeError, "text must be True or False, not str"),
    ({"text": []}, TypeError, "text must be True or False, not list"),
    ({"universal_newlines": "no"}, TypeError, "universal_newlines must be True or False, not str"),
]
TAKES = {
    "limit": ["create_subprocess_exec", "create_subprocess_shell"],
    "universal_newlines": ["create_subprocess_exec", "create_subprocess_shell", "run_process"],
}
TEXT = [*TAKES["universal_newlines"], "supervise", "run_pipeline", "anyio.supervise"]


@pytest.mark.parametrize(("options", "error", "text"), SOME, ids=str)
async def test_an_option_of_some(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    (option,) = options
    for name in TAKES.get(option, TEXT):
        said = await refused(name, error, **options)
        assert re.match(text, said), (name, said)


async def test_a_limit_that_is_none() -> None:
    process = await aiopidfd.create_subprocess_exec(
        "echo",
        "x",
        stdout=aiopidfd.PIPE,
        limit=float("inf"),  # type: ignore[arg-type]
    )
    with hang_guard():
        assert await process.communicate() == (b"x\n", None)


async def test_check_is_on_or_off() -> None:
    """A "no" that Python takes for true would raise for each failure."""
    for name in (
        *("run_process", "supervise", "run_pipeline", "subprocess.run"),
        *("anyio.run_process", "anyio.supervise", "anyio.run_pipeline"),
    ):
        said = await refused(name, TypeError, check="no")
        assert said == "check must be True or False, not str"
    said = await refused("subprocess.run", TypeError, capture_output="no")
    assert said == "capture_output must be True or False, not str"
    with hang_guard():
        assert subprocess.run(["false"], check=None).returncode == 1  # type: ignore[call-overload]


# Keywords by another name


async def test_hints_for_keywords_of_subprocess() -> None:
    for name in ("supervise", "run_pipeline", "anyio.run_pipeline", "anyio.supervise"):
        said = await refused(name, TypeError, universal_newlines=True)
        assert said.endswith("'universal_newlines': it is called 'text' here")
    for name in ("spawn", "anyio.open_process"):
        said = await refused(name, TypeError, universal_newlines=True)
        assert "it is the older name of `text`; aiopidfd.create_subprocess_exec()" in said
    for name in ("supervise", "run_pipeline", "anyio.open_process", "anyio.supervise"):
        said = await refused(name, TypeError, shell=True)
        assert "a command that is one string is run by a shell; run_process()" in said
    async with asyncio.TaskGroup() as group:
        with pytest.raises(TypeError, match="it is called 'text' here"):
            await aiopidfd.start_in(group, [NOT], universal_newlines=True)  # type: ignore[call-arg]


def test_hints_of_popen() -> None:
    """The standard class says nothing of what others take."""
    begin = r"^Popen\.__init__\(\) got an unexpected keyword argument"
    for function in (subprocess.Popen, subprocess.run, subprocess.call):
        with pytest.raises(TypeError, match=rf"{begin} 'grace': aiopidfd\.create_subprocess_exec"):
            function([NOT], grace=5)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=f"{begin} 'rlimit': did you mean 'rlimits'"):
            function([NOT], rlimit={})  # type: ignore[call-overload]


# Files that nothing can be written to


async def test_a_file_of_a_sink(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("w") as closed:
        pass
    for run in (
        aiopidfd.run_process,
        aiopidfd.supervise,
        aiopidfd.run_pipeline,
        aiopidfd.anyio.run_process,
        aiopidfd.anyio.supervise,
        aiopidfd.anyio.run_pipeline,
    ):
        with pytest.raises(ValueError, match=r"on closed file .for the option stdout"):
            await run([NOT], stdout=[closed])
        with file.open() as other, pytest.raises(io.UnsupportedOperation, match="not writable"):
            await run([NOT], stderr=[other])


# Durations that are over

OVER = [0, -0.0, -1, -float("inf")]


@pytest.mark.parametrize("seconds", OVER, ids=str)
async def test_a_timeout_of_less_than_nothing_has_passed(seconds: float) -> None:
    """As with subprocess."""
    command = ["sleep", "1000"]
    calls: list[Callable[[], Any]] = [
        lambda: aiopidfd.run_process(command, timeout=seconds, grace=0),
        lambda: aiopidfd.run_process(command, idle_timeout=seconds, grace=0),
        lambda: aiopidfd.run_pipeline(command, command, timeout=seconds, grace=0),
        lambda: aiopidfd.run_pipeline(command, command, idle_timeout=seconds, grace=0),
        lambda: aiopidfd.supervise(command, stdout=print, idle_timeout=seconds, grace=0),
        lambda: aiopidfd.anyio.run_process(command, idle_timeout=seconds, grace=0),
        lambda: aiopidfd.anyio.run_pipeline(command, command, idle_timeout=seconds, grace=0),
        lambda: aiopidfd.anyio.supervise(command, stdout=print, idle_timeout=seconds, grace=0),
        lambda: subprocess.run(command, timeout=seconds),
        lambda: subprocess.call(command, timeout=seconds),
        lambda: subprocess.check_call(command, timeout=seconds),
        lambda: subprocess.check_output(command, timeout=seconds),
    ]
    with hang_guard():
        for function in calls:
            with pytest.raises(aiopidfd.TimeoutExpired) as caught:
                await call(function)
            assert caught.value.timeout == seconds


@pytest.mark.parametrize("seconds", OVER, ids=str)
async def test_a_drain_of_less_than_nothing_has_passed(seconds: float) -> None:
    for run_process in (aiopidfd.run_process, aiopidfd.anyio.run_process):
        with gate() as (read, _, _), hang_guard():
            result = await run_process(HOLD_STDOUT + "echo x", stdin=read, drain=seconds)
        assert result.stdout == b"x\n"


# Where there is no loop, or another one

NEED_ASYNCIO: dict[str, Callable[[], Any]] = {
    "create_subprocess_exec": lambda: aiopidfd.create_subprocess_exec(NOT),
    "create_subprocess_shell": lambda: aiopidfd.create_subprocess_shell("exit 99"),
    "run_process": lambda: aiopidfd.run_process([NOT]),
    "run_pipeline": lambda: aiopidfd.run_pipeline([NOT]),
    "supervise": lambda: aiopidfd.supervise([NOT]),
    "start_in": lambda: aiopidfd.start_in(asyncio.TaskGroup(), [NOT]),
}
NEED_A_LOOP: dict[str, tuple[Callable[[], Any], str]] = {
    "run_in_fork": (lambda: aiopidfd.run_in_fork(int), r"fork\(\) needs none"),
    "shutdown": (aiopidfd.shutdown, r"is ended by its kill_tree\(\)"),
    "wait_pid": (lambda: aiopidfd.wait_pid(os.getpid()), r"PidFd\.wait_blocking\(\) needs none"),
}


@pytest.mark.parametrize("name", NEED_ASYNCIO)
def test_without_asyncio_it_says_what_to_use(name: str) -> None:
    begin = rf"^{name}\(\) needs a running event loop of asyncio; "
    with pytest.raises(RuntimeError, match=begin + r"in plain code use aiopidfd\.spawn\(\)"):
        NEED_ASYNCIO[name]().send(None)
    with pytest.raises(RuntimeError, match=begin + r"on trio use aiopidfd\.anyio"):
        trio.run(NEED_ASYNCIO[name])


@pytest.mark.parametrize("name", NEED_A_LOOP)
def test_without_a_loop_it_says_what_to_use(name: str) -> None:
    function, instead = NEED_A_LOOP[name]
    begin = rf"^{name}\(\) needs a running event loop of asyncio or trio; .*"
    with pytest.raises(RuntimeError, match=begin + instead):
        function().send(None)


def test_without_a_loop_a_pidfd_says_what_to_use() -> None:
    with aiopidfd.PidFd.open(os.getpid()) as handle:
        with pytest.raises(RuntimeError, match=r"^PidFd\.wait\(\) needs .*; wait_blocking\(\) ne"):
            handle.wait().send(None)
        with pytest.raises(RuntimeError, match=r"^wait_pidfd\(\) needs .*; PidFd\.wait_blocking"):
            aiopidfd.wait_pidfd(handle.fileno()).send(None)


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_closed_loop(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loop = make()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        aiopidfd.install(loop)
    aiopidfd.uninstall(loop)


# A process in the place of a number


async def test_a_process_in_the_place_of_a_number() -> None:
    with aiopidfd.spawn(["sleep", "1000"]) as child, aiopidfd.PidFd.from_process(child) as handle:
        for thing in (child, handle):
            for function in (
                aiopidfd.wait_pid,
                aiopidfd.wait_pidfd,
                aiopidfd.PidFd,
                aiopidfd.PidFd.open,
                aiopidfd.PidFd.from_fd,
                aiopidfd.PidFd.from_proc,
            ):
                kind = type(thing).__name__
                with pytest.raises(TypeError, match=f"an integer, not {kind}: call its own"):
                    await call(function, thing)
        child.kill()


async def test_what_is_on_or_off() -> None:
    """A "no" that Python takes for true would reap, or kill."""
    pid = os.getpid()
    with aiopidfd.PidFd.open(pid) as handle:
        calls: list[tuple[str, Callable[..., Any]]] = [
            ("reap", lambda **o: aiopidfd.wait_pid(pid, **o)),
            ("reap", lambda **o: aiopidfd.wait_pidfd(handle.fileno(), **o)),
            ("reap", handle.wait),
            ("reap", lambda **o: handle.wait_blocking(0, **o)),
            ("thread", lambda **o: aiopidfd.PidFd.open(pid, **o)),
            ("kill_on_close", lambda **o: aiopidfd.PidFd.open(pid, **o)),
            ("kill_on_close", lambda **o: aiopidfd.PidFd.from_fd(handle.fileno(), **o)),
        ]
        for name, function in calls:
            with pytest.raises(TypeError, match=f"^{name} must be True or False, not str$"):
                await call(function, **{name: "no"})


@pytest.mark.parametrize("number", [2**31, 2**70])
async def test_a_pid_beyond_all(number: int) -> None:
    for function in (aiopidfd.wait_pid, aiopidfd.PidFd.open):
        with pytest.raises(OverflowError, match=f"not a process id: {number}"):
            await call(function, number)


def test_what_is_no_socket() -> None:
    with aiopidfd.PidFd.open(os.getpid()) as handle:
        for function in (handle.send, aiopidfd.PidFd.receive, aiopidfd.PidFd.from_peer):
            with pytest.raises(TypeError, match="a socket is needed, not int"):
                function(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"to must be one of handle, .*, not \[\]"):
            handle.send_signal(0, to=[])  # type: ignore[arg-type]


# What is found out before the start


async def test_what_is_told_of_the_start_is_looked_at_before() -> None:
    with hang_guard():
        for started in ("print", 5, []):
            with pytest.raises(TypeError, match="started must be a function, not "):
                await aiopidfd.supervise([NOT], started=started)  # type: ignore[arg-type]
        with pytest.raises(AttributeError, match="has no attribute 'started'"):
            await aiopidfd.anyio.supervise([NOT], task_status=print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grace", "error", "text"),
    [
        (-1, ValueError, "shutdown_grace must not be negative: -1"),
        ("5", TypeError, "shutdown_grace must be a number of seconds, not str"),
        (float("nan"), ValueError, "shutdown_grace must be a number of seconds, not NaN"),
    ],
)
async def test_a_grace_by_its_own_name(grace: Any, error: type[Exception], text: str) -> None:
    for function in (aiopidfd.install, aiopidfd.EventLoop, aiopidfd.UvloopEventLoop):
        with pytest.raises(error, match=f"^{text}$"):
            function(shutdown_grace=grace)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "utf-16"])
async def test_bytes_for_a_stream_of_text(encoding: str) -> None:
    """In one wording, whatever the codec."""
    process = await aiopidfd.create_subprocess_exec(
        "cat", stdin=aiopidfd.PIPE, stdout=aiopidfd.PIPE, encoding=encoding
    )
    assert process.stdin is not None
    for wrong in (b"x", None, 5):
        kind = type(wrong).__name__
        with pytest.raises(TypeError, match=rf"^write\(\) argument must be str, not {kind}$"):
            process.stdin.write(wrong)  # type: ignore[arg-type]
    with hang_guard():
        assert await process.communicate() == ("", None)
