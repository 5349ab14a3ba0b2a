"""How many system calls a program costs the loop's thread, counted by strace(1)."""

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from .. import fresh

PROGRAMS = 20

# Each look of the loop is held up for this long (us): what happens meanwhile is seen at once,
# however many processors there are.
DELAY = 20_000

CODE = """
async def main():
    async def some():
        for _ in range(PROGRAMS):
            process = await aiopidfd.create_subprocess_exec(*COMMAND)
            assert await process.wait() == 0

    await some()
    os.write(2, b"MARK")
    await some()
    os.write(2, b"MARK")

asyncio.run(main())
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("command", "most", "most_looks"),
    [
        # Start and exit are seen in one turn of the loop ...
        (("/bin/true",), 18, 3),
        # ... and in one each. The loop looks, asks the hub what there is, and looks again.
        (("/bin/sleep", "0.1"), 23, 6),
    ],
)
def test_without_pipes_from_start_to_end(
    tmp_path: Path, command: tuple[str, ...], most: int, most_looks: int
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here to count with")
    trace = tmp_path / "trace"
    code = CODE.replace("COMMAND", repr(command)).replace("PROGRAMS", str(PROGRAMS))
    delay = f"inject=epoll_wait,epoll_pwait:delay_enter={DELAY}"
    strace = ["strace", "-o", str(trace), "-e", "trace=all", "-e", delay]
    traced = [*strace, *fresh.command(code)]
    result = subprocess.run(traced, capture_output=True, timeout=120, check=False)
    if b"ptrace" in result.stderr:
        pytest.skip("ptrace(2) is not allowed here")
    assert result.returncode == 0, result.stderr
    lines = trace.read_text().splitlines()
    first, last = (number for number, line in enumerate(lines) if '"MARK"' in line)
    # getpid(2) is asyncio's own, on 3.11 whenever it is asked for the running loop.
    ours = [line for line in lines[first + 1 : last] if not line.startswith("getpid(")]
    calls = [line for line in ours if "(" in line and not line.startswith("---")]
    starts = [number for number, line in enumerate(calls) if line.startswith(("clone3(", "clone("))]
    assert len(starts) == PROGRAMS
    # Now and then a guardian ends late and is reaped by a turn of the loop of its own.
    each = [calls[start:later] for start, later in pairwise(starts)]
    assert median(len(one) for one in each) <= most, "\n".join(calls)
    looks = [sum(call.startswith(("epoll_wait(", "epoll_pwait(")) for call in one) for one in each]
    assert median(looks) <= most_looks, "\n".join(calls)


@pytest.mark.heavy
def test_a_debugger_is_told_that_the_child_shares_our_memory(tmp_path: Path) -> None:
    """Else gdb takes its breakpoints out of the child's memory, and so out of ours."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here to look with")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-o", str(trace), "-e", "trace=clone,clone3"]
    code = 'assert aiopidfd.spawn(["true"]).wait() == 0'
    result = subprocess.run(
        [*strace, *fresh.command(code)], capture_output=True, timeout=120, check=False
    )
    if b"ptrace" in result.stderr:
        pytest.skip("ptrace(2) is not allowed here")
    assert result.returncode == 0, result.stderr
    (clone,) = [line for line in trace.read_text().splitlines() if "SIGCHLD" in line]
    assert "CLONE_VFORK" in clone
