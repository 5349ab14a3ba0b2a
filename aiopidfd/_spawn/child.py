"""`spawn`: start a program without an event loop; and the `Child` that it returns."""

import subprocess
from types import TracebackType
from typing import Self, Unpack

from .handle import BlockingTreeHandle, Handle
from .options import Command, Options, Stdio, make_request
from .program import Program
from .start import start_blocking
from .stdio import Descriptors
from .terminal import PTY

__all__ = ["Child", "spawn"]


class Child(BlockingTreeHandle, Handle):
    """A program that was started by `spawn`, or a process that was made by `fork`.

    One that is dropped while it runs lives on; its guardian is reaped by a later start of this
    process. All methods may be called from any thread.
    """

    __slots__ = ("__weakref__", "_program")

    def __init__(self, program: Program) -> None:
        """Internal: `spawn` and `fork` make children."""
        self._program = program

    def poll(self) -> int | None:
        """Look whether it has exited, without blocking. Returns `returncode`."""
        return self._program.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Block until the program has exited. The GIL is not held meanwhile.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            `returncode`.

        Raises:
            subprocess.TimeoutExpired: it still runs.
            ChildProcessError: this process is a forked copy of the child's parent.
            TypeError, ValueError: no number of seconds.
        """
        return self._program.wait(timeout)

    def __enter__(self) -> Self:
        """The child itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the exit, as `subprocess.Popen` does."""
        self.wait()


def spawn(
    command: Command,
    *,
    shell: bool = False,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    **options: Unpack[Options],
) -> Child:
    """Start a program, blocking until it was exec'd; for code without a loop.

    Args:
        command: the program and its arguments, or one string, which is a program's name or path.
        shell: run the command, a string, by `/bin/sh -c`.
        stdin, stdout, stderr: None to inherit, DEVNULL, a descriptor or a file; STDOUT for stderr.
            PIPE and PTY are refused: make a pipe with `os.pipe` and pass its end.
        options: as everywhere, see `aiopidfd.Options`.

    Returns:
        The running child.

    Raises:
        FileNotFoundError, PermissionError, NotADirectoryError: with `filename`, as subprocess.
        TypeError, ValueError: bad arguments, before anything is started.
        OSError: EMFILE, EAGAIN and the like; or a call is missing here (see `aiopidfd.kernel`).
    """
    if subprocess.PIPE in (stdin, stdout, stderr):
        raise ValueError("spawn() makes no pipes: pass an end of one made with os.pipe()")
    if PTY in (stdin, stdout, stderr):
        raise ValueError("spawn() makes no terminals: use create_subprocess_exec()")
    request = make_request(spawn, command, shell, (stdin, stdout, stderr), {**options})
    with Descriptors() as descriptors:
        return Child(start_blocking(request, descriptors))
