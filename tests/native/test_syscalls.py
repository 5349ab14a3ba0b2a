"""How many system calls a program costs the loop's thread, counted by strace(1)."""

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from .. import fresh

PROGRAMS = 20

CODE = f"""
async def main():
    async def some():
        for _ in range({PROGRAMS}):
            process = await aiopidfd.create_subprocess_exec("/bin/true")
            assert await process.wait() == 0

    await some()
    os.write(2, b"MARK")
    await some()
    os.write(2, b"MARK")

asyncio.run(main())
"""


@pytest.mark.heavy
def test_without_pipes_from_start_to_end(tmp_path: Path) -> None:
    """Also that all is right where each call takes long, and start and exit are seen at once."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here to count with")
    trace = tmp_path / "trace"
    command = ["strace", "-o", str(trace), *fresh.command(CODE)]
    result = subprocess.run(command, capture_output=True, timeout=120, check=False)
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
    assert median(len(one) for one in each) <= 18, "\n".join(calls)
    # The loop looks, asks the hub what there is, and looks again; the hub tells nothing else.
    looks = [sum(call.startswith("epoll_") and "wait" in call for call in one) for one in each]
    assert median(looks) <= 3, "\n".join(calls)
