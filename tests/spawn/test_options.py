"""Every option, on every loop, against what `subprocess.run` does with it."""

import asyncio
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PIPE

from ..support import gate, hang_guard, proc_status, python, sh

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change ids")

NOBODY = 65534
IDS = ("Uid", "Gid", "Groups")
SIGNALS = ("SigBlk", "SigIgn", "SigCgt")
PR_GET_DUMPABLE = 3


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


async def ours(command: Any, **options: Any) -> bytes:
    result = await aiopidfd.run_process(command, check=False, **options)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


def theirs(command: Any, **options: Any) -> bytes:
    result = subprocess.run(command, check=False, capture_output=True, **options)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


async def both(command: Any, **options: Any) -> bytes:
    """The output with these options, which must be what it is under subprocess."""
    out = await ours(command, **options)
    assert out == theirs(command, **options)
    return out


async def status(*fields: str, **options: Any) -> dict[str, str]:
    """What /proc/self/status says in the child; the same as under subprocess."""
    command = ["/bin/cat", "/proc/self/status"]
    seen = proc_status(await ours(command, **options), *fields)
    assert seen == proc_status(theirs(command, **options), *fields)
    return seen


# cwd


@pytest.mark.parametrize("convert", [str, os.fsencode, Path], ids=["str", "bytes", "path"])
async def test_cwd(tmp_path: Path, convert: Any) -> None:
    (tmp_path / "sub").mkdir()
    out = await both(sh("pwd -P"), cwd=convert(tmp_path / "sub"))
    assert out == os.fsencode((tmp_path / "sub").resolve()) + b"\n"


async def test_cwd_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert await both(sh("pwd -P"), cwd="sub") == os.fsencode((tmp_path / "sub").resolve()) + b"\n"
    assert Path.cwd() == tmp_path.resolve()


async def test_a_relative_program_is_looked_for_in_cwd(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    assert await both(["./program"], cwd=tmp_path) == b"here\n"


async def test_cwd_is_the_one_at_the_time_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await both(sh("pwd -P")) == os.fsencode(tmp_path.resolve()) + b"\n"


# env


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"A": "1", "B": "two words", "C": ""},
        {b"A": b"\xff\xfe", b"\xe9": b"x"},
        {"A": b"mixed"},
        {"A": Path("/a/path")},
        {"é": "ü", "N": "line\nbreak"},
        {"": "no name"},
        {"PATH": "/nowhere"},
    ],
    ids=["empty", "str", "bytes", "mixed", "path", "unicode", "nameless", "PATH"],
)
async def test_env(env: Any) -> None:
    out = await both(["/bin/cat", "/proc/self/environ"], env=env)
    expected = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in env.items()]
    assert out == b"".join(entry + b"\0" for entry in expected)


async def test_env_none_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THIS_TEST", "value")
    assert await both(sh("echo $OF_THIS_TEST")) == b"value\n"
    monkeypatch.delenv("OF_THIS_TEST")
    assert await both(sh("echo ${OF_THIS_TEST-none}")) == b"none\n"


async def test_env_none_is_that_of_the_c_library() -> None:
    """`os.putenv`, or C code's `setenv`, is not seen in os.environ; execv(3) passes it on."""
    os.putenv("OF_THIS_TEST", "by putenv")
    try:
        assert await both(sh("echo $OF_THIS_TEST")) == b"by putenv\n"
    finally:
        os.unsetenv("OF_THIS_TEST")


async def test_path_is_that_of_env(tmp_path: Path) -> None:
    program = tmp_path / "only-there"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert await both(["only-there"], env={"PATH": f"/nowhere:{tmp_path}"}) == b"found\n"
    assert await both(["only-there"], env={b"PATH": os.fsencode(tmp_path)}) == b"found\n"


# executable


async def test_executable() -> None:
    out = await both(["pretended", "/proc/self/cmdline"], executable="/bin/cat")
    assert out == b"pretended\0/proc/self/cmdline\0"


@pytest.mark.parametrize("convert", [os.fsencode, Path], ids=["bytes", "path"])
async def test_executable_of_other_types(convert: Any) -> None:
    assert await both(["", "/dev/null"], executable=convert("/bin/cat")) == b""


async def test_executable_is_looked_for_in_path() -> None:
    assert await both(["x", "-c", "echo $0"], executable="sh") == b"x\n"


async def test_executable_is_the_shell() -> None:
    code = "import sys; print(sys.argv, len(sys.orig_argv))"
    out = await both(code, shell=True, executable=sys.executable)
    assert out == b"['-c'] 3\n"


async def test_shell_with_a_sequence_gives_it_arguments() -> None:
    assert await both(["echo $0-$1", "zero", "one"], shell=True) == b"zero-one\n"


async def test_a_string_without_a_shell_is_a_program() -> None:
    assert await both("/bin/pwd", shell=False, cwd="/") == b"/\n"


# user, group, extra_groups


@as_root
@pytest.mark.parametrize(
    "options",
    [
        {"user": NOBODY},
        {"user": "nobody"},
        {"user": 12345},
        {"group": NOBODY},
        {"group": "daemon"},
        {"group": 2**32 - 2, "user": 2**32 - 2},
        {"extra_groups": []},
        {"extra_groups": [1, 2, 3]},
        {"extra_groups": ("daemon", 7)},
        {"extra_groups": range(1, min(300, os.sysconf("SC_NGROUPS_MAX")))},  # 32 in musl
        {"user": "nobody", "group": 7, "extra_groups": [8, 9]},
        {"user": 0, "group": 0, "extra_groups": [0]},
    ],
    ids=str,
)
async def test_ids(options: dict[str, Any]) -> None:
    seen = await status(*IDS, **options)
    if isinstance(options.get("user"), int):
        assert seen["Uid"].split() == [str(options["user"])] * 4
    if isinstance(options.get("group"), int):
        assert seen["Gid"].split() == [str(options["group"])] * 4


@as_root
async def test_extra_groups_may_be_any_iterable() -> None:
    out = await ours(["/bin/cat", "/proc/self/status"], extra_groups=iter([5, 6]))
    assert proc_status(out, "Groups") == {"Groups": "5 6"}


@as_root
async def test_ids_are_real_effective_and_saved() -> None:
    seen = await status(*IDS, user=NOBODY, group=7, extra_groups=[8])
    assert seen == {
        "Uid": "\t".join([str(NOBODY)] * 4),
        "Gid": "\t".join(["7"] * 4),
        "Groups": "8",
    }
    assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))


@as_root
async def test_a_user_without_capabilities() -> None:
    seen = await status("CapEff", "CapPrm", user=NOBODY)
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0


@as_root
async def test_the_cwd_is_entered_with_our_rights_not_the_users(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    out = await both(["/bin/readlink", "/proc/self/cwd"], cwd=tmp_path, user=NOBODY)
    assert out == os.fsencode(tmp_path.resolve()) + b"\n"


@as_root
@pytest.mark.parametrize(
    "options", [{"user": NOBODY}, {"group": NOBODY}, {"extra_groups": [1]}], ids=str
)
async def test_changing_ids_leaves_us_dumpable(options: dict[str, Any]) -> None:
    """In a memory map that both share the kernel would take that from us."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, **options)
    assert prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1
    await process.communicate()
    assert prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1


@as_root
async def test_a_failed_change_of_ids_leaves_us_dumpable() -> None:
    with pytest.raises(FileNotFoundError):
        await aiopidfd.create_subprocess_exec("/no/such", user=NOBODY)
    assert ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1


@as_root
async def test_signals_to_a_child_of_another_user() -> None:
    process = await aiopidfd.create_subprocess_exec("sleep", "60", user=NOBODY)
    process.terminate()
    assert await process.wait() == -signal.SIGTERM


# umask


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777, -1])
async def test_umask(umask: int) -> None:
    seen = await status("Umask", umask=umask)
    if umask >= 0:
        assert int(seen["Umask"], 8) == umask


async def test_umask_is_inherited() -> None:
    before = os.umask(0o123)
    try:
        assert await status("Umask") == {"Umask": "0123"}
        assert await status("Umask", umask=0o27) == {"Umask": "0027"}
        assert os.umask(0o123) == 0o123
    finally:
        os.umask(before)


# Sessions and process groups

PLACE = "import os; print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, b"False False\n"),
        ({"start_new_session": True}, b"True True\n"),
        ({"process_group": 0}, b"False True\n"),
        ({"process_group": -1}, b"False False\n"),
        ({"process_group": None}, b"False False\n"),
    ],
    ids=str,
)
async def test_session_and_group(options: dict[str, Any], expected: bytes) -> None:
    assert await both(python(PLACE), **options) == expected


async def test_without_an_option_session_and_group_are_ours() -> None:
    out = await both(python("import os; print(os.getsid(0), os.getpgid(0))"))
    assert out == f"{os.getsid(0)} {os.getpgid(0)}\n".encode()


async def test_an_existing_process_group() -> None:
    leader = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, process_group=0)
    out = await both(python("import os; print(os.getpgid(0))"), process_group=leader.pid)
    assert out == f"{leader.pid}\n".encode()
    await leader.communicate()


async def test_a_group_may_be_killed_whole() -> None:
    process = await aiopidfd.create_subprocess_exec(
        *sh("sleep 60 & sleep 60 & echo ready; wait"), stdout=PIPE, process_group=0
    )
    assert await process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGKILL)
    assert await process.communicate(drain=None) == (b"", None)  # no one holds the pipe any more
    assert process.returncode == -signal.SIGKILL


# Signals


@pytest.fixture
def _blocked() -> Iterator[None]:
    mask = {signal.SIGUSR1, signal.SIGCHLD, signal.SIGRTMIN + 2}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, mask)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def bit(*numbers: int) -> int:
    return sum(1 << (number - 1) for number in numbers)


@pytest.mark.usefixtures("_blocked")
@pytest.mark.parametrize("options", [{}, {"restore_signals": False}], ids=str)
async def test_blocked_signals_are_passed_on(options: dict[str, Any]) -> None:
    seen = await status(*SIGNALS, **options)
    wanted = bit(signal.SIGUSR1, signal.SIGCHLD, signal.SIGRTMIN + 2)
    assert int(seen["SigBlk"], 16) == wanted


@pytest.mark.usefixtures("_blocked")
@as_root
async def test_blocked_signals_are_passed_on_with_a_user_too() -> None:
    seen = await status(*SIGNALS, user=NOBODY)
    assert int(seen["SigBlk"], 16) & bit(signal.SIGUSR1)


async def test_nothing_is_blocked_otherwise() -> None:
    seen = await status(*SIGNALS)
    ours_now = proc_status(Path("/proc/thread-self/status").read_text(), "SigBlk")
    assert seen["SigBlk"] == ours_now["SigBlk"]
    assert int(seen["SigCgt"], 16) == 0


@pytest.mark.parametrize("name", ["SIGCHLD", "SIGHUP", "SIGUSR2", "SIGQUIT"])
async def test_ignored_signals_are_passed_on(name: str) -> None:
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        seen = await status(*SIGNALS)
        assert int(seen["SigIgn"], 16) & bit(number)
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("name", ["SIGCHLD", "SIGUSR2", "SIGTERM"])
async def test_handled_signals_are_reset(name: str) -> None:
    number = signal.Signals[name]
    before = signal.signal(number, lambda *_: None)
    try:
        seen = await status(*SIGNALS)
    finally:
        signal.signal(number, before)
    assert not int(seen["SigCgt"], 16)
    assert not int(seen["SigIgn"], 16) & bit(number)


@pytest.mark.parametrize("restore", [True, False])
async def test_restore_signals(restore: bool) -> None:
    """CPython ignores SIGPIPE and SIGXFSZ for itself."""
    seen = await status(*SIGNALS, restore_signals=restore)
    restored = bit(signal.SIGPIPE, signal.SIGXFSZ)
    assert int(seen["SigIgn"], 16) & restored == (0 if restore else restored)


async def test_restored_sigpipe_ends_a_writer() -> None:
    process = await aiopidfd.create_subprocess_exec("yes", stdout=PIPE)
    await process.stdout.readline()
    process.stdout.close()
    assert await process.wait() == -signal.SIGPIPE


# close_fds and pass_fds

HAS = 'for fd in "$@"; do test -e /proc/$$/fd/$fd && echo open || echo closed; done'


@pytest.mark.parametrize(
    ("close_fds", "expected"), [(True, b"closed\nclosed\n"), (False, b"open\nclosed\n")]
)
async def test_close_fds(close_fds: bool, expected: bytes) -> None:
    with gate() as (inheritable, _, other):
        os.set_inheritable(inheritable, True)
        command = sh(HAS, str(inheritable), str(other))
        assert await both(command, close_fds=close_fds) == expected


async def test_close_fds_closes_high_numbers() -> None:
    with gate() as (read, _, _):
        high = fcntl.fcntl(read, fcntl.F_DUPFD, 900)
        try:
            assert high >= 900
            assert await both(sh(HAS, str(high))) == b"closed\n"
            assert await both(sh(HAS, str(high)), close_fds=False) == b"open\n"
        finally:
            os.close(high)


async def test_nothing_but_the_standard_three_is_open() -> None:
    command = ["/bin/ls", "/proc/self/fd"]  # the listing's own is 3
    assert await both(command, stdin=subprocess.DEVNULL) == b"0\n1\n2\n3\n"


async def test_pass_fds(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content\n")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with gate() as (read, _, write):
        try:
            # By number, in the child; not only by what is behind it.
            command = sh(
                'stat -L -c %i /proc/$$/fd/"$1"; ' + f"shift; {HAS}", str(fd), str(read), str(write)
            )
            out = await both(command, pass_fds=[fd, read])
            inode = os.fstat(fd).st_ino
            assert out == f"{inode}\nopen\nclosed\n".encode()
            assert not os.get_inheritable(fd)
            assert await ours(sh("cat /proc/self/fd/$1", str(fd)), pass_fds=iter([fd])) == (
                b"content\n"
            )
        finally:
            os.close(fd)


async def test_pass_fds_shares_the_open_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.write(b"1234")
        await ours(
            python("import os, sys; os.lseek(int(sys.argv[1]), 2, 0)", str(file.fileno())),
            pass_fds=(file.fileno(),),
        )
        assert file.tell() == 2


async def test_many_pass_fds() -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(200)]
    try:
        chosen = fds[::3]
        out = await both(sh(HAS, *map(str, fds)), pass_fds=chosen)
        assert out.split() == [b"open" if fd in chosen else b"closed" for fd in fds]
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("passed", [(0,), (1,), (2,), (0, 1, 2)])
async def test_pass_fds_of_the_standard_three(passed: tuple[int, ...]) -> None:
    assert await both(sh("cat"), pass_fds=passed, input=b"data") == b"data"


async def test_a_descriptor_passed_as_stdin_and_under_its_number() -> None:
    with gate() as (read, _, write):
        os.write(write, b"data\n")
        command = sh("read x; echo $x; stat -L -c %i /proc/$$/fd/$1", str(read))
        out = await ours(command, stdin=read, pass_fds=[read])
        assert out == f"data\n{os.fstat(read).st_ino}\n".encode()


async def test_standard_streams_crosswise(tmp_path: Path) -> None:
    """0, 1 and 2 of ours as the others of the child: no dup may hit one that is still needed."""
    script = python(
        "import os, sys; f = open(sys.argv[1], 'w');"
        "print([os.fstat(n).st_ino for n in range(3)], file=f)",
        str(tmp_path / "seen"),
    )
    inodes = [os.fstat(fd).st_ino for fd in range(3)]
    if len(set(inodes)) != 3:
        pytest.skip("without pytest's capturing, 0, 1 and 2 may be one file")
    for order in ((1, 2, 0), (2, 0, 1), (1, 0, 2), (2, 1, 0), (0, 0, 0), (2, 2, 1)):
        seen = []
        for run in ("ours", "theirs"):
            streams = dict(zip(("stdin", "stdout", "stderr"), order, strict=True))
            if run == "ours":
                process = await aiopidfd.create_subprocess_exec(*script, **streams)
                assert await process.wait() == 0
            else:
                subprocess.run(script, check=True, **streams)
            seen.append((tmp_path / "seen").read_text())
        assert seen[0] == seen[1] == f"{[inodes[fd] for fd in order]}\n"


# Pipes

SIZES = "import fcntl; print([fcntl.fcntl(n, fcntl.F_GETPIPE_SZ) for n in range(3)])"


@pytest.mark.parametrize("pipesize", [-1, 0, 4096, 8192, 1 << 20])
async def test_pipesize(pipesize: int) -> None:
    seen = await both(python(SIZES), input=b"", pipesize=pipesize)
    if pipesize > 0:
        assert seen == f"{[pipesize] * 3}\n".encode()


async def test_stdio_are_pipes_never_sockets() -> None:
    script = "for n in 0 1 2; do stat -L -c %F /proc/$$/fd/$n; done; echo >&2"
    process = await aiopidfd.create_subprocess_exec(
        *sh(script), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert await process.communicate() == (b"fifo\n" * 3, b"\n")


async def test_dev_stdin_can_be_opened() -> None:
    assert await both(["/bin/cat", "/dev/stdin"], input=b"data") == b"data"
    assert await both(sh("echo out > /dev/stdout")) == b"out\n"


async def test_the_childs_ends_are_blocking() -> None:
    code = "import os; print([os.get_blocking(n) for n in range(3)])"
    assert await both(python(code), input=b"") == b"[True, True, True]\n"


async def test_an_inherited_file_stays_as_blocking_as_it_is() -> None:
    with gate() as (read, _, write):
        assert os.get_blocking(read)
        process = await aiopidfd.create_subprocess_exec("cat", stdin=read, stdout=PIPE)
        assert os.get_blocking(read)
        os.write(write, b"x")
        assert await process.stdout.readexactly(1) == b"x"
        process.kill()
        await process.wait()
        assert await process.stdout.read() == b""


# What is refused


async def test_preexec_fn_is_refused_and_options_are_named() -> None:
    called: list[int] = []
    for run in (
        lambda **options: aiopidfd.create_subprocess_exec("/bin/true", **options),
        lambda **options: aiopidfd.create_subprocess_shell("true", **options),
        lambda **options: aiopidfd.run_process(["/bin/true"], **options),
    ):
        with pytest.raises(ValueError, match="preexec_fn is not supported") as caught:
            await run(preexec_fn=lambda: called.append(1))
        for option in ("cwd", "umask", "user", "start_new_session", "process_group"):
            assert option in str(caught.value)
        assert not called


async def test_options_of_windows_are_refused_as_by_subprocess() -> None:
    for options in ({"startupinfo": object()}, {"creationflags": 1}):
        with pytest.raises(ValueError, match="Windows") as their_error:
            subprocess.Popen(["/bin/true"], **options)
        with pytest.raises(ValueError, match="Windows") as our_error:
            await aiopidfd.create_subprocess_exec("/bin/true", **options)
        assert str(our_error.value) == str(their_error.value)


async def test_none_for_preexec_fn_and_startupinfo_is_nothing() -> None:
    process = await aiopidfd.create_subprocess_exec(
        "/bin/true", preexec_fn=None, startupinfo=None, creationflags=0
    )
    assert await process.wait() == 0


async def test_all_options_at_once(tmp_path: Path) -> None:
    with gate() as (read, _, _):
        options: dict[str, Any] = {
            "cwd": tmp_path,
            "env": {"A": "1"},
            "executable": "/bin/sh",
            "umask": 0o70,
            "start_new_session": True,
            "process_group": None,
            "restore_signals": True,
            "close_fds": True,
            "pass_fds": [read],
            "pipesize": 4096,
        }
        if os.geteuid() == 0:
            options |= {"user": NOBODY, "group": NOBODY, "extra_groups": [1]}
        script = f"pwd; echo $A $0; umask; test -e /proc/$$/fd/{read} && echo passed"
        out = await both(["zero", "-c", script], **options)
        assert out == f"{tmp_path.resolve()}\n1 zero\n0070\npassed\n".encode()


async def test_audit_event() -> None:
    """The same as subprocess raises, with the same arguments; and before anything is started."""
    seen: list[tuple[Any, ...]] = []
    listening = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if listening and event == "subprocess.Popen":
            seen.append(args)

    sys.addaudithook(hook)
    try:
        options: Any = {"cwd": "/", "env": {"PATH": "/bin"}}
        await ours(["true", b"x"], **options)
        theirs(["true", b"x"], **options)
        await ours("true", shell=True)
        theirs("true", shell=True)
    finally:
        listening = False
    assert len(seen) == 4
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]


async def test_options_on_many_at_once(tmp_path: Path) -> None:
    """Each child has its own: nothing of one spawn reaches the next."""

    async def one(number: int) -> bytes:
        cwd = tmp_path / str(number)
        cwd.mkdir()
        return await ours(sh("pwd; echo $N; umask"), cwd=cwd, env={"N": str(number)}, umask=number)

    results = await asyncio.gather(*(one(number) for number in range(30)))
    root = tmp_path.resolve()
    assert results == [f"{root}/{n}\n{n}\n{n:04o}\n".encode() for n in range(30)]
