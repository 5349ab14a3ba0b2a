"""A guardian is killed between two of its instructions, which no test by time would hit."""

import pytest

from .. import fresh

# The test's own processes: a tracer, and under it a host, whose guardian it traces (ptrace(2)).
TRACER = """
        SEIZE, CONT, SINGLESTEP, SYSCALL, DETACH = 0x4206, 7, 9, 24, 17
        SETOPTIONS, GETEVENTMSG, GET_SYSCALL_INFO = 0x4200, 0x4201, 0x420E
        TRACECLONE, TRACESYSGOOD, SUBREAPER, WALL = 8, 1, 36, 0x40000000
        STATX = {"x86_64": 332, "aarch64": 291}[os.uname().machine]
        libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

        def ptrace(*request):
            assert libc.ptrace(*request) >= 0, os.strerror(ctypes.get_errno())

        def host(go):
            os.read(go, 1)
            os.close(go)
            child = begin(["sleep", "1000"])
            with contextlib.suppress(ChildProcessError):
                child._program.wait_started()
                child.kill()
                child.wait()
            child._program.close()
            childless()
            pidfds = [kind for kind in open_fds().values() if "pidfd" in kind]
            os._exit(len(pidfds) - 1)  # one is our own

        def traced_guardian(pid, go):
            ptrace(SEIZE, pid, None, TRACECLONE)
            os.close(go)
            while (status := os.waitpid(pid, WALL)[1]) >> 16 != 3:  # PTRACE_EVENT_CLONE
                assert os.WIFSTOPPED(status)
                ptrace(CONT, pid, None, None)
            guardian = ctypes.c_ulong()
            ptrace(GETEVENTMSG, pid, None, ctypes.addressof(guardian))
            os.waitpid(guardian.value, WALL)
            ptrace(DETACH, pid, None, None)
            ptrace(SETOPTIONS, guardian.value, None, TRACESYSGOOD)
            return guardian.value

        def run_until_statx(guardian, which):
            '''To where the guardian has asked for the identity of a descriptor, the `which`-th.'''
            info = ctypes.create_string_buffer(88)
            entered = False
            while which:
                ptrace(SYSCALL, guardian, None, None)
                assert os.WIFSTOPPED(os.waitpid(guardian, WALL)[1])
                ptrace(GET_SYSCALL_INFO, guardian, 88, ctypes.addressof(info))
                if info.raw[0] == 1:  # PTRACE_SYSCALL_INFO_ENTRY
                    entered = int.from_bytes(info.raw[24:32], sys.byteorder) == STATX
                elif entered:
                    which -= 1

        libc.prctl(SUBREAPER, 1, 0, 0, 0)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("which", [5, 6], ids=["the program's", "its own"])
def test_while_it_notes_an_identity(which: int) -> None:
    """Nothing runs on that nobody knows of, and no descriptor stays open."""
    fresh.run(
        f"""
        {TRACER}
        for steps in range(40):
            read_end, write_end = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(write_end)
                host(read_end)
            os.close(read_end)
            guardian = traced_guardian(pid, write_end)
            run_until_statx(guardian, {which})
            for _ in range(steps):
                ptrace(SINGLESTEP, guardian, None, None)
                assert os.WIFSTOPPED(os.waitpid(guardian, WALL)[1])
            os.kill(guardian, signal.SIGKILL)
            assert os.WIFSIGNALED(os.waitpid(guardian, WALL)[1])
            assert os.waitpid(pid, 0)[1] == 0, steps
            while child_pids():  # orphans come to us
                deadline = time.monotonic() + 20
                while os.waitpid(-1, os.WNOHANG | WALL)[0] == 0:
                    if time.monotonic() > deadline:
                        for orphan in child_pids():
                            os.kill(orphan, signal.SIGKILL)
                        raise AssertionError(steps)
                    time.sleep(0.001)
        """
    )
