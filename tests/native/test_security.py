"""What SECURITY.md promises, and has no test elsewhere."""

import ctypes
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiopidfd

from .. import fresh

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change ids")
libc = ctypes.CDLL(None, use_errno=True)

# Its own descriptors, as a glob: the shell's own for the folder is 3.
LIST_FDS = ["/bin/sh", "-c", "echo /proc/$$/fd/*"]


@pytest.fixture
def careless_threads() -> Iterator[None]:
    """Two threads that open and close a file without close-on-exec, as fast as they can."""
    stop = threading.Event()

    def open_and_close() -> None:
        while not stop.is_set():
            libc.close(libc.open(b"/dev/null", os.O_RDONLY))

    threads = [threading.Thread(target=open_and_close) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.heavy
@pytest.mark.usefixtures("careless_threads")
@pytest.mark.parametrize("options", [{}, {"group": os.getgid()}], ids=["shared", "copied"])
def test_no_descriptor_leaks_while_threads_open_files(options: dict[str, int]) -> None:
    def listed(**extra: bool) -> set[int]:
        """The numbers that a program has."""
        read, write = os.pipe()
        child = aiopidfd.spawn(LIST_FDS, stdout=write, **options, **extra)  # type: ignore[arg-type]
        os.close(write)
        with open(read) as pipe:
            numbers = {int(path.rsplit("/", 1)[1]) for path in pipe.read().split()}
        assert child.wait() == 0
        return numbers

    for _ in range(100):
        assert listed() <= {0, 1, 2, 3}
    # What would be seen: the same without what closes them.
    assert any(len(listed(close_fds=False)) > 4 for _ in range(100))


@pytest.fixture
def setuid_id() -> Iterator[Path]:
    """A copy of id(1) that is root's and set-user-ID, in a folder that all may enter."""
    with tempfile.TemporaryDirectory() as name:
        if os.statvfs(name).f_flag & os.ST_NOSUID:
            pytest.skip(f"{name} is mounted nosuid")
        Path(name).chmod(0o755)
        program = Path(name) / "id"
        shutil.copy(shutil.which("id") or "", program)
        program.chmod(0o755 | stat.S_ISUID)
        yield program


@root_only
def test_a_setuid_program_gets_its_privileges(setuid_id: Path) -> None:
    """The guardian, which shares our memory, does not make the exec unsafe to the kernel."""
    printed = fresh.run(f"""
        import asyncio.selector_events
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

        async def main():
            for options in {{}}, {{"no_new_privs": True}}:
                for which in "-ru", "-u":
                    result = await aiopidfd.run_process([{str(setuid_id)!r}, which], **options)
                    print(result.stdout.decode().strip(), flush=True)

        asyncio.run(main())
        print(aiopidfd.spawn([{str(setuid_id)!r}, "-u"]).wait())
    """)
    assert printed.split() == ["65534", "0", "65534", "65534", "0", "0"]


STATUS = """
    def status():
        keys = "Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Seccomp"
        out, into = os.pipe()
        child = aiopidfd.spawn(["/bin/cat", "/proc/self/status"], stdout=into)
        os.close(into)
        with open(out) as pipe:
            lines = dict(line.split(":", 1) for line in pipe.read().splitlines())
        assert child.wait() == 0
        return {key: lines[key].split() for key in keys}
"""


@root_only
def test_ids_dropped_in_the_host_are_dropped_in_later_programs() -> None:
    fresh.run(
        STATUS
        + """
    assert status()["Uid"] == ["0"] * 4
    os.setgroups([60002])
    os.setresgid(60001, 60001, 60001)
    os.setresuid(60000, 60000, 60000)
    now = status()
    assert now["Uid"] == ["60000"] * 4, now
    assert now["Gid"] == ["60001"] * 4, now
    assert now["Groups"] == ["60002"], now
    assert int(now["CapEff"][0], 16) == 0, now
    """
    )


def test_no_new_privs_and_seccomp_of_the_host_hold_in_later_programs(tmp_path: Path) -> None:
    """A filter that was installed after the first start, while a program runs."""
    folder = tmp_path / "folder"
    fresh.run(
        STATUS
        + f"""
    before = status()
    assert before["NoNewPrivs"] == ["0"], before
    running = aiopidfd.spawn(["/bin/sleep", "60"])
    mkdir = [83] if os.uname().machine == "x86_64" else []
    mkdirat = 258 if os.uname().machine == "x86_64" else 34
    seccomp.install(*((number, errno.EPERM) for number in (*mkdir, mkdirat)))
    now = status()
    assert now["NoNewPrivs"] == ["1"], now
    assert now["Seccomp"] == ["2"], now
    with open("/dev/null", "w") as null:
        assert aiopidfd.spawn(["mkdir", {str(folder)!r}], stderr=null).wait() == 1
    running.kill()
    running.wait()
    """
    )
    assert not folder.exists()
    subprocess.run(["mkdir", folder], check=True)  # it is the filter that refused


async def test_a_program_cannot_trace_or_signal_what_it_may_not(tmp_path: Path) -> None:
    """With `user=` neither we nor the guardian can be signalled by the program."""
    if os.geteuid() != 0:
        pytest.skip("only root may change ids")
    process = await aiopidfd.create_subprocess_exec(
        "/bin/sh",
        "-c",
        f"kill -0 $PPID; echo $?; kill -0 {os.getpid()}; echo $?; cat /proc/$PPID/environ; echo $?",
        stdout=aiopidfd.PIPE,
        stderr=aiopidfd.DEVNULL,
        user=65534,
        group=65534,
        extra_groups=[],
    )
    output, _ = await process.communicate()
    assert output.split() == [b"1", b"1", b"1"]
