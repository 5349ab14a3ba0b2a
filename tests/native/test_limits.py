"""Limits reached: a clean OSError, no program started, nothing left over."""

import asyncio
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiopidfd
from aiopidfd import _native

from .. import fresh
from ..census import child_pids, open_fds
from ..support import room_for


async def test_emfile_at_each_descriptor(tmp_path: Path) -> None:
    """Three pipes and two pidfds: every one of them may be one too many."""
    await _true()  # the loop's hub is there from now on
    pipe = aiopidfd.PIPE
    failed = 0
    for fds in range(30):
        marker = tmp_path / str(fds)
        try:
            with room_for(fds):
                process = await aiopidfd.create_subprocess_exec(
                    "/bin/touch", str(marker), stdin=pipe, stdout=pipe, stderr=pipe
                )
        except OSError as exc:
            assert exc.errno == errno.EMFILE  # noqa: PT017
            assert not marker.exists()
            failed += 1
            continue
        await process.communicate()
        assert process.returncode == 0
        break
    assert failed >= 7
    assert marker.exists()


async def test_emfile_leaves_nothing_each_time() -> None:
    await _true()  # the loop's hub is there from now on
    while child_pids():
        await asyncio.sleep(0)
    before = set(open_fds())
    failed = 0
    for _ in range(50):
        for fds in (0, 1, 2, 3):
            while child_pids():  # a guardian on its way out still has its pidfd
                _native.sweep()
            try:
                with room_for(fds):
                    process = await aiopidfd.create_subprocess_exec("/bin/true")
            except OSError as exc:
                assert exc.errno == errno.EMFILE  # noqa: PT017
                failed += 1
            else:
                await process.wait()
    assert failed >= 50
    while child_pids():
        await asyncio.sleep(0.01)
    assert _native.records() == 0
    assert set(open_fds()) - before == set()


def test_eagain_for_the_guardian_and_for_its_child() -> None:
    output = fresh.run(
        """
        # As somebody with no other process and no right to exceed the limit.
        uid = 60000 + os.getpid() % 5000
        os.setresuid(uid, uid, uid)
        fds = set(open_fds())
        for limit in range(1, 4):
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, 4))
            try:
                child = aiopidfd.spawn("exit 3", shell=True)
            except OSError as exc:
                print(limit, errno.errorcode[exc.errno], type(exc).__name__)
            else:
                print(limit, child.wait())
                del child
            while child_pids():  # a guardian on its way out
                _native.sweep()
            assert not _native.records()
        aiopidfd.spawn(["/bin/true"]).wait()
        """
    )
    assert output == "1 EAGAIN BlockingIOError\n2 EAGAIN BlockingIOError\n3 3\n"


@pytest.fixture
def many_fds() -> Iterator[None]:
    """Each running program holds some descriptors of ours; a login's soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_fds")
async def test_500_at_once() -> None:
    async def one(number: int) -> int:
        process = await aiopidfd.create_subprocess_shell(f"exit {number % 256}")
        return await process.wait()

    codes = await asyncio.gather(*(one(number) for number in range(500)))
    assert codes == [number % 256 for number in range(500)]


@pytest.mark.heavy
async def test_10_000_in_a_row() -> None:
    await _true()  # the loop's hub is there from now on
    while child_pids():
        await asyncio.sleep(0)
    before = open_fds()
    for number in range(100):
        codes = await asyncio.gather(*(_true() for _ in range(100)))
        assert codes == [0] * 100, number
    while child_pids():
        await asyncio.sleep(0)
    assert open_fds() == before
    assert _native.records() == 0


async def _true() -> int:
    process = await aiopidfd.create_subprocess_exec("/bin/true")
    return await process.wait()


async def test_failing_execs_leave_nothing() -> None:
    await _true()  # the loop's hub is there from now on
    while child_pids():
        await asyncio.sleep(0)
    before = open_fds()
    for _ in range(1000):
        try:
            await aiopidfd.create_subprocess_exec("/nonexistent", stdout=aiopidfd.PIPE)
        except FileNotFoundError:
            continue
    while child_pids():
        await asyncio.sleep(0)
    assert open_fds() == before
    assert _native.records() == 0
