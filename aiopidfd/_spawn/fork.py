"""`fork`: os.fork(), but nothing else in this process can see the new process."""

import sys

from .. import _native
from .hub_of_each_loop import Hub, with_hub
from .plan import Plan
from .program import Program
from .spawn import Child

__all__ = ["fork", "fork_on"]

# A `Program` needs a plan; this one is for a process that has no command.
_PLAN = Plan(
    executable="fork",
    args=("fork",),
    paths=(),
    argv=(),
    env=None,
    cwd=None,
    steps=(),
    private_memory=False,
    private_table=False,
    highest=0,
    contain=False,
    cgroup=None,
)


def fork() -> Child | None:
    """Fork this process, as `os.fork` does, but invisibly. Blocks, with the GIL, until it is done.

    The new process is a guardian's child: there is no SIGCHLD, a foreign `waitpid(-1)` does not
    find it, and an ignored SIGCHLD loses no status. The C library's own fork() makes it, so the
    at-fork handlers of C and of Python have run in it, and it owns the locks of malloc, of stdio
    and of the interpreter. The manual's page fork says what is safe in it, and what is not.

    In the new process `os.getppid()` is the guardian. End the new process with `os._exit`: else it
    goes on with what this process was about to do. The audit event is `os.fork`.

    Returns:
        In this process, the `Child` that stands for the new process, with its pid and pidfd; its
        `args` are ("fork",). In the new process, None.

    Raises:
        BlockingIOError: EAGAIN: a limit on processes (fork(2)).
        ChildProcessError: the guardian was killed meanwhile. The new process, if there was one, has
            ended and has run nothing of ours.
        OSError: EMFILE, ENOMEM and the like; ENOSYS on machines other than x86-64 and aarch64;
            ENOTSUP in a thread that has a shadow stack.
        RuntimeError: called in a sub-interpreter.
    """
    program = fork_on(None)
    return None if program is None else Child(program)


def fork_on(hub: Hub | None) -> Program | None:
    """As `fork`; `hub` is the hub of the loop that will hear of the new process.

    It also raises RuntimeError: the programs of that loop are being shut down.
    """
    if hub is not None:
        hub.check_open()
    sys.audit("os.fork")
    native = None
    try:
        native = with_hub(hub, _native.fork)
        if native is None:
            return None
        program = Program(native, _PLAN, hub)
        program.tell_started()
    except BaseException as exc:
        if native is not None:
            native.kill()  # a signal handler has raised this
        elif isinstance(exc, ChildProcessError):
            reason = "the guardian was killed while it forked"
            raise ChildProcessError(exc.errno, reason) from None
        raise
    return program
