"""gevent and eventlet take calls away, before our import or after it: ours are the kernel's own."""

import importlib.util

import pytest

from .. import fresh

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}

USE = """
    import aiopidfd.multiprocessing, multiprocessing, aiopidfd.anyio, aiopidfd.subprocess
    assert not hasattr(select, "epoll")
    PTY = aiopidfd.PTY

    child = aiopidfd.spawn(["sh", "-c", "sleep 0.1; exit 3"])
    with aiopidfd.PidFd.from_process(child) as handle:
        assert handle.wait_blocking(30) in (3, None)
    assert child.wait(30) == 3
    child = aiopidfd.spawn(["sleep", "1000"])
    try:
        child.wait(0.01)
    except aiopidfd.TimeoutExpired:
        assert child.kill_tree()
    assert child.wait() == -9

    lines = []
    data = b"1234567\\n" * 50_000
    run = aiopidfd.subprocess.run
    assert run(["cat"], input=data, stdout=[-1, lines.append], timeout=60).stdout == data
    assert len(lines) == 50_000
    assert run(["cat"], input=data, stdout=-1, output_limit=5, on_limit="head").stdout == b"12345"

    async def on_a_loop():
        data = bytes(1_000_000)
        assert (await aiopidfd.run_process(["cat"], input=data)).stdout == data
        assert (await aiopidfd.anyio.run_process(["cat"], input=data)).stdout == data
        shell = ["sh", "-c", "read x; echo got $x"]
        result = await aiopidfd.run_process(shell, input=b"it\\n", stdin=PTY, stdout=PTY)
        assert result.stdout == b"it\\r\\ngot it\\r\\n", result.stdout
        assert await aiopidfd.run_in_fork(lambda: 42) == 42
        process = await aiopidfd.create_subprocess_exec("sh", "-c", "sleep 0.1; exit 5")
        with aiopidfd.PidFd.from_process(process) as handle:
            assert await handle.wait() in (5, None)
        assert await process.wait() == 5
        await (await aiopidfd.create_subprocess_exec("sleep", "1000")).aclose(grace=0.01)

    asyncio.run(on_a_loop())
    aiopidfd.multiprocessing.get_context()
    print("all")
"""


@pytest.mark.heavy
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("library", PATCHES)
def test_everything_works(library: str, when: str) -> None:
    if not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not here, or not for this Python")
    # The libraries warn of themselves; eventlet of each fork, too.
    patch = (
        f"warnings.simplefilter('ignore'); {PATCHES[library]}; warnings.simplefilter('error'); "
        "warnings.filterwarnings('ignore', 'Using fork')"
    )
    before = "import select\n"
    if when == "before":
        # Ahead of the usual imports of this kind of test.
        before += f"import sys, warnings; {patch}\n"
    else:
        before += f"import aiopidfd, sys, warnings; {patch}\n"
    assert fresh.run(USE, first=before) == "all\n"
