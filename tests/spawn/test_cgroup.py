"""The option cgroup: on a real cgroup v2, by clone3 and by clone(2)."""

import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopidfd
from aiopidfd import _native

from .. import fresh
from ..census import open_fds
from ..held_exec import held_exec
from ..support import hang_guard, room_for, sh, until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a cgroup away")
with_mounts = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="no mount namespace can be had, as without CAP_SYS_ADMIN",
)


# A cgroup to test on

NO_KILL = "cgroup.kill came with Linux 5.14"


def mounts(kind: str) -> list[tuple[str, Path]]:
    """(which directory of it, where) of the file systems of a kind that are mounted here."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [(line[3], Path(line[4])) for line in lines if line[line.index("-") + 1] == kind]


def cgroup_of(pid: int | str) -> str:
    """Its cgroup v2, as the kernel writes it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "/")


def directory_of_ours() -> Path:
    """The directory of our own cgroup; skips where there is none to be seen."""
    ours = cgroup_of("self") if Path("/proc/self/cgroup").exists() else "/"
    for root, where in mounts("cgroup2"):
        with contextlib.suppress(ValueError):
            return where / Path(ours).relative_to(root)
    pytest.skip("no cgroup v2 is mounted here")


def name_of(cgroup: Path) -> str:
    """What /proc/PID/cgroup says of a process in this child of ours."""
    return str(Path(cgroup_of("self")) / cgroup.relative_to(directory_of_ours()))


def remove(cgroup: Path) -> None:
    """It and all below; what runs in it was killed, or is on its way out."""
    if not cgroup.is_dir():
        return
    for child in [entry for entry in cgroup.iterdir() if entry.is_dir()]:
        remove(child)
    deadline = time.monotonic() + 10
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        assert time.monotonic() < deadline, f"something runs in {cgroup}"
        time.sleep(0.001)
    cgroup.rmdir()


numbers = itertools.count()


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A new child of our own cgroup."""
    path = directory_of_ours() / f"aiopidfd-test-{os.getpid()}-{next(numbers)}"
    try:
        path.mkdir()
    except OSError as exc:
        pytest.skip(f"no cgroup can be made here: {exc}")
    try:
        yield path
    finally:
        remove(path)


@pytest.fixture(params=["clone3", "clone"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Spawn by that call, as where the other is blocked."""
    name: str = request.param
    call = {"clone3": _native.CALL_CLONE3, "clone": _native.CALL_CLONE}[name]
    monkeypatch.setattr(sys.modules["aiopidfd._spawn.clone3_or_clone"], "_call", call)
    return name


by_each_method = pytest.mark.usefixtures("method")


async def cgroup_in_program(**options: Any) -> str:
    result = await aiopidfd.run_process(["cat", "/proc/self/cgroup"], text=True, **options)
    return next(line[3:] for line in result.stdout.splitlines() if line.startswith("0::"))


# Where the program is


FORMS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "bytes": os.fsencode,
    "Path": Path,
    "relative": os.path.relpath,
}


@by_each_method
@pytest.mark.parametrize("form", FORMS)
async def test_by_path(cgroup: Path, form: str) -> None:
    found = await cgroup_in_program(cgroup=FORMS[form](cgroup), cwd="/")
    assert found == name_of(cgroup) != cgroup_of("self")


@by_each_method
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
async def test_by_descriptor(cgroup: Path, flags: int) -> None:
    """Which is duplicated at the call, and left alone."""
    fd = os.open(cgroup, flags | os.O_DIRECTORY)
    try:
        starting = asyncio.create_task(cgroup_in_program(cgroup=fd))
        await asyncio.sleep(0)
    finally:
        os.close(fd)
    assert await starting == name_of(cgroup)


@by_each_method
async def test_none_is_ours(cgroup: Path) -> None:
    assert cgroup.is_dir()
    assert await cgroup_in_program(cgroup=None) == cgroup_of("self")


@by_each_method
async def test_the_program_alone_is_put_there(cgroup: Path) -> None:
    """Neither we, nor a thread of ours, nor the guardian, with which the child shares memory."""
    ours = cgroup_of("self")
    child = aiopidfd.spawn(["sleep", "60"], cgroup=cgroup)
    try:
        assert (cgroup / "cgroup.procs").read_text() == f"{child.pid}\n"
        assert (cgroup / "cgroup.threads").read_text() == f"{child.pid}\n"
        assert cgroup_of(child.pid) == name_of(cgroup)
        assert cgroup_of(child.guardian_pid) == ours
        assert {cgroup_of(f"self/task/{task}") for task in os.listdir("/proc/self/task")} == {ours}
    finally:
        child.kill()
        assert child.wait() == -signal.SIGKILL


@by_each_method
async def test_from_the_first_moment(cgroup: Path) -> None:
    """In a frozen cgroup it does not come to one instruction after it is there."""
    (cgroup / "cgroup.freeze").write_text("1")
    procs = cgroup / "cgroup.procs"
    with hang_guard():
        starting = asyncio.create_task(cgroup_in_program(cgroup=cgroup))
        await until(procs.read_text)
        pid = int(procs.read_text())
        assert "bin/cat" not in os.readlink(f"/proc/{pid}/exe")  # still ours: before the exec
        assert cgroup_of(pid) == name_of(cgroup)
        assert not starting.done()
        (cgroup / "cgroup.freeze").write_text("0")
        assert await starting == name_of(cgroup)


@by_each_method
async def test_cancelled_while_it_is_frozen(cgroup: Path) -> None:
    (cgroup / "cgroup.freeze").write_text("1")
    procs = cgroup / "cgroup.procs"
    with hang_guard():
        starting = asyncio.create_task(cgroup_in_program(cgroup=cgroup))
        await until(procs.read_text)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await until(lambda: not procs.read_text())


@by_each_method
@pytest.mark.skipif(os.geteuid() != 0, reason="fanotify permission events need root")
async def test_before_the_exec(cgroup: Path, tmp_path: Path) -> None:
    with held_exec(tmp_path) as held, hang_guard():
        script = ("-c", "grep ^0:: /proc/self/cgroup")
        starting = asyncio.create_task(
            aiopidfd.run_process([held.path, *script], cgroup=cgroup, text=True)
        )
        pid = await asyncio.to_thread(held.wait_until_held)
        assert cgroup_of(pid) == name_of(cgroup)
        held.let_go()
        assert (await starting).stdout == f"0::{name_of(cgroup)}\n"


@as_root
@by_each_method
async def test_before_the_ids_change(cgroup: Path) -> None:
    """Who the program becomes may not put anything anywhere."""
    found = await cgroup_in_program(cgroup=cgroup, user=65534, group=65534, extra_groups=[])
    assert found == name_of(cgroup)


@by_each_method
async def test_with_much_else(cgroup: Path) -> None:
    with open(os.devnull) as other:
        found = await cgroup_in_program(
            cgroup=cgroup,
            rlimits={"NOFILE": 16, "CORE": 0},
            oom_score_adj=500,
            start_new_session=True,
            pass_fds=[other.fileno()],
            no_new_privs=True,
            die_with_parent=True,
        )
    assert found == name_of(cgroup)


@by_each_method
@pytest.mark.parametrize("close_fds", [True, False])
async def test_the_program_does_not_get_the_directory(cgroup: Path, close_fds: bool) -> None:
    script = "ls -l /proc/self/fd"
    result = await aiopidfd.run_process(script, text=True, cgroup=cgroup, close_fds=close_fds)
    assert "/proc/" in result.stdout
    assert cgroup.name not in result.stdout


@by_each_method
async def test_what_it_starts_is_there_too_and_all_is_killed_together(cgroup: Path) -> None:
    process = await aiopidfd.create_subprocess_exec(*sh("sleep 60 & wait"), cgroup=cgroup)
    with hang_guard():
        await until(lambda: len((cgroup / "cgroup.procs").read_text().split()) == 2)
        if not (cgroup / "cgroup.kill").exists():
            await process.aclose()
            pytest.skip(NO_KILL)
        (cgroup / "cgroup.kill").write_text("1")
        assert await process.wait() == -signal.SIGKILL  # and the guardian was there to tell it
        await until(lambda: not (cgroup / "cgroup.procs").read_text())


@pytest.mark.parametrize("first", ["", "assert aiopidfd.spawn(['true']).wait() == 0"])
@pytest.mark.parametrize("answer", ["ENOSYS", "EPERM"])
def test_where_clone3_is_blocked(cgroup: Path, first: str, answer: str) -> None:
    output = fresh.run(
        f"""
        {first}
        seccomp.install((seccomp.CLONE3, errno.{answer}))
        child = aiopidfd.spawn(["grep", "^0::", "/proc/self/cgroup"], cgroup={str(cgroup)!r})
        assert child.wait() == 0
        with open("/proc/self/cgroup") as file:
            print(file.read().splitlines()[-1], flush=True)
        print(aiopidfd.kernel().method)
        """
    )
    assert output == f"0::{name_of(cgroup)}\n0::{cgroup_of('self')}\nclone\n"


# Errors, before anything is started


async def refused(cgroup: Any, error: type[BaseException], message: str, number: int = 0) -> None:
    """Neither a program nor a descriptor comes of it; the file name is what was given."""
    before = open_fds()
    with pytest.raises(error, match=re.escape(message)) as caught:
        await aiopidfd.create_subprocess_exec("/bin/sh", "-c", "kill -9 $PPID", cgroup=cgroup)
    if number:
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == number
        assert caught.value.filename == (None if isinstance(cgroup, int) else cgroup)
    assert open_fds() == before


@pytest.fixture
def nothing_is_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn(*_: Any) -> Any:
        raise AssertionError("it came as far as the clone")

    monkeypatch.setattr(_native, "spawn", spawn)


checked_first = pytest.mark.usefixtures("nothing_is_spawned")

OPTION = "(for the option cgroup"


@checked_first
async def test_what_is_missing(tmp_path: Path) -> None:
    missing = FileNotFoundError, f"No such file or directory {OPTION})", errno.ENOENT
    await refused(tmp_path / "none", *missing)
    await refused(str(tmp_path / "none"), *missing)
    await refused(os.fsencode(tmp_path / "none"), *missing)
    await refused("", *missing)


@checked_first
async def test_what_is_no_path(tmp_path: Path) -> None:
    what = "cgroup must be a path or a directory's descriptor, not"
    await refused(0.5, TypeError, f"{what} float")
    await refused(["/"], TypeError, f"{what} list")
    await refused(True, TypeError, f"{what} bool")  # and not stdout
    await refused("a\0b", ValueError, "embedded null")
    await refused(-1, OSError, f"Bad file descriptor {OPTION})", errno.EBADF)
    await refused(1 << 20, OSError, f"Bad file descriptor {OPTION})", errno.EBADF)


@checked_first
async def test_what_is_no_directory(cgroup: Path) -> None:
    file = cgroup / "cgroup.procs"
    what = NotADirectoryError, f"Not a directory {OPTION})", errno.ENOTDIR
    await refused(file, *what)
    with open(file) as opened:
        await refused(opened.fileno(), *what)


@checked_first
async def test_what_is_no_cgroup(tmp_path: Path) -> None:
    """Even if it looks like one."""
    for name in ("cgroup.procs", "cgroup.controllers", "cgroup.subtree_control"):
        (tmp_path / name).touch()
    (tmp_path / "cgroup.type").write_text("domain\n")
    what = f"Invalid argument {OPTION}: it is no cgroup: not on a cgroup2 file system)"
    await refused(tmp_path, OSError, what, errno.EINVAL)
    fd = os.open(tmp_path, os.O_PATH)
    try:
        await refused(fd, OSError, what, errno.EINVAL)
    finally:
        os.close(fd)
    assert (tmp_path / "cgroup.procs").read_text() == ""


V1 = f"Invalid argument {OPTION}: it is a cgroup v1 directory, and this needs cgroup v2)"


@checked_first
async def test_a_cgroup_v1_that_is_there() -> None:
    found = [where for _, where in mounts("cgroup")]
    if not found:
        pytest.skip("no cgroup v1 is mounted here")
    await refused(found[0], OSError, V1, errno.EINVAL)


@with_mounts
def test_a_cgroup_v1_of_our_own(tmp_path: Path) -> None:
    options = "none,name=aiopidfd-test"
    output = fresh.run(
        f"""
        import subprocess
        command = ["mount", "-t", "cgroup", "-o", {options!r}, "none", {str(tmp_path)!r}]
        mounted = subprocess.run(command, capture_output=True, text=True)
        if mounted.returncode:
            sys.exit(print(mounted.stderr.strip()))
        os.mkdir({str(tmp_path / "child")!r})
        try:
            aiopidfd.spawn(["true"], cgroup={str(tmp_path / "child")!r})
        except OSError as exc:
            print(exc)
        os.rmdir({str(tmp_path / "child")!r})
        """,
        *("unshare", "-m"),
    )
    if OPTION not in output:
        pytest.skip(f"no cgroup v1 can be mounted here: {output}")
    assert output == f"[Errno {errno.EINVAL}] {V1}: {str(tmp_path / 'child')!r}\n"


THREADED = "it is threaded, or below a threaded one: its cgroup.type is not a domain"


@checked_first
async def test_threaded(cgroup: Path) -> None:
    threaded, below = cgroup / "threaded", cgroup / "threaded" / "below"
    threaded.mkdir()
    (threaded / "cgroup.type").write_text("threaded")
    below.mkdir()
    assert (below / "cgroup.type").read_text() == "domain invalid\n"
    for path in (threaded, below):
        await refused(path, OSError, f"{OPTION}: {THREADED})", errno.EOPNOTSUPP)


@by_each_method
async def test_the_root_of_a_threaded_subtree_is_a_domain(cgroup: Path) -> None:
    (cgroup / "threaded").mkdir()
    (cgroup / "threaded" / "cgroup.type").write_text("threaded")
    assert (cgroup / "cgroup.type").read_text() == "domain threaded\n"
    assert await cgroup_in_program(cgroup=cgroup) == name_of(cgroup)


BUSY = "it hands controllers to its children (cgroup.subtree_control), so programs go into a child"


@contextlib.contextmanager
def controller(parent: Path, *wanted: str) -> Iterator[str]:
    """One of these, at work in the children of `parent`; skips where none can be."""
    control = parent / "cgroup.subtree_control"
    with control.open() as lock:  # another run of these tests has the same parent
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from _controller(parent, control, wanted)


def _controller(parent: Path, control: Path, wanted: tuple[str, ...]) -> Iterator[str]:
    there = control.read_text().split()
    offered = (parent / "cgroup.controllers").read_text().split()
    for name in [name for name in wanted if name in offered]:
        if name in there:
            yield name
            return
        try:
            control.write_text(f"+{name}")
        except OSError:
            continue  # we are in there ourselves, and it is not the root
        try:
            yield name
        finally:
            control.write_text(f"-{name}")
        return
    pytest.skip(f"none of {wanted} can be had below {parent}, which has {offered}")


@pytest.fixture
def domain_controller(cgroup: Path) -> Iterator[str]:
    """A controller that `cgroup` may hand on, and would then hold no process."""
    with controller(cgroup.parent, "hugetlb", "rdma", "misc", "io", "memory") as name:
        yield name
        # Before it is taken from the parent.
        (cgroup / "cgroup.subtree_control").write_text(f"-{name}")


@checked_first
async def test_one_that_hands_on_controllers(cgroup: Path, domain_controller: str) -> None:
    (cgroup / "cgroup.subtree_control").write_text(f"+{domain_controller}")
    await refused(cgroup, OSError, f"Device or resource busy {OPTION}: {BUSY}", errno.EBUSY)


@by_each_method
async def test_its_child_serves(cgroup: Path, domain_controller: str) -> None:
    (cgroup / "cgroup.subtree_control").write_text(f"+{domain_controller}")
    (cgroup / "child").mkdir()
    assert await cgroup_in_program(cgroup=cgroup / "child") == name_of(cgroup / "child")
    (cgroup / "child").rmdir()


@by_each_method
async def test_the_root_may_hand_them_on(cgroup: Path, domain_controller: str) -> None:
    """It is the only one that holds processes all the same; else it is what was tested above."""
    root = cgroup.parent
    if (root / "cgroup.type").exists():
        pytest.skip("our own cgroup is not the root here")
    assert domain_controller in (root / "cgroup.subtree_control").read_text()
    assert await cgroup_in_program(cgroup=root) == "/"


@as_root
@pytest.mark.parametrize("read_only", [False, pytest.param(True, marks=with_mounts)])
def test_one_that_we_may_not_write(cgroup: Path, read_only: bool) -> None:
    prepare = "os.setresgid(60000, 60000, 60000); os.setresuid(60000, 60000, 60000)"
    if read_only:
        # In two steps: busybox's mount, and an old kernel's, leave "ro" out of the first.
        bind = f"['mount', '-o', 'bind', {str(cgroup)!r}, {str(cgroup)!r}]"
        remount = f"['mount', '-o', 'remount,bind,ro', {str(cgroup)!r}]"
        prepare = f"import subprocess; [subprocess.run(m, check=True) for m in ({bind}, {remount})]"
    output = fresh.run(
        f"""
        {prepare}
        _native.spawn = None  # it does not come to that
        try:
            aiopidfd.spawn(["true"], cgroup={str(cgroup)!r})
        except OSError as exc:
            print(type(exc).__name__, exc.errno == errno.{"EROFS" if read_only else "EACCES"}, exc)
        """,
        *(("unshare", "-m") if read_only else ()),
    )
    assert output.startswith(f"{'OSError' if read_only else 'PermissionError'} True")
    assert f"{OPTION}" in output
    assert f"{str(cgroup)!r}" in output
    assert ("its cgroup.procs must be writable" in output) is not read_only


# Errors that only the kernel can tell


@as_root
@pytest.mark.parametrize("blocked", ["", "seccomp.like_docker()"])
def test_the_common_ancestor_that_we_may_not_write(cgroup: Path, blocked: str) -> None:
    for path in (cgroup, cgroup / "cgroup.procs"):
        os.chown(path, 60000, 60000)
    output = fresh.run(
        f"""
        os.setresgid(60000, 60000, 60000); os.setresuid(60000, 60000, 60000)
        {blocked}
        before = open_fds()
        try:
            aiopidfd.spawn(["true"], cgroup={str(cgroup)!r})
        except PermissionError as exc:
            print(exc)
        assert not _native.sweep() and not _native.records() and not child_pids()
        # Our three lifelines, and nine low numbers.
        assert len(open_fds().keys() - before.keys()) <= 12, open_fds()
        assert not any("cgroup" in path for path in open_fds().values()), open_fds()
        """
    )
    assert output.startswith(f"[Errno {errno.EACCES}] Permission denied {OPTION}: its cgroup.procs")
    assert "the nearest ancestor" in output
    assert f"{str(cgroup)!r}" in output


class Meanwhile:
    """An argument of a command that does something when it is looked at: after the checks."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do

    def __fspath__(self) -> str:
        self.do()
        return "argument"


@by_each_method
@pytest.mark.parametrize("given", ["path", "descriptor"])
async def test_removed_between_the_check_and_the_clone(cgroup: Path, given: str) -> None:
    fd = os.open(cgroup, os.O_PATH)
    before = open_fds()
    try:
        with pytest.raises(FileNotFoundError, match="cgroup: it was removed") as caught:
            await aiopidfd.create_subprocess_exec(
                "true", Meanwhile(cgroup.rmdir), cgroup=cgroup if given == "path" else fd
            )
        assert caught.value.filename == (cgroup if given == "path" else None)
        assert open_fds().keys() == before.keys()
        # And it was checked already if it was gone before.
        with pytest.raises(FileNotFoundError, match="cgroup: it was removed"):
            await aiopidfd.create_subprocess_exec("true", cgroup=fd)
    finally:
        os.close(fd)


@by_each_method
async def test_busy_between_the_check_and_the_clone(cgroup: Path, domain_controller: str) -> None:
    control = cgroup / "cgroup.subtree_control"
    meanwhile = Meanwhile(lambda: control.write_text(f"+{domain_controller}"))
    with pytest.raises(OSError, match=re.escape(BUSY)) as caught:
        await aiopidfd.create_subprocess_exec("true", meanwhile, cgroup=cgroup)
    assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, cgroup)


@by_each_method
async def test_invalid_between_the_check_and_the_clone(cgroup: Path) -> None:
    child = cgroup / "child"
    child.mkdir()
    sibling = cgroup / "sibling"
    sibling.mkdir()
    meanwhile = Meanwhile(lambda: (sibling / "cgroup.type").write_text("threaded"))
    with pytest.raises(OSError, match=re.escape(THREADED)) as caught:
        await aiopidfd.create_subprocess_exec("true", meanwhile, cgroup=child)
    assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, child)


@as_root
def test_a_limit_on_processes_may_be_the_cgroup_s(cgroup: Path) -> None:
    os.chown(cgroup / "cgroup.procs", 60000, 60000)
    uid = 60000
    output = fresh.run(
        f"""
        os.setresuid({uid}, {uid}, {uid})
        resource.setrlimit(resource.RLIMIT_NPROC, (2, 4))
        try:
            child = aiopidfd.spawn(["true"], cgroup={str(cgroup)!r})
        except BlockingIOError as exc:
            print(exc)
        assert not _native.sweep() and not _native.records() and not child_pids()
        """
    )
    assert output == (
        f"[Errno {errno.EAGAIN}] Resource temporarily unavailable {OPTION}: its pids.max, or an "
        f"ancestor's, is reached; or our RLIMIT_NPROC): {str(cgroup)!r}\n"
    )


async def test_pids_max(cgroup: Path) -> None:
    """By clone3: cgroup.procs takes in more than pids.max (cgroup-v2.rst)."""
    with controller(cgroup.parent, "pids"):
        (cgroup / "pids.max").write_text("1")
        child = aiopidfd.spawn(["sleep", "60"], cgroup=cgroup)
        try:
            with pytest.raises(BlockingIOError, match=r"cgroup: its pids\.max") as caught:
                await aiopidfd.create_subprocess_exec("true", cgroup=cgroup)
            assert caught.value.filename == cgroup
        finally:
            child.kill()
            child.wait()


# After cgroup.kill: the kernel may kill at birth what is cloned into it


@pytest.fixture
def killed(cgroup: Path) -> Path:
    if not (cgroup / "cgroup.kill").exists():
        pytest.skip(NO_KILL)
    for _ in range(2):
        (cgroup / "cgroup.kill").write_text("1")
    return cgroup


@by_each_method
@pytest.mark.parametrize("ids", [{}, {"group": os.getgid()}])
async def test_what_was_killed_can_be_used_again(killed: Path, ids: dict[str, int]) -> None:
    before = open_fds().keys()
    for _ in range(3):
        assert await cgroup_in_program(cgroup=killed, **ids) == name_of(killed)
        with pytest.raises(FileNotFoundError) as caught:
            await aiopidfd.create_subprocess_exec("/not/there", cgroup=killed, **ids)
        assert caught.value.filename == "/not/there"
        result = await aiopidfd.run_process("kill -9 $$", cgroup=killed, check=False, **ids)
        assert result.returncode == -signal.SIGKILL  # by itself
    await until(lambda: open_fds().keys() == before)  # the guardian is on its way out


@by_each_method
async def test_where_our_own_was_killed_oftener(cgroup: Path) -> None:
    """The other way round: as where a service is started anew in the cgroup that was killed."""
    host, place = cgroup / "host", cgroup / "place"
    host.mkdir(), place.mkdir()
    if not (host / "cgroup.kill").exists():
        pytest.skip(NO_KILL)
    (host / "cgroup.kill").write_text("1")
    output = fresh.run(
        f"""
        with open({str(host / "cgroup.procs")!r}, "w") as file:
            file.write("0")
        child = aiopidfd.spawn(["grep", "^0::", "/proc/self/cgroup"], cgroup={str(place)!r})
        assert child.wait() == 0
        """
    )
    assert output == f"0::{name_of(place)}\n"


def test_the_guardian_killed_while_it_starts_once_more(killed: Path) -> None:
    fresh.run(
        f"""
        import logging
        logging.getLogger("aiopidfd").addHandler(logging.NullHandler())
        before, outcomes = None, set()
        for n in range(400):
            child = begin("exit 7", shell=True, cgroup={str(killed)!r})
            for _ in range(n * 6):
                pass
            os.kill(child.guardian_pid, signal.SIGKILL)
            try:
                child._program.wait_started()
                outcomes.add(child.wait())
            except ChildProcessError:
                outcomes.add("lost")
            child = None
            while child_pids():  # a guardian on its way out
                _native.sweep()
            before = before or set(open_fds())
            assert set(open_fds()) == before, (n, open_fds())
        unknown = set() if aiopidfd.kernel().exit_info else {{255}}
        assert outcomes <= {{7, "lost"}} | unknown, outcomes
        assert not _native.records()
        """
    )


# What is left of errors


@by_each_method
async def test_emfile_at_each_descriptor(cgroup: Path, tmp_path: Path) -> None:
    failed = 0
    for fds in range(30):
        marker = tmp_path / str(fds)
        try:
            with room_for(fds):
                process = await aiopidfd.create_subprocess_exec(
                    "/bin/touch", str(marker), cgroup=cgroup, stdout=aiopidfd.PIPE
                )
        except OSError as exc:
            assert exc.errno == errno.EMFILE, exc  # noqa: PT017
            assert not marker.exists()
            failed += 1
            continue
        await process.communicate()
        assert process.returncode == 0
        break
    assert failed >= 4
    assert marker.exists()


@by_each_method
async def test_a_failing_exec_leaves_nothing(cgroup: Path) -> None:
    before = open_fds()
    for _ in range(20):
        with pytest.raises(FileNotFoundError, match="/nonexistent"):
            await aiopidfd.create_subprocess_exec("/nonexistent", cgroup=cgroup)
    assert open_fds() == before
    assert (cgroup / "cgroup.procs").read_text() == ""
