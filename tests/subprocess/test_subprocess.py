"""`aiopidfd.subprocess`: the standard module, on programs that nobody can see, steal or lose.

What is the standard library's own code is held by its own tests: see tools/peers. Here is the rest.
"""

import concurrent.futures
import contextlib
import copy
import errno
import gc
import logging
import os
import pickle
import re
import signal
import subprocess as standard
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PidFd, subprocess
from aiopidfd._spawn.options import Options

from .. import fresh
from ..census import child_pids, open_fds, soon
from ..hosts import HOSTS, Seen
from ..support import exists, gate, python, room_for, sh, warnings_given

LONG = 60  # seconds, against hangs

# Leaves a daemon, in a session of its own; prints its pid.
DAEMON = "setsid sh -c 'echo $$; exec sleep 60' & wait"


# ---- Names ----


def test_all_of_the_standard_module_s_names_are_there() -> None:
    ours = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
    assert set(subprocess.__all__) == set(standard.__all__)
    for name in [*standard.__all__, "list2cmdline"]:
        assert (getattr(subprocess, name) is not getattr(standard, name)) == (name in ours)
    assert issubclass(subprocess.Popen, standard.Popen)
    assert subprocess.Popen[bytes].__origin__ is subprocess.Popen


def test_a_popen_that_replaces_ours_is_used() -> None:
    """As with the standard module, where tests replace Popen to see what is run."""
    seen = []

    class Recording(subprocess.Popen[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            seen.append(args)
            super().__init__(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Recording)
        assert subprocess.getoutput("echo x") == "x"
    assert seen == [("echo x",)]


@pytest.mark.parametrize(
    "replace",
    [
        """
        monkey = types.ModuleType("gevent.monkey")
        monkey.get_original = lambda module, name: standard
        sys.modules["gevent.monkey"] = monkey
        subprocess.Popen = type("Popen", (), {"__module__": "gevent.subprocess"})
        """,
        """
        names = {"__module__": "eventlet.green.subprocess"}
        subprocess.Popen = type("Popen", (standard,), names)
        """,
    ],
    ids=["gevent", "eventlet"],
)
def test_what_has_replaced_the_standard_one_is_no_base_of_ours(replace: str) -> None:
    """Gevent's is no subclass of it, and keeps it; eventlet's is one."""
    fresh.run(
        f"""
        import subprocess, types
        standard = subprocess.Popen
        {replace}
        from aiopidfd.subprocess import Popen
        assert Popen.__mro__[1] is standard
        assert Popen(["true"]).wait() == 0
        """
    )


def test_whatever_else_has_replaced_it_is_named() -> None:
    fresh.run(
        """
        import subprocess
        subprocess.Popen = lambda: None
        try:
            from aiopidfd.subprocess import Popen
        except ImportError as exc:
            assert "subprocess.Popen has been replaced: <function <lambda>" in str(exc)
        else:
            raise AssertionError
        """
    )


# ---- Whatever the host does ----


@pytest.mark.parametrize("host", HOSTS)
def test_statuses_are_right_and_nothing_is_seen(host: str) -> None:
    seen = Seen()
    with HOSTS[host](seen):
        for _ in range(5):
            assert subprocess.run(["false"]).returncode == 1
            assert subprocess.call("exit 7", shell=True) == 7
            assert subprocess.run(sh("kill -9 $$"), capture_output=True).returncode == -9
            with pytest.raises(subprocess.CalledProcessError):
                subprocess.check_output(sh("exit 255"), timeout=LONG)
            process = subprocess.Popen(sh("exit 3"))
            while process.poll() is None:
                time.sleep(0.001)
            assert process.returncode == 3
            assert subprocess.getstatusoutput("echo x; exit 4") == (4, "x")
    assert seen.sigchld == 0
    if host != "__WALL reaper":  # that one may take guardians; what they had to say is not lost
        assert not seen.pids


@pytest.mark.parametrize("host", ["blocking reaper", "polling reaper", "ignored", "SA_NOCLDWAIT"])
def test_there_the_standard_one_reads_0(host: str) -> None:
    if "reaper" in host and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one processor: a reaper in a thread hardly ever comes first")
    with HOSTS[host](Seen()):
        assert any(standard.run(["false"]).returncode == 0 for _ in range(3000))


# ---- As the standard one ----


def outcome(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What it returns, or raises, so that it can be compared."""
    try:
        result = call(*args, **options)
    except Exception as exc:
        if isinstance(exc, standard.TimeoutExpired):  # before Python 3.15 it is what was left of it
            exc.timeout = round(exc.timeout, 2)
        details = ("errno", "filename", "returncode", "cmd", "stdout", "stderr", "timeout")
        text = re.sub(r" \(for [^)]*\)", "", str(exc))  # ours say what it is about
        return type(exc), text, [getattr(exc, name, None) for name in details]
    if isinstance(result, standard.CompletedProcess):
        return vars(result)
    return result


ALIKE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("run", (["true"],), {}),
    ("run", (["sh", "-c", "echo a; echo b >&2; exit 3"],), {"capture_output": True}),
    ("run", (["sh", "-c", "echo a; exit 3"],), {"capture_output": True, "check": True}),
    ("run", ("echo $0 $1",), {"shell": True, "stdout": -1, "text": True}),
    ("run", (["echo $0 $1", "x", "y"],), {"shell": True, "stdout": -1}),
    ("run", ("echo $BASH_VERSION",), {"shell": True, "executable": "/bin/bash", "stdout": -1}),
    ("run", (["cat"],), {"input": b"x" * 200_000, "stdout": -1}),
    ("run", (["cat"],), {"input": "h\u00e9\n", "stdout": -1, "encoding": "latin-1"}),
    ("run", (["cat"],), {"input": b"", "stdout": -1}),
    ("run", (["printf", "a\\r\\nb\\rc"],), {"stdout": -1, "universal_newlines": True}),
    ("run", (["printf", "\\377"],), {"stdout": -1, "errors": "replace", "encoding": "ascii"}),
    ("run", (["sh", "-c", "echo a; echo b >&2"],), {"stdout": -1, "stderr": standard.STDOUT}),
    ("run", (["cat"],), {"stdin": standard.DEVNULL, "stdout": -1, "stderr": standard.DEVNULL}),
    ("run", (["pwd"],), {"cwd": "/usr", "stdout": -1}),
    ("run", (["env"],), {"env": {"A": "b"}, "stdout": -1}),
    ("run", ([b"true"], -1, b"/bin/false"), {}),
    ("run", (Path("/bin/false"),), {}),
    ("run", (), {"args": ["true"]}),
    ("run", (["no such program"],), {}),
    ("run", (["/"],), {}),
    ("run", (["true"],), {"cwd": "/no such folder"}),
    ("run", (["true"],), {"cwd": "/etc/passwd"}),
    ("run", (["true"],), {"executable": "/no such file"}),
    ("run", (["true"],), {"user": "no such user"}),
    ("run", (["true"],), {"user": -2}),
    ("run", (["true"],), {"group": 1.5}),
    ("run", (["true"],), {"extra_groups": "root"}),
    ("run", (["true"],), {"env": {"A=": "b"}}),
    ("run", (["a\0b"],), {}),
    ("run", (["true"],), {"bufsize": "1"}),
    ("run", (["true"],), {"pipesize": "1"}),
    ("run", (["true"],), {"startupinfo": object()}),
    ("run", (["true"],), {"creationflags": 1}),
    ("run", (["true"],), {"text": True, "universal_newlines": False}),
    ("run", (["true"],), {"input": b"", "stdin": -1}),
    ("run", (["true"],), {"capture_output": True, "stderr": -1}),
    ("run", (["cat"],), {"input": "text", "stdout": -1}),
    ("run", (["true"],), {"nonsense": 1}),
    ("run", (Path("/bin/true"),), {"shell": True}),
    ("run", (["sleep", "60"],), {"timeout": 0.1}),
    ("run", (["sh", "-c", "echo a; sleep 60"],), {"timeout": 0.4, "capture_output": True}),
    ("run", (["sleep", "60"],), {"timeout": -1, "stdout": -1, "stderr": -1}),
    ("call", (["sh", "-c", "exit 5"],), {}),
    ("call", (["sleep", "60"],), {"timeout": 0.1}),
    ("check_call", (["true"],), {}),
    ("check_call", (["sh", "-c", "exit 5"],), {}),
    ("check_call", (), {"args": ["false"]}),
    ("check_output", (["echo", "x"],), {}),
    ("check_output", (["cat"],), {"input": None}),
    ("check_output", (["cat"],), {"input": None, "text": True}),
    ("check_output", (["sh", "-c", "echo a; exit 5"],), {"stderr": standard.STDOUT}),
    ("check_output", (["true"],), {"stdout": -1}),
    ("check_output", (["true"],), {"check": True}),
    ("getoutput", ("echo a; echo b >&2; exit 3",), {}),
    ("getstatusoutput", ("printf 'a\\n\\n'; exit 3",), {}),
    ("getstatusoutput", ("no-such-program-at-all",), {}),
    ("getstatusoutput", ("kill $$",), {"encoding": "utf-8", "errors": "strict"}),
]


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "args", "options"), ALIKE)
def test_returns_and_raises_as_the_standard_one(
    name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    theirs = outcome(getattr(standard, name), *args, **options)
    assert outcome(getattr(subprocess, name), *args, **options) == theirs


def test_a_descriptor_that_is_not_open_is_not_one_of_our_pipes() -> None:
    """The standard one opens its pipes first: they may come to lie at that number."""
    with contextlib.closing(os.fdopen(os.open("/dev/null", os.O_RDONLY))) as file:
        free = file.fileno() + 1
    for number in (free - 1, free, free + 1, 1 << 20):
        if number in open_fds():
            continue
        with pytest.raises(OSError, match="stdin") as raised:
            subprocess.Popen(["cat"], stdin=number)
        assert raised.value.errno == errno.EBADF


@pytest.mark.parametrize("name", ["run", "call", "check_output"])
@pytest.mark.parametrize(
    ("timeout", "error"), [("1", TypeError), (float("nan"), ValueError), ([], TypeError)]
)
def test_a_timeout_that_is_none_starts_nothing(name: str, timeout: Any, error: Any) -> None:
    with pytest.raises(error, match="timeout must be a number of seconds"):
        getattr(subprocess, name)(["no such program"], timeout=timeout)


@pytest.mark.parametrize("timeout", [1e7, 1e10, float("inf"), 10**30])
def test_timeouts_of_any_length(timeout: float) -> None:
    assert subprocess.run(["cat"], input=b"x", stdout=-1, timeout=timeout).stdout == b"x"
    assert subprocess.call(["true"], timeout=timeout) == 0
    with subprocess.Popen(["true"], stdout=-1, stderr=-1) as process:
        assert process.communicate(timeout=timeout) == (b"", b"")
        assert process.wait(timeout) == 0


# ---- Options ----

STATUS = "grep -E 'NoNewPrivs|Cpus_allowed_list' /proc/self/status; ulimit -c; nice"

# A value for each of the options that the standard one does not have.
OURS: dict[str, Any] = {
    "rlimits": {"CORE": 0},
    "nice": 7,
    "cpu_affinity": [0],
    "scheduler": (os.SCHED_BATCH, 0),
    "ioprio": (3, 0),
    "oom_score_adj": 500,
    "no_new_privs": True,
    "die_with_parent": True,
    "contain": True,
    "cgroup": None,
    "window_size": None,
}


def test_every_option_of_ours() -> None:
    theirs = standard.Popen.__init__.__code__.co_varnames
    assert OURS.keys() == Options.__annotations__.keys() - {*theirs}
    output = subprocess.check_output(["bash", "-c", STATUS], text=True, **OURS).split()
    assert output == ["NoNewPrivs:", "1", "Cpus_allowed_list:", "0", "0", "7"]
    for name, value in OURS.items():
        options: dict[str, Any] = {name: value}
        assert subprocess.call(["true"], **options) == 0


def test_what_is_refused_starts_nothing(tmp_path: Path) -> None:
    touch = ["touch", str(tmp_path / "it ran")]
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"preexec_fn": print}, ValueError, "preexec_fn is not supported"),
        ({"stdin": aiopidfd.PTY}, ValueError, "Popen makes no terminals"),
        ({"stderr": aiopidfd.PTY}, ValueError, "Popen makes no terminals"),
        ({"window_size": (1, 1)}, ValueError, "window_size needs PTY"),
        ({"stdout": standard.STDOUT}, ValueError, "STDOUT can only be used for stderr"),
        ({"rlimits": {"NONSENSE": 1}}, ValueError, "NONSENSE"),
        ({"nice": "5"}, TypeError, "nice"),
        ({"cgroup": 5.5}, TypeError, "cgroup"),
        ({"tiemout": 1}, TypeError, "tiemout"),
    ]
    for options, error, text in refused:
        with pytest.raises(error, match=text):
            subprocess.Popen(touch, **{"stdout": -1, "stderr": standard.DEVNULL, **options})
        with pytest.raises(error, match=text):
            subprocess.run(touch, **options)
    assert not any(tmp_path.iterdir())


# ---- The handle ----


def test_what_a_handle_has() -> None:
    with subprocess.Popen(sh("sleep 60 & sleep 60 & wait"), stdout=-1) as process:
        assert process.pidfd in open_fds()
        assert process.rusage is None
        assert process.guardian_pid in child_pids()
        assert process.pid in {one.pid for one in aiopidfd.running()}
        while len(children := process.children()) < 2:
            time.sleep(0.001)
        pids = {child.getpid() for child in children}
        assert process.pid not in pids
        with process.handle() as pidfd, PidFd.from_fd(pidfd) as one:
            assert one.getpid() == process.pid
        assert process.kill_tree()
        assert process.wait() == -9
        assert process.pidfd == -1
        assert process.rusage is not None
        assert not any(map(exists, pids))
        with pytest.raises(aiopidfd.NoHandleError), process.handle():
            pass
        with pytest.raises(ProcessLookupError):
            process.children()
        assert process.kill_tree()  # and once more, of nothing


def test_terminate_tree() -> None:
    with subprocess.Popen(sh("sleep 60; exit 5"), stdout=-1) as process:
        while not process.children():
            time.sleep(0.001)
        process.terminate_tree()
        assert process.wait() == -signal.SIGTERM
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_signals_go_to_the_program_alone_and_after_its_end_nowhere() -> None:
    with subprocess.Popen(python("import time; time.sleep(60)")) as process:
        process.send_signal(0)
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            process.send_signal(1000)
        process.terminate()
        assert process.wait() == -signal.SIGTERM
    for use in (process.terminate, process.kill, lambda: process.send_signal(signal.SIGINT)):
        use()


@pytest.mark.parametrize("how", ["wait", "poll", "communicate"])
def test_what_has_ended_holds_nothing(how: str) -> None:
    with gate() as (read, release, _):
        before = open_fds().items()
        process = subprocess.Popen(["cat"], stdin=read)
        held = [file for _, file in open_fds().items() - before]
        assert held == ["anon_inode:[pidfd]"] * 2  # its own and its guardian's
        release()
        if how == "poll":
            while process.poll() is None:
                time.sleep(0.001)
        else:
            getattr(process, how)()
        assert process.pidfd == -1

        def holds_nothing() -> bool:
            process._program.advance()
            return process.guardian_pid not in child_pids()

        assert soon(holds_nothing)
        assert "anon_inode:[pidfd]" not in [file for _, file in open_fds().items() - before]


def test_one_that_is_dropped_lives_on_and_a_later_start_reaps_it() -> None:
    with gate() as (read, release, _):
        process = subprocess.Popen(sh("read x"), stdin=read)
        pid, guardian = process.pid, process.guardian_pid
        with warnings_given() as given:
            del process
            gc.collect()
        assert given == [(ResourceWarning, f"subprocess {pid} is still running")]
        assert exists(pid)
        release()
    while exists(pid):
        time.sleep(0.001)
    while guardian in child_pids():
        assert subprocess.call(["true"]) == 0


def test_a_failed_start_leaves_nothing() -> None:
    before = open_fds()
    for _ in range(50):
        for options in ({}, {"capture_output": True}, {"input": b""}, {"stdin": standard.DEVNULL}):
            with pytest.raises(FileNotFoundError):
                subprocess.run(["/no such program"], **options)  # type: ignore[call-overload]
    assert soon(lambda: open_fds() == before)


@pytest.mark.parametrize("room", range(12))
def test_where_descriptors_run_out(room: int) -> None:
    before = open_fds()
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), standard.PIPE)
    error = None
    with room_for(room):
        try:
            process = subprocess.Popen(["cat"], **pipes)
        except OSError as exc:
            error = exc.errno
    if error is None:
        assert process.communicate(b"x") == (b"x", b"")
    assert error in (None, errno.EMFILE)
    assert (error is None) >= (room >= 8)  # six for the pipes, two pidfds
    assert soon(lambda: open_fds() == before)


def test_a_host_without_standard_descriptors() -> None:
    """Our pipes come to lie there, and are moved up."""
    fresh.run(
        """
        from aiopidfd import subprocess
        for closed in ([0], [1], [0, 1], [0, 1, 2], [0, 2]):
            pid = os.fork()
            if not pid:
                for fd in closed:
                    os.close(fd)
                script = "cat; echo err >&2; ls /proc/self/fd | tr '\\n' ' '"
                code = 1
                with contextlib.suppress(BaseException):
                    result = subprocess.run(
                        ["sh", "-c", script], input=b"in ", capture_output=True
                    )
                    code = (result.stdout, result.stderr) != (b"in 0 1 2 3 ", b"err\\n")
                    null = subprocess.run("cat", stdin=subprocess.DEVNULL, stdout=-1, stderr=-2)
                    code = code or null.stdout != b"" or null.returncode
                    code = code or len(os.listdir("/proc/self/fd")) > 30
                os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0, closed
        """
    )


# ---- What ends a program ends its tree ----


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["run", "call", "check_output"])
def test_a_timeout_ends_the_tree(name: str, tmp_path: Path) -> None:
    script = f"({DAEMON}) >{tmp_path}/pid & wait"
    with pytest.raises(subprocess.TimeoutExpired) as raised:
        getattr(subprocess, name)(script, shell=True, timeout=1)
    assert raised.value.cmd == script
    assert raised.value.timeout == 1
    assert not exists(int((tmp_path / "pid").read_text()))


def test_what_was_read_before_a_timeout_is_told() -> None:
    script = "echo out; echo err >&2; sleep 60"
    with pytest.raises(subprocess.TimeoutExpired) as raised:
        subprocess.run(script, shell=True, timeout=0.5, capture_output=True, text=True)
    assert (raised.value.stdout, raised.value.stderr) == (b"out\n", b"err\n")


@pytest.mark.parametrize("name", ["run", "call", "check_output"])
def test_ctrl_c_ends_the_tree(name: str) -> None:
    fresh.run(
        f"""
        from aiopidfd import subprocess
        before = open_fds()
        read, write = os.pipe()
        pids = []

        def interrupt():
            with open(read) as file:
                pids.append(int(file.readline()))
                time.sleep(0.2)  # select(2) would miss a signal that comes just before it
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        script = "trap '' INT; ({DAEMON}) >&$0 & wait; exit 0"
        try:
            subprocess.{name}(["sh", "-c", script, str(write)], pass_fds=[write])
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        os.close(write)
        thread.join()
        assert not pathlib.Path(f"/proc/{{pids[0]}}").exists()
        while child_pids():
            _native.sweep()
        left = open_fds().keys() - before.keys()
        assert not [fd for fd in left if "pipe" in open_fds()[fd] and fd in (read, write)]
        while _native.records():
            _native.sweep()
        """
    )


def test_ctrl_c_in_wait_leaves_the_program_alone() -> None:
    """As with the standard one."""
    fresh.run(
        """
        from aiopidfd import subprocess
        process = subprocess.Popen(["sleep", "60"])
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for timeout in (None, 50):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                process.wait(timeout)
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError
            assert process.poll() is None
        process.kill()
        assert process.wait() == -9
        """
    )


@pytest.mark.parametrize("wait", ["process.wait()", "process.wait(50)", "handle.wait_blocking()"])
def test_ctrl_c_that_does_not_interrupt_the_sleep_is_seen(wait: str) -> None:
    """A signal comes just before the sleep; or, as here, the kernel gives it to another thread."""
    fresh.run(
        f"""
        from aiopidfd import PidFd, subprocess

        def interrupt():
            time.sleep(0.2)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        process = subprocess.Popen(["sleep", "60"])
        with process, aiopidfd.PidFd.from_process(process) as handle:
            thread = threading.Thread(target=interrupt)
            thread.start()
            try:
                {wait}
            except KeyboardInterrupt:
                assert process.poll() is None
            else:
                raise AssertionError
            thread.join()
            process.kill()
        """
    )


@pytest.mark.heavy
def test_interrupted_at_any_moment() -> None:
    """Ctrl-C comes anywhere in `run`: no foreign descriptor is closed."""
    fresh.run(
        """
        import gc, warnings
        from aiopidfd import subprocess
        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda unraisable: None  # in a destructor, as it may be
        assert subprocess.call(["true"]) == 0
        armed = False

        def interrupt(*_):
            if armed:
                raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0011)
        interrupted = 0
        theirs = []
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                armed = True
                subprocess.run(["true"], capture_output=True, stdin=subprocess.DEVNULL)
                armed = False
            except KeyboardInterrupt:
                armed = False
                interrupted += 1
            theirs.append(os.open("/dev/zero", os.O_RDONLY))
            if len(theirs) > 20:
                os.close(theirs.pop(0))
            assert all(os.readlink(f"/proc/self/fd/{fd}") == "/dev/zero" for fd in theirs)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert interrupted > 20, interrupted
        """
    )


@pytest.mark.parametrize("name", ["run", "call"])
def test_a_tree_that_cannot_be_found_ends_with_the_program(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stay(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("aiopidfd._spawn.tree_methods.Tree", stay)
    with caplog.at_level(logging.WARNING, "aiopidfd"), pytest.raises(subprocess.TimeoutExpired):
        getattr(subprocess, name)(["sleep", "60"], timeout=0.1)
    assert "what it has started perhaps is not" in caplog.text


def test_contain_leaves_nothing() -> None:
    script = "setsid sleep 60 >/dev/null & echo $!"
    pid = int(subprocess.check_output(script, shell=True, contain=True))
    assert not exists(pid)


# ---- Threads, forks, the interpreter's end ----


def test_many_threads_run_programs() -> None:
    def work(number: int) -> None:
        for turn in range(10):
            status = (number * 10 + turn) % 256
            result = subprocess.run(
                f"cat; exit {status}", shell=True, input=b"in", capture_output=True, timeout=LONG
            )
            assert (result.returncode, result.stdout) == (status, b"in")

    seen = Seen()
    with HOSTS["polling reaper"](seen), concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (seen.sigchld, seen.pids) == (0, [])


def test_many_threads_wait_for_one_program() -> None:
    for _ in range(20):
        process = subprocess.Popen(sh("sleep 0.02; exit 6"))

        def wait(number: int, process: subprocess.Popen[bytes] = process) -> int:
            if number % 2:
                return process.wait(LONG)
            while process.poll() is None:
                process.send_signal(0)
            return process.returncode

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            assert list(pool.map(wait, range(6))) == [6] * 6


def test_no_thread_is_started_and_others_run_meanwhile() -> None:
    threads: set[int] = set()
    turns = 0
    done = threading.Event()

    def look() -> None:
        nonlocal turns
        while not done.is_set():
            threads.add(len(os.listdir("/proc/self/task")))
            turns += 1

    looker = threading.Thread(target=look)
    before = len(os.listdir("/proc/self/task"))
    looker.start()
    try:
        for options in ({}, {"capture_output": True}, {"timeout": LONG}):
            turns = 0
            subprocess.run(["sleep", "0.2"], **options)  # type: ignore[call-overload]
            assert turns > 10
    finally:
        done.set()
        looker.join()
    assert max(threads) <= before + 1


def test_in_a_forked_copy() -> None:
    """It is another process's program: nothing is known of it, and that is said."""
    with gate() as (read, release, _):
        process = subprocess.Popen(sh("read x; exit 5"), stdin=read)
        pid = os.fork()
        if not pid:
            code = 1
            with contextlib.suppress(BaseException):
                uses = (process.wait, process.poll, process.kill, lambda: process.wait(1))
                for use in uses:
                    with pytest.raises(ChildProcessError):
                        use()
                with pytest.raises(OSError):  # noqa: PT011  it has no handle there
                    process.children()
                result = subprocess.run(sh("exit 7"), capture_output=True)
                with warnings_given() as given:
                    process.__del__()
                code = (result.returncode, process.returncode, len(given)) != (7, sys.maxsize, 1)
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert process.poll() is None
        release()
        assert process.wait() == 5


def test_at_the_interpreter_s_end() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(fresh.ROOT)!r})
from aiopidfd import subprocess
held = subprocess.Popen(["sleep", "0.5"])
ended = subprocess.Popen(["true"])
class Late:
    def __del__(self):
        self.run(["true"], check=True)
late = Late()
late.run = subprocess.run
"""
    result = standard.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_an_object_that_owns_a_program_is_not_copied() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot pickle 'Popen' object"):
                way(process)
        process.kill()


def test_what_is_no_duration() -> None:
    """Also once the program is over, when nobody waits any more."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        for _ in range(2):
            with pytest.raises(TypeError, match="timeout must be a number of seconds, not str"):
                process.wait("1")
            with pytest.raises(ValueError, match="timeout must be a number of seconds, not NaN"):
                process.wait(float("nan"))
            process.kill()
            process.wait()
