"""Properties: whatever arguments, environment and descriptors are asked for is what a child gets.

The parent whose standard descriptors are closed is a helper interpreter of its own, fed with
cases: closing 0, 1 and 2 of a test run would take its own input and output away.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aiopidfd

from ..support import LOOPS, SOURCES, hang_guard

# The same cases in every run, and no assertion about time.
reproducible = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard(120):
        yield


def without_nul(**size: int) -> st.SearchStrategy[bytes]:
    return st.binary(**size).map(lambda data: data.replace(b"\0", b"\xff"))


argument = st.one_of(
    without_nul(max_size=40),
    st.sampled_from([b"", b" ", b"-c", b"--", b"$x", b"'", b'"', b"\\", b"\n", b"*", b"\x81\x88"]),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20),
)

name = without_nul(max_size=12).map(lambda data: data.replace(b"=", b"_"))


# The sh stays, as the `:` is still to be run, so what `cat` reads is the command line of it.
SHOW_ARGUMENTS = ("-c", "exec 3</proc/self/cmdline; cat <&3; :", "sh")


@pytest.mark.heavy
@given(arguments=st.lists(argument, max_size=8))
@settings(reproducible, max_examples=100)
async def test_arguments(arguments: list[str | bytes]) -> None:
    result = await aiopidfd.run_process(["/bin/sh", *SHOW_ARGUMENTS, *arguments])
    expected = [os.fsencode(part) for part in ("/bin/sh", *SHOW_ARGUMENTS, *arguments)]
    assert result.stdout == b"".join(part + b"\0" for part in expected)


@given(first=argument)
@settings(reproducible, max_examples=30)
async def test_the_zeroth_argument(first: str | bytes) -> None:
    result = await aiopidfd.run_process([first, "/proc/self/cmdline"], executable="/bin/cat")
    assert result.stdout == os.fsencode(first) + b"\0/proc/self/cmdline\0"


@given(env=st.dictionaries(name, without_nul(max_size=40), max_size=8))
@settings(reproducible, max_examples=100)
async def test_environment(env: dict[bytes, bytes]) -> None:
    result = await aiopidfd.run_process(["/bin/cat", "/proc/self/environ"], env=env)
    expected = [key + b"=" + value for key, value in env.items()]
    assert result.stdout == b"".join(entry + b"\0" for entry in expected)


@given(data=st.binary(max_size=300_000), size=st.integers(1, 70_000))
@settings(reproducible, max_examples=25)
async def test_what_is_written_in_pieces_is_read(data: bytes, size: int) -> None:
    process = await aiopidfd.create_subprocess_exec(
        "cat", stdin=aiopidfd.PIPE, stdout=aiopidfd.PIPE
    )
    assert process.stdin is not None
    for start in range(0, len(data), size):
        process.stdin.write(data[start : start + size])
    assert await process.communicate() == (data, None)


@given(
    lines=st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\n", b"_")), max_size=20),
    ended=st.booleans(),
    limit=st.integers(1, 100),
)
@settings(reproducible, max_examples=40)
async def test_lines(lines: list[bytes], ended: bool, limit: int) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    process = await aiopidfd.create_subprocess_exec(
        "cat", stdin=aiopidfd.PIPE, stdout=aiopidfd.PIPE, limit=limit
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(data)
    process.stdin.close()
    # Not splitlines(True), for which "\r" ends a line, too.
    *whole, last = data.split(b"\n")
    expected = [line + b"\n" for line in whole] + ([last] if last else [])
    assert [line async for line in process.stdout.lines()] == expected
    assert await process.wait() == 0


# Descriptors

NUMBERS = (0, 1, 2, 50, 51, 52, 53)  # where the parent has files; its others lie elsewhere
REPORT = 60  # where the child writes what it sees

# The child: what is behind each of its descriptors, but that of the listing itself.
CHILD = f"""
import os
seen = {{}}
for name in os.listdir("/proc/self/fd"):
    try:
        stat = os.fstat(int(name))
    except OSError:
        continue
    seen[name] = [stat.st_dev, stat.st_ino]
import json
os.write({REPORT}, json.dumps(seen).encode())
"""

# The parent. Its own pipes lie high; `files` are there to be put at any number.
HOST = f"""
import asyncio, errno, fcntl, json, os, sys
commands, replies, factory, sources = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
sys.path.insert(0, sources)
import aiopidfd
from aiopidfd import _native
if factory == "uvloop":
    import uvloop
    new_loop = uvloop.new_event_loop
else:
    new_loop = asyncio.SelectorEventLoop
NUMBERS, REPORT, CHILD = {NUMBERS!r}, {REPORT!r}, {CHILD!r}
high = lambda fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
commands, replies = os.fdopen(high(commands), "r"), os.fdopen(high(replies), "w")
saved = [high(fd) for fd in range(3)]
sys.stderr = os.fdopen(saved[2], "w", buffering=1, closefd=False)  # for a traceback
files = [high(os.memfd_create(str(n))) for n in range(len(NUMBERS))]
CHOICES = {{"PIPE": aiopidfd.PIPE, "DEVNULL": aiopidfd.DEVNULL, "STDOUT": aiopidfd.STDOUT}}

def identity(fd):
    stat = os.fstat(fd)
    return [stat.st_dev, stat.st_ino]

def open_fds():
    return sorted(os.listdir("/proc/self/fd"), key=int)

def list_children():
    with open(f"/proc/self/task/{{os.getpid()}}/children") as file:
        return file.read()

async def run(case):
    read, write = os.pipe2(os.O_CLOEXEC)
    high_read, high_write = high(read), high(write)
    os.close(read)
    os.close(write)
    os.dup2(high_write, REPORT, inheritable=False)
    os.close(high_write)
    reply = {{"pipes": {{}}, "error": None, "seen": None}}
    aiopidfd.prepare()  # the loop's hub
    while list_children():  # the guardian of the case before is on its way out
        _native.sweep()
        await asyncio.sleep(0.001)
    before = open_fds()
    try:
        process = await aiopidfd.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", CHILD,
            **{{name: CHOICES.get(choice, choice) for name, choice in case["stdio"].items()}},
            pass_fds=[REPORT, *case["pass_fds"]],
        )
    except OSError as exc:
        reply["error"] = errno.errorcode[exc.errno]
    else:
        if process.stdin is not None:
            reply["pipes"]["0"] = identity(process.stdin.transport.fileno())
        for number, reader in (("1", process.stdout), ("2", process.stderr)):
            if reader is not None:
                reply["pipes"][number] = identity(reader._pipe.fileno())
        out, err = await process.communicate()
        reply["said"] = [(out or b"").decode(), (err or b"").decode(), await process.wait()]
    after = open_fds()
    for _ in range(1000):  # the guardian is on its way out
        if after == before:
            break
        await asyncio.sleep(0.001)
        after = open_fds()
    os.close(REPORT)
    with os.fdopen(high_read, "rb") as report:
        data = report.read()
    if data:
        reply["seen"] = json.loads(data)
    reply["left"] = [before, after] if before != after else None
    return reply

async def main():
    # What exists once in a process, and the loop's own, before anything is at its number.
    assert aiopidfd.spawn(["/bin/true"]).wait() == 0
    assert all(int(fd) < 3 or int(fd) not in NUMBERS for fd in open_fds()), open_fds()
    for line in commands:
        case = json.loads(line)
        have = {{}}
        for number, file in zip(NUMBERS, files):
            if number in case["closed"]:
                if number < 3:
                    os.close(number)
            else:
                os.dup2(file, number, inheritable=number < 3)
                have[number] = identity(file)
        reply = await run(case)
        for number in have:
            os.close(number)
        for number, fd in enumerate(saved):
            os.dup2(fd, number)
        reply["have"] = have
        replies.write(json.dumps(reply) + "\\n")
        replies.flush()

with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
"""


class Host:
    """The parent, fed with cases."""

    def __init__(self, factory: str) -> None:
        cases, self._cases = os.pipe()
        self._replies, replies = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOST, str(cases), str(replies), factory, SOURCES],
            pass_fds=[cases, replies],
            stdin=subprocess.DEVNULL,
        )
        os.close(cases)
        os.close(replies)
        self._lines = os.fdopen(self._replies)

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        os.write(self._cases, json.dumps(case).encode() + b"\n")
        line = self._lines.readline()
        assert line, f"the host ended: {self._process.wait()}"
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        os.close(self._cases)
        self._lines.close()
        assert self._process.wait() == 0


@pytest.fixture(scope="module", params=LOOPS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    host = Host(request.param)
    yield host
    host.close()


inherited = st.sampled_from([None, "PIPE", "DEVNULL", *NUMBERS])
cases = st.fixed_dictionaries(
    {
        "closed": st.lists(st.sampled_from(NUMBERS), unique=True, max_size=2).map(sorted),
        "stdio": st.fixed_dictionaries(
            {
                "stdin": inherited,
                "stdout": inherited,
                "stderr": st.one_of(inherited, st.just("STDOUT")),
            }
        ),
        "pass_fds": st.lists(st.sampled_from(NUMBERS), unique=True, max_size=5),
    }
)


def expectation(case: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any] | None:
    """What is behind each descriptor of the child; None if it cannot be started (EBADF)."""
    have = {int(number): identity for number, identity in reply["have"].items()}
    null = os.stat(os.devnull)
    expected: dict[int, Any] = {}
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        choice = case["stdio"][stream]
        if choice is None:
            # Inherited as it is; and nothing where the parent has nothing.
            if number in have:
                expected[number] = have[number]
            elif number in case["pass_fds"]:
                return None
        elif choice == "PIPE":
            expected[number] = reply["pipes"].get(str(number), "a pipe")
        elif choice == "DEVNULL":
            expected[number] = [null.st_dev, null.st_ino]
        elif choice == "STDOUT":
            if 1 not in expected:
                return None
            expected[number] = expected[1]
        elif choice in have:
            expected[number] = have[choice]
        else:
            return None
    for number in case["pass_fds"]:
        if number > 2:
            if number not in have:
                return None
            expected[number] = have[number]
    return {str(number): identity for number, identity in expected.items()}


@given(case=cases)
@settings(reproducible, max_examples=300)
@pytest.mark.heavy
def test_descriptors(host: Host, case: dict[str, Any]) -> None:
    reply = host.run(case)
    expected = expectation(case, reply)
    assert reply["left"] is None
    if expected is None:
        assert (reply["error"], reply["seen"]) == ("EBADF", None)
        return
    assert reply["error"] is None
    seen = reply["seen"]
    del seen[str(REPORT)]
    assert seen == expected
    assert reply["said"] == ["", "", 0]


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
@pytest.mark.parametrize("choice", [None, "PIPE", "DEVNULL"])
def test_standard_descriptors_closed(host: Host, closed: list[int], choice: Any) -> None:
    """All of these by hand, as they are what goes wrong."""
    case = {
        "closed": closed,
        "stdio": {"stdin": choice, "stdout": choice, "stderr": choice},
        "pass_fds": [50],
    }
    reply = host.run(case)
    seen = reply["seen"]
    del seen[str(REPORT)]
    assert seen == expectation(case, reply)
    assert reply["left"] is None
