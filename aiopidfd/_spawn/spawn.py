"""`spawn`: start a program without an event loop; and the `Child` that it returns."""

import contextlib
import subprocess
from types import TracebackType
from typing import Self, Unpack

from .handle import AFTER_CTRL_C, BlockingHandle, Handle
from .open_terminal import PTY
from .options import Command, Options, Stdio, make_request
from .program import Program
from .start import start_blocking
from .stdio_and_pass_fds import Descriptors

__all__ = ["Child", "spawn"]


class Child(BlockingHandle, Handle):
    """A program that was started by `spawn`, or a process that was made by `fork`.

    If it is dropped while the program runs, the program goes on, and a later start of this process
    reaps the guardian. All methods may be called from any thread.
    """

    __slots__ = ("__weakref__", "_program")

    def __init__(self, program: Program) -> None:
        """Internal: `spawn` and `fork` make children."""
        self._program = program

    def poll(self) -> int | None:
        """Look, without blocking, whether the program has exited. Returns `returncode`.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        code = self._program.poll()
        self._program.check_ours()
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Block until the program has exited. The GIL is released meanwhile.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            `returncode`.

        Raises:
            subprocess.TimeoutExpired: the program still runs.
            ChildProcessError: this process is a forked copy of the one that started the program.
            TypeError, ValueError: not a number of seconds.
        """
        return self._program.wait(timeout)

    def __enter__(self) -> Self:
        """The `Child` itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the exit, as `subprocess.Popen` does; after Ctrl-C for a quarter of a second."""
        if exc_type is KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(AFTER_CTRL_C)
        else:
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
    """Start a program and block until its exec; for code without a loop.

    Args:
        command: the program and its arguments, or one string, which is a program's name or path.
        shell: whether `/bin/sh -c` runs the command, which is then a string.
        stdin, stdout, stderr: None to inherit, DEVNULL, a descriptor or a file; STDOUT for stderr.
            PIPE and PTY are refused: make a pipe with `os.pipe` and pass one of its ends.
        options: see `aiopidfd.Options`.

    Returns:
        The `Child` that stands for the running program.

    Raises:
        FileNotFoundError, PermissionError, NotADirectoryError: with `filename`, as in subprocess.
        TypeError, ValueError: bad arguments; raised before anything is started.
        OSError: EMFILE, EAGAIN and the like; or the kernel lacks a call (see `aiopidfd.kernel`).
    """
    if subprocess.PIPE in (stdin, stdout, stderr):
        raise ValueError("spawn() makes no pipes: pass an end of one made with os.pipe()")
    if PTY in (stdin, stdout, stderr):
        raise ValueError("spawn() makes no terminals: use create_subprocess_exec()")
    request = make_request(spawn, command, shell, (stdin, stdout, stderr), {**options})
    descriptors = Descriptors()
    try:
        child = Child(start_blocking(request, descriptors))
        descriptors.close()
        return child
    except BaseException:
        descriptors.abort()
        raise
