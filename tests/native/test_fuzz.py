"""Bad input for all that the native module takes: tools/fuzz.py, and what it has found."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiopidfd import _native
from tools import fuzz

from .. import fresh
from ..census import open_fds

ROOT = Path(__file__).parent.parent.parent


def test_the_fuzzer_knows_all_that_the_module_has() -> None:
    names = {name for name in dir(_native) if not name.startswith("__")}
    names = {name for name in names if not isinstance(getattr(_native, name), int)}
    assert names == {*fuzz.FUNCTIONS, *fuzz.MEMBERS}
    for kind, members in fuzz.MEMBERS.items():
        own = set(vars(getattr(_native, kind))) - {"__doc__", "__module__", "__new__"}
        assert own == set(members), kind


@pytest.mark.heavy
def test_bad_input() -> None:
    if not fuzz.namespace():
        pytest.skip("no pid namespace is allowed here: it would signal others")
    result = subprocess.run(
        [sys.executable, "-m", "tools.fuzz", "--examples", "100"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, ""), f"{result.stdout}\n{result.stderr}"
    assert "answered" in result.stdout


@pytest.mark.heavy
def test_the_fuzzer_sees_a_crash(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(fuzz.LOG_SIZE))
    code = f"""
        from tools import fuzz
        fuzz._native.records = os.abort
        fuzz.fuzz(None, 50, 0, {str(log)!r})
    """
    result = subprocess.run(fresh.command(code), check=False, capture_output=True)
    assert result.returncode == -signal.SIGABRT
    assert b"(" in log.read_bytes()


# --- What it has found


def start(fds: Any, hub: _native.Hub | None = None) -> _native.Child:
    program = (b"/bin/true",)
    call = _native.CALL_CLONE
    return _native.spawn(
        hub, call, False, False, 2, False, -1, -1, (), program, program, None, fds, []
    )


class Changing:
    """A descriptor that empties the list it stands in when it is read."""

    def __init__(self, fd: int, values: list[Any]) -> None:
        self.fd = fd
        self.values = values

    def __index__(self) -> int:
        self.values.clear()
        return self.fd


def test_a_list_of_descriptors_that_changes_while_it_is_read() -> None:
    """It was read item by item, and there was a SystemError. What it held at the call counts."""
    read, write = os.pipe()
    fds: list[Any] = []
    fds += [Changing(read, fds), write]
    child = start(fds)
    while child.poll() in (_native.STARTING, _native.RUNNING):
        child.block(child.state, 10**8)
    assert child.state == _native.EXITED
    child.close()
    assert not {read, write} & set(open_fds())


@pytest.mark.parametrize("nanoseconds", [2**63 - 1, 2**62])
def test_a_wait_for_longer_than_there_will_be_a_clock(nanoseconds: int) -> None:
    """Its end was a sum that overflowed: it did not wait at all."""
    fresh.run(
        f"""
        child = aiopidfd.spawn(["/bin/sleep", "1000"])
        native = child._program.native
        timer = threading.Timer(0.1, child.kill)
        timer.start()
        while native.state == _native.RUNNING:
            before = time.monotonic()
            state = native.block(_native.RUNNING, {nanoseconds})
            assert state != _native.RUNNING or time.monotonic() - before > 0.05
        assert child.wait() == -9
        """
    )


def test_a_line_that_is_awaited_while_it_is_looked_for() -> None:
    """The one that the inner call had found was never given back."""

    class Ahead:
        """It awaits the next line when it is asked for it."""

        asked = False

        @property
        def lines(self) -> Any:
            if not self.asked:
                self.asked = True
                line.__await__()
            return iter([text])

    text = ["a line"]
    line = _native.Lines(Ahead(), lambda: None)  # type: ignore[arg-type, return-value]
    before = sys.getrefcount(text)
    with pytest.raises(StopIteration) as raised:
        next(line.__await__())  # type: ignore[call-overload]
    assert raised.value.value is text
    del raised
    assert sys.getrefcount(text) == before


def test_no_memory() -> None:
    """Each allocation of a call fails in turn."""
    pytest.importorskip("_testcapi")
    fresh.run(
        """
        import _testcapi
        def start(hub=None, env=None, program=(b"/bin/true",)):
            return _native.spawn(hub, _native.CALL_CLONE, False, False, 2, False, -1, -1,
                                 ((_native.SYS_umask, 18),), program, program, env, [], [])
        hub = _native.hub()
        child = start(hub, program=(b"/bin/sleep", b"1000"))
        while child.poll() == _native.STARTING:
            pass
        over = start()
        while over.poll() != _native.EXITED:
            pass
        pidfd, pid = child.pidfd, child.guardian_pid
        none = (None, _native.CALL_CLONE, False, False, 2, False, -1, -1)
        true = ((), (b"/bin/true",), (b"true",))
        calls = [
            (_native.hub, ()), (_native.probe, ()), (_native.list_tree, (pid, pidfd)),
            (_native.signal_tree, (pid, pidfd, False, 0)), (_native.kill_next, (pid, -1)),
            (_native.exit_status, (pidfd,)), (_native.filesystem, (0,)), (over.result, ()),
            (over.failure, ()), (hub.collect, ()), (child.dup_pidfd, ()), (child.stay, ()),
            (child.wake, ()), (child.send_signal, (99,)), (_native.Lines, (None, None)),
            (_native.spawn, (*none, *true, None, [], [])),
            (_native.spawn, (*none, *true, {"A": "b", "C": "d" * 9000}, [], [])),
        ]
        child.kill()  # what kill_next() would do
        before = set(open_fds())
        refused = 0
        for function, arguments in calls:
            for number in range(50):
                result = None
                _testcapi.set_nomemory(number, number + 1)
                try:
                    result = function(*arguments)
                except (MemoryError, OSError):
                    refused += 1
                finally:
                    _testcapi.remove_mem_hooks()
                if function in (child.dup_pidfd, child.stay) and result is not None:
                    os.close(result)
                elif function is _native.list_tree:
                    for _, fd in result or ():
                        os.close(fd)
        del result
        assert refused > 20, refused
        while _native.sweep():
            time.sleep(0.001)
        assert set(open_fds()) <= before
        """
    )
