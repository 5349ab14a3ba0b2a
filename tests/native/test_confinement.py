"""A service that is locked in, as systemd, a container engine or bubblewrap lock one in.

Each test runs the same service, and has a control: something that shows that it is locked in.
"""

import os
import shutil
import subprocess
import textwrap

import pytest

import aiopidfd

from .. import fresh, seccomp

pytestmark = pytest.mark.heavy  # the same on every Python

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and ids are root's")
lists = pytest.mark.skipif(seccomp.missing() is not None, reason=str(seccomp.missing()))

# On each loop and without one. `tree` is whether /proc can show a tree.
SERVICE = """
import gc, logging, uvloop

warnings = []
logging.getLogger("aiopidfd").addHandler(type("Kept", (logging.Handler,), dict(
    emit=lambda self, record: warnings.append(record.getMessage())))())

async def serve_on_a_loop(tree):
    for status in (0, 3, 255):
        process = await aiopidfd.create_subprocess_shell(f"exit {status}")
        assert await process.wait() == status
    text = b"x" * 300_000
    result = await aiopidfd.run_process(["cat"], input=text)
    assert result.stdout == text and result.returncode == 0
    try:
        await aiopidfd.run_process(["sleep", "1000"], timeout=0.1, grace=0.1)
    except aiopidfd.TimeoutExpired:
        pass
    else:
        raise AssertionError
    for contain in (False, True) if tree else (False,):
        process = await aiopidfd.create_subprocess_shell(
            "sleep 1000 & echo $!; wait", stdout=aiopidfd.PIPE, contain=contain)
        started = int(await process.stdout.readline())
        if tree:
            children = process.children()
            assert [child.getpid() for child in children] == [started]
            children[0].close()
            await process.kill_tree()
        else:
            check_no_tree(process)
            process.kill()
            os.kill(started, signal.SIGKILL)  # after its shell, which would go on
        assert await process.wait() == -9
        process.stdout.close()  # what it has started may be dying still

def check_no_tree(process):
    for what in (process.children, lambda: aiopidfd.spawn(["touch", "/marker"], contain=True)):
        try:
            what()
        except OSError as exc:
            assert exc.errno == errno.ENOTSUP, exc
        else:
            raise AssertionError

def serve(tree=True):
    seen = hosts.Seen()
    with hosts.sigchld_handler(seen):
        for factory in (None, uvloop.new_event_loop):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(serve_on_a_loop(tree))
        for options in {}, {"die_with_parent": True}, {"no_new_privs": True}:
            assert aiopidfd.spawn("exit 7", shell=True, **options).wait() == 7
            child = aiopidfd.spawn(["sleep", "1000"], **options)
            child.terminate()
            assert child.wait() == -15
        try:
            aiopidfd.spawn(["/nonexistent"])
        except FileNotFoundError:
            pass
        else:
            raise AssertionError
    assert seen.sigchld == 0
    assert all("is found in /proc" in text for text in warnings), warnings
    assert bool(warnings) != tree
    gc.collect()
    deadline = time.monotonic() + 30
    while (_native.sweep() or _native.records()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _native.records() == 0
    print(aiopidfd.kernel().method, "served")
"""


def run(code: str, *wrapper: str) -> str:
    """Run code that knows the service; what it printed."""
    return fresh.run(SERVICE + textwrap.dedent(code), *wrapper)


def in_namespaces(shell: str, *more: str) -> tuple[str, ...]:
    """A wrapper: what a shell does in namespaces of its own before the rest is run there."""
    kinds = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *more)
    return ("unshare", *kinds, "sh", "-ec", f'{shell}\nexec "$@"', "sh")


# --- seccomp


@lists
@pytest.mark.parametrize("answer", ["", "errno.EPERM"], ids=["killed", "EPERM"])
def test_systemd_s_system_service(answer: str) -> None:
    """SystemCallFilter=@system-service, without and with SystemCallErrorNumber=."""
    output = run(
        f"""
        assert seccomp.answer_of("ptrace") == 0
        seccomp.like_systemd({answer})
        assert seccomp.answer_of("ptrace") == ({answer or '"killed"'})
        serve()
        """
    )
    assert output == "clone3 served\n"


@lists
def test_a_container_s_default_profile() -> None:
    output = run(
        """
        assert seccomp.answer_of("add_key") == errno.EFAULT
        seccomp.like_a_container()
        assert seccomp.answer_of("bpf") == errno.EPERM
        assert seccomp.answer_of("kexec_load") == errno.EPERM
        serve()
        """
    )
    assert output == "clone3 served\n"


@lists
def test_docker_s_default_profile() -> None:
    """clone3 is said not to exist; unshare, kcmp and others are refused."""
    output = run(
        """
        assert seccomp.answer_of("unshare") == 0
        seccomp.like_docker_s_list()
        assert seccomp.answer_of("unshare") == errno.EPERM
        assert seccomp.answer_of("kcmp") == errno.EPERM
        assert seccomp.answer_of("clone3") == errno.ENOSYS
        serve()
        """
    )
    assert output == "clone served\n"


@lists
@pytest.mark.parametrize("locked_in", ["like_systemd", "like_a_container", "like_docker_s_list"])
def test_what_is_contained_does_not_outlive_a_service_that_is_killed(locked_in: str) -> None:
    """What a guardian does in the end is allowed, too."""
    output = fresh.run(
        f"""
        pid = os.fork()
        if pid == 0:
            seccomp.{locked_in}()
            child = aiopidfd.spawn("exec sleep 1000 >/dev/null 2>&1", shell=True, contain=True)
            os.write(1, f"{{child.pid}}".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        """
    )
    try:
        program = aiopidfd.PidFd.open(int(output))
    except ProcessLookupError:
        return
    with program:
        program.wait(30)


def test_no_new_privileges() -> None:
    """NoNewPrivileges=yes."""
    output = run(
        """
        assert "NoNewPrivs:\\t0" in read("/proc/self/status")
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert "NoNewPrivs:\\t1" in read("/proc/self/status")
        serve()
        """
    )
    assert output.endswith("served\n")


# --- /proc


@root_only
def test_hidepid() -> None:
    """ProtectProc=invisible: the service is not root, and sees its own alone."""
    output = run(
        """
        import asyncio.selector_events
        other = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
        os.setgroups([])
        os.setresgid(60001, 60001, 60001)
        assert os.path.exists(f"/proc/{other}")
        os.setresuid(60001, 60001, 60001)
        assert libc.prctl(4, 1) == 0  # PR_SET_DUMPABLE: as if it had been started so
        assert not os.path.exists(f"/proc/{other}")
        serve()
        """,
        *in_namespaces("mount -o remount,hidepid=2 /proc"),
    )
    assert output.endswith("served\n")


@root_only
@pytest.mark.parametrize(
    "how",
    [
        'while os.path.exists("/proc/self"): assert libc.umount2(b"/proc", 2) == 0',
        'assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0',
    ],
    ids=["none", "another"],
)
def test_no_proc(how: str) -> None:
    """A tree cannot be found; all else works."""
    output = run(
        f"""
        {how}
        assert not os.path.exists("/proc/self")
        serve(tree=False)
        """,
        *in_namespaces(""),
    )
    assert output.endswith("served\n")


@root_only
def test_a_proc_that_is_read_only() -> None:
    output = run(
        """
        try:
            pathlib.Path("/proc/self/oom_score_adj").write_text("100")
        except OSError as exc:
            assert exc.errno == errno.EROFS
        else:
            raise AssertionError
        try:
            aiopidfd.spawn(["true"], oom_score_adj=100)
        except OSError as exc:
            assert exc.errno == errno.EROFS and "oom_score_adj" in str(exc), exc
        else:
            raise AssertionError
        serve()
        """,
        *in_namespaces("mount -o remount,bind,ro /proc"),
    )
    assert output.endswith("served\n")


@root_only
def test_a_proc_of_processes_alone() -> None:
    """ProcSubset=pid."""
    output = run(
        """
        assert not os.path.exists("/proc/loadavg")
        serve()
        """,
        *in_namespaces("mount -t proc -o subset=pid proc /proc"),
    )
    assert output.endswith("served\n")


# --- Namespaces


@root_only
def test_pid_1_without_an_init() -> None:
    """As in a container without `--init`."""
    output = run(
        """
        assert os.getpid() == 1
        serve()
        # What a program leaves in the background is the first process's in the end, here ours.
        child = aiopidfd.spawn("sleep 0.1 & exit 5", shell=True)
        assert child.wait() == 5
        assert os.waitpid(-1, 0)[1] == 0
        """,
        *in_namespaces(""),
    )
    assert output.endswith("served\n")


def user_namespaces() -> bool:
    """Whether they are allowed."""
    command = ["unshare", "--user", "--map-root-user", "true"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not user_namespaces(), reason="no user namespace is allowed here")
@pytest.mark.parametrize("ids", ["--map-root-user", "--map-current-user"])
def test_a_user_namespace(ids: str) -> None:
    """A rootless container."""
    output = run(
        """
        assert "4294967295" not in read("/proc/self/uid_map")
        serve()
        """,
        *("unshare", "--user", ids),
    )
    assert output.endswith("served\n")
    output = run("serve()", *in_namespaces("", "--user", ids))
    assert output.endswith("served\n")


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not here")
@pytest.mark.skipif(not user_namespaces(), reason="no user namespace is allowed here")
def test_bubblewrap() -> None:
    output = run(
        """
        assert os.getpid() < 10
        try:
            open("/marker", "w")
        except OSError as exc:
            assert exc.errno == errno.EROFS
        else:
            raise AssertionError
        serve()
        """,
        *("bwrap", "--unshare-all", "--die-with-parent", "--new-session"),
        *("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
    )
    assert output.endswith("served\n")
