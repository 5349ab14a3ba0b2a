"""The examples, run as their reader runs them."""

import concurrent.futures
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..spawn.test_cgroup import directory_of_ours
from ..spawn.test_trees import Marked
from ..spawn.test_trees import marked as marked
from ..support import KERNEL

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(example: str, *args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_theft(tmp_path: Path) -> None:
    for _ in range(5):  # the thief need not win any of 20
        result = run("theft.py", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines() if "/20" in line]
        theirs_1, ours_1, theirs_2, ours_2 = rows
        assert ours_1 == ours_2 == ["aiopidfd", "20/20", "3 (20x)", "0", "0"]
        assert theirs_1[0] == "asyncio"
        assert theirs_2 == ["asyncio", "0/20", "255 (20x)", "0", "0"]
        if "255 (" in theirs_1[2]:
            break
    assert "255 (" in theirs_1[2]
    assert int(theirs_1[3]) > 0
    assert int(theirs_1[4]) > 0


# A line end, a backslash, an escape sequence, no UTF-8, an option, a glob, the start of a pipe.
ODD_NAMES = (b"a\nb", b"c\\d", b"\x1b[31m", b"\xff\xfe", b"-n", b"*", b"|cat", b" ")


@pytest.fixture
def files(tmp_path: Path) -> dict[Path, bytes]:
    folder = tmp_path / "files"
    found = {}
    for number, name in enumerate(ODD_NAMES):
        path = folder / str(number) / os.fsdecode(name)
        path.parent.mkdir(parents=True)
        found[path] = os.urandom(number * 50_000)
        path.write_bytes(found[path])
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    return found


def test_checksum(tmp_path: Path, files: dict[Path, bytes]) -> None:
    result = run("checksum.py", tmp_path / "files", "--list", "sums", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(rf"{len(files)} files, 1\.3 MiB in .* 0 failed\n", result.stdout)
    listed = (tmp_path / "sums").read_bytes()
    for data in files.values():
        assert hashlib.sha256(data).hexdigest().encode() in listed
    assert hashlib.sha256(listed).hexdigest() in result.stdout
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "sums"], cwd=tmp_path, check=True
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_checksum_of_an_unreadable_file(tmp_path: Path, files: dict[Path, bytes]) -> None:
    next(iter(files)).chmod(0)
    result = run("checksum.py", tmp_path / "files", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith("a\\nb': Permission denied\n")
    assert f"{len(files) - 1} files" in result.stdout
    assert "1 failed" in result.stdout


def test_checksum_refuses_what_is_no_directory(tmp_path: Path) -> None:
    result = run("checksum.py", tmp_path / "missing", cwd=tmp_path)
    assert result.returncode == 2
    assert "not a directory" in result.stderr


def test_checksum_of_a_file_that_its_program_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the program says is told, and the other files are done."""
    program = tmp_path / "bin" / "sha256sum"
    program.parent.mkdir()
    program.write_text("""#!/bin/sh
read line
[ "$line" = good ] || { echo "cannot read it" >&2; exit 1; }
echo "0123  -"
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("good", "bad", "good too"):
        (folder / name).write_text(f"{name.split()[0]}\n")
    result = run("checksum.py", folder, "--list", "sums", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"{folder}/bad: cannot read it\n"
    assert (tmp_path / "sums").read_text() == f"0123  {folder}/good\n0123  {folder}/good too\n"


def test_checksum_without_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("checksum.py", tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    assert "sha256sum is not installed" in result.stderr


def test_gzip(tmp_path: Path, files: dict[Path, bytes]) -> None:
    target = tmp_path / "files" / "packed"  # inside: it must not be packed itself
    for _ in range(2):
        result = run("checksum.py", tmp_path / "files", "--gzip", target, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        assert f"{len(files)} files" in result.stdout
    for path, data in files.items():
        relative = path.relative_to(tmp_path / "files")
        packed = target / relative.parent / f"{relative.name}.gz"
        assert gzip.decompress(packed.read_bytes()) == data


@pytest.mark.heavy
def test_lines(tmp_path: Path) -> None:
    result = run("lines.py", "--seconds", "1.5", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split(" s  ")[1] for line in lines[:3]] == ["line 1", "line 2", "line 3"]
    assert lines[3].endswith("x... (1,000,000 characters)")
    assert lines[4].endswith("line 4")
    assert lines[-2:] == ["1.5 seconds are over", "the program has ended: 0"]


def test_lines_of_a_given_program(tmp_path: Path) -> None:
    result = run("lines.py", "sh", "-c", "echo one; printf two; exit 4", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split(" s  ")[-1] for line in lines] == ["one", "two", "the program has ended: 4"]


def test_lines_of_a_program_that_does_not_exist(tmp_path: Path) -> None:
    result = run("lines.py", "no-such-program", cwd=tmp_path)
    assert result.returncode == 1
    assert "No such file or directory: 'no-such-program'" in result.stderr


def run_one_line(folder: Path) -> list[list[str]]:
    """Its table, without the heading."""
    # Without -W error: uvloop warns of the processes that it has lost.
    result = subprocess.run(
        [sys.executable, EXAMPLES / "one_line.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return [re.split(r"\s{2,}", line) for line in result.stdout.splitlines() if "/20" in line]


@pytest.mark.heavy
def test_one_line(tmp_path: Path) -> None:
    robbed = set()
    for _ in range(5):  # the thieves need not win every time
        rows = run_one_line(tmp_path)
        assert [row[1] for row in rows] == ["without", "with"] * 3
        for theirs, ours in zip(rows[::2], rows[1::2], strict=True):
            assert theirs[0] == ours[0]
            assert ours[2:] == ["20/20", "0", "3 (20x)"]
            if theirs[2] != "20/20" and int(theirs[3]) > 0:
                robbed.add(theirs[0])
        if len(robbed) == 3:
            break
    assert robbed == {"asyncio", "uvloop", "anyio on trio"}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_group(tmp_path: Path, backend: str) -> None:
    (tmp_path / "a file").touch()
    result = run("group.py", backend, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("server: Serving HTTP on 127.0.0.1 port ")
    assert any('"GET / HTTP/1.1" 200' in line for line in lines)
    # Before or after what the server says of it: two processes write.
    assert any(line.startswith("fetched ") for line in lines)
    assert lines[-1] == "the server has ended: -15"


def test_contain(tmp_path: Path) -> None:
    result = run("contain.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "not contained: 1 left\ncontained: 0 left\n"


@pytest.mark.skipif(KERNEL < (5, 14), reason="cgroup.kill came with Linux 5.14")
def test_in_cgroup(tmp_path: Path) -> None:
    result = run("in_cgroup.py", cwd=tmp_path)
    if result.returncode == 2:
        pytest.skip(f"no writable cgroup v2: {result.stderr.strip()}")
    assert (result.returncode, result.stderr) == (3, "")
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["memory.max", "pids.max"]
    assert re.fullmatch(r"0::/.*in-cgroup-\w+", lines[2])
    assert lines[3] == "status: 3"
    assert lines[-1] == "left behind and killed: 1"
    assert not list(directory_of_ours().glob("in-cgroup-*"))


def test_in_cgroup_where_none_can_be_made(tmp_path: Path) -> None:
    result = run("in_cgroup.py", "--below", tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"no cgroup can be made: {tmp_path} is not a cgroup v2\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_terminal(tmp_path: Path) -> None:
    result = run("terminal.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines.pop(1).startswith("/dev/pts/")
    assert lines == [
        "ready> tty",
        "ready> stty size; read; stty size",
        "24 80",
        "",
        "50 132",
        "ready> sh -c 'echo wait...; exec sleep 600'",
        "wait...",
        "^C",
        "ready> echo $?",
        "130",
        "ready> exit 3",
        "exit",
        "bash has ended: 3",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="whether we may ptrace is the machine's own rule")
def test_handover(tmp_path: Path) -> None:
    result = run("handover.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    first, *rest = result.stdout.splitlines()
    assert first == "the old server has ended: 0"
    assert [line.split(maxsplit=1)[1] for line in rest] == [
        "answers of the old server",
        "answers of the new server",
    ]


def test_in_fork(tmp_path: Path) -> None:
    result = run("in_fork.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "primes below 100: 25",
        "primes below 10,000: 1229",
        "primes below 200,000: 17984",
        "primes below 200,001: lost: returncode -6",
    ]


@pytest.mark.heavy
def test_orderly_end(tmp_path: Path) -> None:
    result = run("orderly_end.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "running: 3",
        "simple: -15",
        "careful: 3",
        "deaf: -9",
        "left: 0",
    ]


def test_task_group(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    result = run("task_group.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("server: Serving HTTP on 127.0.0.1 port ")
    assert any('"GET / HTTP/1.1" 200' in line for line in lines)
    assert any(line.startswith("fetched ") for line in lines)
    assert lines[-1] == "the server has ended: -15"


@pytest.mark.heavy
def test_watched(tmp_path: Path) -> None:
    result = run("watched.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (124, "")
    assert result.stdout.splitlines() == [
        "stdout: step 1",
        "stdout: step 2",
        "stdout: step 3",
        "stdout: 1000",
        "stderr: now it hangs",
        "it said nothing for 2 seconds, and was ended",
    ]


def test_watched_of_one_that_fails(tmp_path: Path) -> None:
    result = run("watched.py", "--keep", "4", "sh", "-c", "echo 12345; exit 3", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (3, "")
    assert "it has failed: 3." in result.stdout
    assert result.stdout.endswith("the 2 and 0 bytes before them:\n345\n\n")


def test_watched_of_one_that_takes_too_long(tmp_path: Path) -> None:
    result = run("watched.py", "--timeout", "0.5", "--idle", "60", "sleep", "600", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (124, "")
    assert result.stdout == "0.5 seconds are over, and it was ended\n"


def test_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one two three\nTwo, three! THREE\n" * 30_000)
    result = run("words.py", "--count", "2", tmp_path / "text", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["90000", "three", "60000", "two"]


def test_words_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run("words.py", "missing", cwd=tmp_path)
    assert result.returncode == 1
    first, second = result.stderr.splitlines()
    assert first == "cat has failed: 1: cat: missing: No such file or directory"
    assert second == "all statuses: (1, 0, 0, 0, 0, 0)"


def test_the_helpers_of_hosts_say_what_they_need(tmp_path: Path) -> None:
    result = run("gunicorn_helper.py", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "gunicorn -c gunicorn_helper.py" in result.stderr


@pytest.mark.parametrize(
    ("name", "absent", "text"),
    [
        ("supervisord_helper.py", "supervisor", "This runs inside supervisord: pip install supe"),
        ("web_service.py", "uvicorn", "uvicorn is needed: pip install fastapi uvicorn uvloop"),
        ("group.py", "anyio", "anyio is needed: pip install anyio trio"),
        ("one_line.py", "uvloop", "uvloop is needed: pip install uvloop anyio trio"),
    ],
)
def test_an_example_says_what_it_needs(name: str, absent: str, text: str) -> None:
    code = (
        "import importlib.abc, runpy, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == sys.argv[2]:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "runpy.run_path(sys.argv[1])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, EXAMPLES / name, absent],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(text), result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def web_service(marked: Marked, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server, and its address. Afterwards it must have ended."""
    for name in ("fastapi", "uvicorn"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    server = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error::ResourceWarning",
            EXAMPLES / "web_service.py",
            "0",
            tmp_path,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=marked.env,
    )
    with server:
        assert server.stdout is not None
        try:
            yield server, server.stdout.readline().strip()
        finally:
            server.kill()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def post(address: str, query: str) -> tuple[int, Any]:
    """The status and the answer; status 0 if the connection was lost."""
    request = urllib.request.Request(f"{address}/convert?{query}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()
    except (OSError, http.client.HTTPException):
        return 0, None


def test_web_service(
    web_service: tuple[subprocess.Popen[str], str], marked: Marked, tmp_path: Path
) -> None:
    server, address = web_service
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        queries = ["steps=5"] * 15 + ["steps=1000&timeout=0.5"] * 5
        answers = [*pool.map(partial(post, address), queries)]
    good = {"returncode": 0, "steps": 5, "kept": 1000, "dropped": 499_000}
    assert answers[:15] == [(200, good)] * 15
    assert [status for status, _ in answers[15:]] == [504] * 5
    logs = [path.read_text().splitlines() for path in tmp_path.glob("*.log")]
    assert max(logs) == [f"step {number} of 5" for number in range(1, 6)]
    assert len(logs) == 20
    wait_for(lambda: marked.alive() == {server.pid})

    with urllib.request.urlopen(f"{address}/watch?steps=2", timeout=60) as response:
        assert response.read() == b"step 1 of 2\nstep 2 of 2\n"
    with urllib.request.urlopen(f"{address}/watch?steps=1000", timeout=60) as response:
        assert response.readline() == b"step 1 of 1000\n"
        assert len(marked.alive()) > 1
    wait_for(lambda: marked.alive() == {server.pid})  # its watcher has gone
    server.terminate()
    assert server.communicate(timeout=60)[1] == ""
    assert server.returncode == -signal.SIGTERM


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_web_service(
    web_service: tuple[subprocess.Popen[str], str],
    marked: Marked,
    tmp_path: Path,
    end: signal.Signals,
) -> None:
    server, address = web_service
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(post, address, "steps=1000") for _ in range(20)]
        logs = [tmp_path / "none"]

        def all_run() -> bool:
            logs[:] = tmp_path.glob("*.log")
            return len(logs) == 20 and all(log.stat().st_size for log in logs)

        wait_for(all_run)
        server.send_signal(end)
        assert server.communicate(timeout=60)[1] == ""
        assert {answer.result()[0] for answer in answers} <= {0, 500}
    assert server.returncode == -end
    wait_for(lambda: not marked.alive())
    tidied = [log.read_text().endswith("interrupted\n") for log in logs]
    assert all(tidied) if end == signal.SIGTERM else not any(tidied)
