"""No heap grows with the number of programs: neither Python's nor C's."""

import asyncio
import ctypes
import gc
import tracemalloc

import pytest

import aiopidfd


class _MallInfo2(ctypes.Structure):
    """mallinfo2(3), glibc 2.33."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def allocated_in_c() -> int:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("this C library does not tell what malloc has given out")
    libc.mallinfo2.restype = _MallInfo2
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


async def round_of_programs() -> None:
    await aiopidfd.run_process("cat; echo err >&2", input=b"in", env={"PATH": "/bin:/usr/bin"})
    await aiopidfd.run_process(["/bin/true"], user=0)  # with a record that is a mapping
    try:
        await aiopidfd.create_subprocess_exec("/nonexistent", stdin=aiopidfd.PIPE)
    except FileNotFoundError:
        return
    raise AssertionError


async def all_timers_forgotten() -> None:
    """asyncio's loop keeps a hundred cancelled timers before it drops them: let it drop them."""
    loop = asyncio.get_running_loop()
    for _ in range(300):
        loop.call_later(60, int).cancel()
    await asyncio.sleep(0)
    gc.collect()


@pytest.mark.heavy
async def test_nothing_grows() -> None:
    for _ in range(30):
        await round_of_programs()
    gc.collect()
    tracemalloc.start()
    try:
        await round_of_programs()
        await all_timers_forgotten()
        python_before, c_before = tracemalloc.get_traced_memory()[0], allocated_in_c()
        for _ in range(200):
            await round_of_programs()
        await all_timers_forgotten()
        python_after, c_after = tracemalloc.get_traced_memory()[0], allocated_in_c()
    finally:
        tracemalloc.stop()
    # A leak of one small object a program would be 200 times 3 of them.
    assert python_after - python_before < 200 * 3 * 16
    assert c_after - c_before < 200 * 3 * 64
