"""A start that fails does so as with `subprocess.Popen`: same type, errno, filename, message."""

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PIPE, STDOUT

from ..support import SOURCES, hang_guard, room_for, sh

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change ids")

NOBODY = 65534


@pytest.fixture(autouse=True)
def _subprocess_by_fork_and_exec(monkeypatch: pytest.MonkeyPatch) -> None:
    """One way for subprocess to start a program, in all its versions.

    By posix_spawn(3), where 3.13 takes it, it has other messages and filenames, and the C
    library's own two signals are ignored in the program.
    """
    monkeypatch.setattr(subprocess, "_USE_POSIX_SPAWN", False)


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


def their_error(command: Any, **options: Any) -> BaseException:
    try:
        process = subprocess.Popen(command, **options)
    except Exception as exc:
        return exc
    process.kill()
    process.communicate()
    pytest.fail("subprocess can start this")


async def our_error(command: Any, **options: Any) -> BaseException:
    try:
        await aiopidfd.run_process(command, **{"shell": False, **options})
    except Exception as exc:
        return exc
    pytest.fail("this was started")


def facts(exc: BaseException) -> tuple[Any, ...]:
    if isinstance(exc, OSError):
        return type(exc), exc.errno, exc.strerror, exc.filename
    return type(exc), str(exc).partition(" (for ")[0]  # after that we say what it is about


async def same_error(command: Any, *, message: bool = True, **options: Any) -> Any:
    """Our error, which must be theirs, however the program is started."""
    theirs = their_error(command, **options)
    raised = [await our_error(command, **options)]
    with pytest.raises(type(theirs)) as caught:
        aiopidfd.spawn(command, **options)
    raised.append(caught.value)
    if not isinstance(command, (str, bytes, os.PathLike)) and not options.get("shell"):
        with pytest.raises(type(theirs)) as caught:
            await aiopidfd.create_subprocess_exec(*command, **options)
        raised.append(caught.value)
    for ours in raised:
        if message:
            assert facts(ours) == facts(theirs)
        else:
            assert type(ours) is type(theirs)
    return raised[0]


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, text: str = "#!/bin/sh\necho started\n", mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return make


# The program


@pytest.mark.parametrize("convert", [str, os.fsencode, Path], ids=["str", "bytes", "path"])
async def test_no_such_program(convert: Any) -> None:
    name = convert("/no/such/program")
    error = await same_error([name, "argument"])
    assert type(error) is FileNotFoundError
    assert error.filename == name
    await same_error(name)


async def test_no_such_program_in_path() -> None:
    error = await same_error(["no-such-program-at-all"])
    assert type(error) is FileNotFoundError
    assert error.filename == "no-such-program-at-all"


async def test_not_executable(script: Any) -> None:
    error = await same_error([str(script("data", mode=0o644))])
    assert type(error) is PermissionError


async def test_a_directory(tmp_path: Path) -> None:
    error = await same_error([str(tmp_path)])
    assert type(error) is PermissionError


async def test_below_a_file(script: Any) -> None:
    error = await same_error([str(script("file") / "x")])
    assert type(error) is NotADirectoryError


async def test_a_name_that_is_too_long() -> None:
    error = await same_error(["/" + "x" * 5000])
    assert error.errno == errno.ENAMETOOLONG


async def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    error = await same_error([str(tmp_path / "loop")])
    assert error.errno == errno.ELOOP


@pytest.mark.parametrize("text", ["echo without a first line\n", ""])
async def test_no_executable_format(script: Any, text: str) -> None:
    error = await same_error([str(script("file", text))])
    assert error.errno == errno.ENOEXEC


async def test_a_missing_interpreter(script: Any) -> None:
    path = str(script("file", "#!/no/such/interpreter\n"))
    error = await same_error([path])
    assert (type(error), error.filename) == (FileNotFoundError, path)


async def test_a_file_that_is_open_for_writing(script: Any) -> None:
    path = script("busy")
    with path.open("a"):
        error = await same_error([str(path)])
    assert error.errno == errno.ETXTBSY


@pytest.mark.parametrize("name", ["", b""])
async def test_an_empty_name(name: Any) -> None:
    error = await same_error([name])
    assert type(error) in (FileNotFoundError, PermissionError)
    assert error.__notes__ == ["The name of the program is empty."]


async def test_executable_is_named_in_the_error() -> None:
    error = await same_error(["name"], executable="/no/such/executable")
    assert error.filename == "/no/such/executable"
    error = await same_error("echo", shell=True, executable="/no/such/shell")
    assert error.filename == "/no/such/shell"


async def test_an_argument_list_that_is_too_long() -> None:
    error = await same_error(["/bin/true", *["x" * 100_000] * 100])
    assert error.errno == errno.E2BIG


async def test_an_empty_command() -> None:
    """subprocess says IndexError by accident (of its list); asyncio's takes at least a program."""
    with pytest.raises(ValueError, match="empty"):
        await aiopidfd.run_process([])
    with pytest.raises(ValueError, match="empty"):
        aiopidfd.spawn([])
    with pytest.raises(TypeError):
        await aiopidfd.create_subprocess_exec()


@pytest.mark.parametrize("command", [None, 3, ["/bin/echo", 3], ["/bin/echo", None], [None]])
async def test_a_command_of_a_wrong_type(command: Any) -> None:
    error = await our_error(command)
    assert type(error) is type(their_error(command)) is TypeError


async def test_a_path_is_no_shell_command() -> None:
    path = Path("/bin/true")
    error = await our_error(path, shell=True)
    assert facts(error) == facts(their_error(path, shell=True))


# PATH


async def test_path_order(script: Any, tmp_path: Path) -> None:
    script("a/program", "#!/bin/sh\necho a\n")
    script("b/program", "#!/bin/sh\necho b\n")
    for order in ("ab", "ba"):
        env = {"PATH": ":".join(str(tmp_path / name) for name in order)}
        result = await aiopidfd.run_process(["program"], env=env)
        assert result.stdout == subprocess.run(["program"], env=env, stdout=PIPE).stdout
        assert result.stdout == order[0].encode() + b"\n"


async def test_path_goes_on_after_eacces(script: Any, tmp_path: Path) -> None:
    script("a/program", mode=0o644)
    script("c/program", "#!/bin/sh\necho c\n")
    env = {"PATH": f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"}
    assert (await aiopidfd.run_process(["program"], env=env)).stdout == b"c\n"
    assert subprocess.run(["program"], env=env, stdout=PIPE).stdout == b"c\n"


@pytest.mark.parametrize("order", ["ab", "ba", "abx", "xa", "fa", "af", "x", "f", "xf"])
async def test_which_error_of_path_is_told(script: Any, tmp_path: Path, order: str) -> None:
    """EACCES in one directory outlives ENOENT in the others; ENOENT itself is told last."""
    script("a/program", mode=0o644)  # EACCES
    (tmp_path / "b").mkdir()  # ENOENT
    script("f")  # ENOTDIR; and x does not exist
    env = {"PATH": ":".join(str(tmp_path / name) for name in order)}
    error = await same_error(["program"], env=env)
    assert type(error) is (PermissionError if "a" in order else type(error))


async def test_path_goes_on_after_another_error(script: Any, tmp_path: Path) -> None:
    script("a/program", "no first line\n")  # ENOEXEC
    script("b/program")
    env = {"PATH": f"{tmp_path}/a:{tmp_path}/b"}
    command, options = ["program"], {"env": env}
    # Errors other than ENOENT and ENOTDIR are kept for the end; the search goes on.
    theirs = subprocess.run(command, stdout=PIPE, **options)
    ours = await aiopidfd.run_process(command, **options)
    assert ours.stdout == theirs.stdout == b"started\n"


@pytest.mark.parametrize("path", ["", ":", "/nowhere:", ":/nowhere", "/nowhere::/none"])
async def test_empty_path_entries(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    script("program")
    monkeypatch.chdir(tmp_path)
    env = {"PATH": path}
    theirs = subprocess.run(["program"], env=env, stdout=PIPE)
    assert theirs.stdout == b"started\n"
    assert (await aiopidfd.run_process(["program"], env=env)).stdout == b"started\n"


async def test_an_empty_entry_is_the_childs_cwd(script: Any, tmp_path: Path) -> None:
    script("program")
    options = {"env": {"PATH": "/nowhere:"}, "cwd": tmp_path}
    assert subprocess.run(["program"], stdout=PIPE, **options).stdout == b"started\n"
    assert (await aiopidfd.run_process(["program"], **options)).stdout == b"started\n"


async def test_without_path_there_is_a_default() -> None:
    assert subprocess.run(["true"], env={}).returncode == 0
    assert (await aiopidfd.run_process(["true"], env={})).returncode == 0


async def test_path_of_ours_when_env_is_none(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("bin/program")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert (await aiopidfd.run_process(["program"])).stdout == b"started\n"
    monkeypatch.setenv("PATH", "/nowhere")
    await same_error(["program"])


async def test_a_name_with_a_slash_is_not_looked_for(script: Any, tmp_path: Path) -> None:
    script("bin/sub/program")
    error = await same_error(["sub/program"], env={"PATH": str(tmp_path / "bin")})
    assert error.filename == "sub/program"


async def test_both_kinds_of_path_in_env() -> None:
    error = await same_error(["true"], env={"PATH": "/bin", b"PATH": b"/bin"})
    assert type(error) is ValueError


# cwd


async def test_missing_cwd(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    error = await same_error(["/bin/true"], cwd=missing)
    assert (type(error), error.filename) == (FileNotFoundError, missing)


@pytest.mark.parametrize("convert", [os.fsencode, Path], ids=["bytes", "path"])
async def test_missing_cwd_is_named_as_given(tmp_path: Path, convert: Any) -> None:
    missing = convert(tmp_path / "missing")
    error = await same_error(["/bin/true"], cwd=missing)
    assert error.filename is missing


async def test_cwd_that_is_a_file(script: Any) -> None:
    path = str(script("file"))
    error = await same_error(["/bin/true"], cwd=path)
    assert (type(error), error.filename) == (NotADirectoryError, path)


async def test_empty_cwd() -> None:
    await same_error(["/bin/true"], cwd="")


async def test_cwd_at_fault_although_the_program_is_missing_too(tmp_path: Path) -> None:
    error = await same_error(["/no/such/program"], cwd=str(tmp_path / "missing"))
    assert error.filename == str(tmp_path / "missing")


async def test_program_missing_in_cwd(tmp_path: Path) -> None:
    error = await same_error(["./program"], cwd=str(tmp_path))
    assert (type(error), error.filename) == (FileNotFoundError, "./program")


async def test_a_cwd_of_a_wrong_type() -> None:
    assert type(await same_error(["/bin/true"], cwd=3, message=False)) is TypeError


# NUL bytes and names


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["/bin/true", "a\0b"], {}),
        (["/bin/true", b"\0"], {}),
        (["/bin/tr\0ue"], {}),
        (["tr\0ue"], {}),
        (["x"], {"executable": "/bin/true\0"}),
        (["/bin/true"], {"cwd": "/\0"}),
        (["/bin/true"], {"env": {"A\0B": "1"}}),
        (["/bin/true"], {"env": {"A": "1\0"}}),
        (["/bin/true"], {"env": {b"A": b"\0"}}),
        ("true \0", {"shell": True}),
        (["true"], {"env": {"PATH": "/bin\0"}}),
    ],
    ids=repr,
)
async def test_nul_bytes(command: Any, options: dict[str, Any]) -> None:
    error = await same_error(command, **options)
    assert type(error) is ValueError
    assert str(error).startswith("embedded null byte (for ")


@pytest.mark.parametrize("name", ["A=B", "=", "=A", b"A=", "A=B=C"])
async def test_an_equals_sign_in_a_name(name: Any) -> None:
    error = await same_error(["/bin/true"], env={name: b"x" if isinstance(name, bytes) else "x"})
    said = f"illegal environment variable name (for the option env, {name!r})"
    assert (type(error), str(error)) == (ValueError, said)


async def test_an_equals_sign_in_a_value_is_none_of_it() -> None:
    result = await aiopidfd.run_process(["/bin/cat", "/proc/self/environ"], env={"A": "=b="})
    assert result.stdout == b"A==b=\0"


@pytest.mark.parametrize("env", [{"A": 1}, {1: "A"}, {"A": None}, 3, "A=1", [("A", "1")]])
async def test_an_env_of_a_wrong_type(env: Any) -> None:
    theirs = their_error(["/bin/true"], env=env)
    assert type(await our_error(["/bin/true"], env=env)) is type(theirs)


async def test_surrogates_that_cannot_be_encoded() -> None:
    error = await same_error(["/bin/echo", "\ud800"], message=False)
    assert type(error) is UnicodeEncodeError


# Arguments that are no mistake


async def test_empty_and_odd_arguments() -> None:
    command = [
        "/bin/sh",
        "-c",
        "printf '<%s>' \"$@\"",
        "sh",
        "",
        b"\xff",
        Path("/p"),
        "\udcff",
        " ",
    ]
    expected = b"<><\xff></p><\xff>< >"
    assert (await aiopidfd.run_process(command)).stdout == expected
    assert subprocess.run(command, stdout=PIPE).stdout == expected


@pytest.mark.parametrize("convert", [os.fsencode, Path], ids=["bytes", "path"])
async def test_a_program_of_other_types(convert: Any) -> None:
    assert (await aiopidfd.run_process([convert("/bin/echo"), "x"])).stdout == b"x\n"
    process = await aiopidfd.create_subprocess_exec(convert("/bin/true"))
    assert await process.wait() == 0


# Descriptors


def closed_fd() -> int:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("other", [{}, {"user": 0}], ids=str)
async def test_a_closed_descriptor(stream: str, other: dict[str, Any]) -> None:
    if other and os.geteuid() != 0:
        pytest.skip("only root may change ids")
    fd = closed_fd()
    options = {stream: 1000 + fd, **other}
    theirs = their_error(["/bin/true"], **options)
    error = await our_error(["/bin/true"], **options)
    assert isinstance(theirs, OSError)
    assert isinstance(error, OSError)
    assert error.errno == theirs.errno == errno.EBADF
    # subprocess 3.11 blames the cwd, None here; later ones name no file either.
    assert error.filename is theirs.filename is None


@pytest.mark.parametrize("fd", [-5, -100])
async def test_a_negative_descriptor(fd: int) -> None:
    """subprocess takes -1 for PIPE, and other negative numbers for "nothing"; we refuse them."""
    error = await our_error(["/bin/true"], stdin=fd)
    assert isinstance(error, OSError)
    assert error.errno == errno.EBADF


async def test_a_closed_file(tmp_path: Path) -> None:
    file = (tmp_path / "file").open("w")
    file.close()
    await same_error(["/bin/true"], stdout=file)


@pytest.mark.parametrize("choice", ["text", 1.5, b"x", object(), []])
async def test_what_is_no_stdio(choice: Any) -> None:
    """subprocess says AttributeError, by accident; asyncio's too."""
    assert isinstance(their_error(["/bin/true"], stdin=choice), (AttributeError, TypeError))
    with pytest.raises((AttributeError, TypeError)):
        await aiopidfd.create_subprocess_exec("/bin/true", stdin=choice)


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
async def test_stdout_is_for_stderr(stream: str) -> None:
    for options in ({stream: STDOUT}, {stream: STDOUT, "stderr": STDOUT}):
        with pytest.raises(ValueError, match="STDOUT can only be used for stderr"):
            await aiopidfd.create_subprocess_exec("/bin/true", **options)


async def test_a_bad_descriptor_after_pipes_were_made() -> None:
    """Those are closed again: the fixture counts."""
    error = await our_error(["/bin/true"], stdin=PIPE, stdout=PIPE, stderr=closed_fd() + 1000)
    assert error.errno == errno.EBADF  # type: ignore[attr-defined]


@pytest.mark.parametrize("fds", [[-1], [5, -1], [-(2**31)]], ids=repr)
async def test_bad_numbers_in_pass_fds(fds: Any) -> None:
    error = await same_error(["/bin/true"], pass_fds=fds, message=False)
    # subprocess speaks of its own "fds_to_keep" there.
    said = f"bad value(s) in pass_fds: {min(fds)} is no descriptor"
    assert (type(error), str(error)) == (ValueError, said)


@pytest.mark.parametrize("fds", [["3"], [3.0], 3, [None]], ids=repr)
async def test_pass_fds_of_a_wrong_type(fds: Any) -> None:
    """subprocess converts them with int(), so takes some of these."""
    assert type(await our_error(["/bin/true"], pass_fds=fds)) is TypeError


async def test_a_closed_descriptor_in_pass_fds() -> None:
    fd = closed_fd() + 1000
    theirs = their_error(["/bin/true"], pass_fds=[fd])
    error = await our_error(["/bin/true"], pass_fds=[fd])
    assert isinstance(error, OSError)
    assert isinstance(theirs, OSError)
    assert (error.errno, error.filename) == (theirs.errno, theirs.filename)


async def test_pass_fds_overrides_close_fds() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        subprocess.run(["/bin/true"], pass_fds=[0], close_fds=False)
        await aiopidfd.run_process(["/bin/true"], pass_fds=[0], close_fds=False)
    theirs, ours = caught
    assert theirs.category is ours.category is RuntimeWarning
    assert str(theirs.message) == str(ours.message) == "pass_fds overriding close_fds."


async def test_pass_fds_overriding_close_fds_as_an_error_leaks_nothing() -> None:
    with pytest.raises(RuntimeWarning):  # as this suite has it
        await aiopidfd.run_process(["/bin/true"], pass_fds=[0], close_fds=False)


async def spawn_with_free_descriptors(count: int) -> str | None:
    """The name of the errno with so many descriptors free, or None if there were enough."""
    try:
        with room_for(count):
            process = await aiopidfd.create_subprocess_exec(
                "/bin/true", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            await process.communicate()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return None


async def test_no_descriptor_is_free() -> None:
    """EMFILE comes before anything has started, and everything is closed again."""
    said = [await spawn_with_free_descriptors(count) for count in range(16)]
    enough = said.index(None)
    assert enough >= 6  # the pipes' ends
    assert said == ["EMFILE"] * enough + [None] * (16 - enough)


# Ids


@pytest.mark.parametrize(
    "options",
    [
        {"user": "no such user"},
        {"user": -1},
        {"user": 2**64},
        {"user": 1.5},
        {"user": b"root"},
        {"group": "no such group"},
        {"group": -1},
        {"group": 2**64},
        {"group": 1.5},
        {"extra_groups": "root"},
        {"extra_groups": ["no such group"]},
        {"extra_groups": [-1]},
        {"extra_groups": [2**64]},
        {"extra_groups": [1.5]},
        {"extra_groups": 3},
    ],
    ids=str,
)
async def test_bad_ids(options: dict[str, Any]) -> None:
    theirs = their_error(["/bin/true"], **options)
    error = await our_error(["/bin/true"], **options)
    assert type(error) is type(theirs)
    if isinstance(error, KeyError):
        assert error.args[0].startswith(f"{theirs.args[0]} (for the option ")


@as_root
async def test_more_groups_than_the_kernel_takes() -> None:
    groups = range(70_000)
    theirs = their_error(["/bin/true"], extra_groups=groups)
    error = await our_error(["/bin/true"], extra_groups=groups)
    assert isinstance(error, (OSError, ValueError))
    assert isinstance(theirs, (OSError, ValueError))


@as_root
async def test_a_program_that_the_user_may_not_run(script: Any, tmp_path: Path) -> None:
    path = str(script("sub/program"))
    (tmp_path / "sub").chmod(0o700)
    error = await same_error([path], user=NOBODY)
    assert (type(error), error.filename) == (PermissionError, path)


NOT_PERMITTED = """
import asyncio, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import aiopidfd
assert aiopidfd.spawn(["/bin/true"]).wait() == 0
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)

async def main():
    for options in ({"user": 0}, {"group": 0}, {"extra_groups": [0]}, {"user": 65534}):
        said = []
        for kind in ("theirs", "ours"):
            try:
                if kind == "theirs":
                    subprocess.run(["/bin/true"], **options)
                else:
                    await aiopidfd.run_process(["/bin/true"], **options)
                said.append(None)
            except OSError as exc:
                said.append((type(exc).__name__, exc.errno, exc.filename))
        print(*options, said[0] == said[1], said[1], flush=True)
    # What the kernel answers when nothing is asked of it works as before.
    result = await aiopidfd.run_process(["/bin/sh", "-c", "id -u"])
    print(result.stdout)

asyncio.run(main())
"""


@as_root
async def test_not_permitted() -> None:
    result = await aiopidfd.run_process(
        [sys.executable, "-c", NOT_PERMITTED, SOURCES], text=True, check=False, cwd="/"
    )
    assert result.stderr == ""
    denied = "True ('PermissionError', 1, None)"
    assert result.stdout.splitlines() == [
        f"user {denied}",
        f"group {denied}",
        f"extra_groups {denied}",
        "user True None",
        "b'65534\\n'",
    ]


@pytest.mark.parametrize(
    "options",
    [{"process_group": 2**22 + 5}, {"process_group": 1}],
    ids=str,
)
async def test_a_process_group_that_cannot_be_joined(options: dict[str, Any]) -> None:
    theirs = their_error(["/bin/true"], **options)
    error = await our_error(["/bin/true"], **options)
    assert isinstance(error, OSError)
    assert isinstance(theirs, OSError)
    assert (error.errno, error.filename) == (theirs.errno, None)


async def test_start_new_session_and_process_group() -> None:
    """A session's leader cannot join or make another group."""
    theirs = their_error(["/bin/true"], start_new_session=True, process_group=1)
    error = await our_error(["/bin/true"], start_new_session=True, process_group=1)
    assert isinstance(error, OSError)
    assert isinstance(theirs, OSError)
    assert error.errno == theirs.errno
    assert "process_group" in str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"umask": "077"},
        {"umask": None},
        {"umask": 2**31},
        {"process_group": "0"},
        {"pipesize": "x"},
        {"pipesize": 1.5},
    ],
    ids=str,
)
async def test_options_of_a_wrong_type(options: dict[str, Any]) -> None:
    theirs = their_error(["/bin/true"], stdin=PIPE, **options)
    error = await our_error(["/bin/true"], stdin=PIPE, **options)
    assert type(error) is type(theirs)


async def test_a_process_group_beyond_an_int() -> None:
    """Which subprocess cuts down to one in some versions, and joins another group then."""
    for number in (2**31, 2**40, -(2**31) - 1):
        assert type(await our_error(["/bin/true"], process_group=number)) is OverflowError


async def test_a_pipesize_beyond_the_limit() -> None:
    theirs = their_error(["/bin/true"], stdin=PIPE, pipesize=2**31 - 1)
    error = await our_error(["/bin/true"], stdin=PIPE, pipesize=2**31 - 1)
    assert facts(error)[:2] == facts(theirs)[:2]


async def test_ctrl_c_in_a_block_is_not_held_up_by_the_program() -> None:
    """For a quarter of a second, in which a program at the same terminal ends: as with Popen."""
    for function in (aiopidfd.spawn, subprocess.Popen):
        with pytest.raises(KeyboardInterrupt), function(["sleep", "1000"]) as child:
            raise KeyboardInterrupt
        assert child.poll() is None
        child.kill()
        assert child.wait() == -9


# Nothing is left


async def test_failures_leave_nothing_however_many() -> None:
    """The fixture counts descriptors, children and records; so many would show anywhere."""
    for _ in range(100):
        with pytest.raises(FileNotFoundError):
            await aiopidfd.create_subprocess_exec(
                "/no/such/program", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )


@as_root
async def test_failures_with_other_ids_leave_nothing() -> None:
    """These have a memory map, and a record, of their own."""
    for _ in range(20):
        with pytest.raises(FileNotFoundError):
            await aiopidfd.create_subprocess_exec("/no/such/program", stdin=PIPE, user=NOBODY)


async def test_a_failure_harms_no_other() -> None:
    process = await aiopidfd.create_subprocess_exec(*sh("cat; exit 3"), stdin=PIPE, stdout=PIPE)
    with pytest.raises(FileNotFoundError):
        await aiopidfd.create_subprocess_exec("/no/such/program", stdin=PIPE)
    assert await process.communicate(b"data") == (b"data", None)
    assert process.returncode == 3
