"""How multiprocessing starts a worker here and learns of its end: by a pidfd."""

import contextlib
import io
import multiprocessing.popen_spawn_posix
import os
import signal
import subprocess
from multiprocessing import context, reduction, spawn, util
from multiprocessing.process import BaseProcess
from typing import Any

from .. import _native
from .._pidfd.durations import check_seconds
from .._pidfd.not_copyable import Owner
from .._pidfd.wait import has_exited
from .._spawn.fds_above_stdio import pipe_above_stdio
from .._spawn.options import Request
from .._spawn.program import Program
from .._spawn.start import start_blocking
from .._spawn.stdio_and_pass_fds import Descriptors
from ._tracker import tracker_fd

__all__ = ["Popen"]


class Popen(Owner, multiprocessing.popen_spawn_posix.Popen):
    """A worker that was started by the method "spawn" and is invisible.

    Attributes:
        pid: the worker's process id.
        returncode: None while the worker runs.
        program: the program that is the worker.
        sentinel: a pidfd of the worker, readable when the worker has exited. `close` closes it.
    """

    _fds: list[int]
    program: Program
    pid: int
    sentinel: int
    returncode: int | None
    finalizer: Any

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Look whether the worker has exited; with flag 0, wait for it. Returns `returncode`."""
        if self.returncode is None and (not flag or has_exited(self.sentinel)):
            return self.wait()  # after the exit the guardian tells the status very soon
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the worker has exited, for `timeout` seconds at most. Returns `returncode`.

        Raises TypeError, ValueError: not a number of seconds.
        """
        check_seconds(timeout=timeout)
        if self.returncode is None:
            if timeout is not None and timeout <= 0:
                return self.poll()
            with contextlib.suppress(subprocess.TimeoutExpired, ChildProcessError):
                self.returncode = self.program.wait(timeout)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.program.advance() == _native.FOREIGN:  # a forked copy of the worker's parent
                signal.pidfd_send_signal(self.sentinel, sig)
            else:
                self.program.send_signal(sig)

    def terminate(self) -> None:
        """Send SIGTERM by pidfd. Nothing happens if the worker has exited."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL by pidfd. Nothing happens if the worker has exited."""
        self._send_signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Send SIGINT by pidfd. Nothing happens if the worker has exited."""
        self._send_signal(signal.SIGINT)

    def _launch(self, process_obj: BaseProcess) -> None:
        """Do what multiprocessing's own method does, but start invisibly, with a pidfd as sentinel.

        A worker that is killed before it has read what to do counts as started: `exitcode` tells
        how it ended.
        """
        descriptors = Descriptors()
        try:
            self._start(process_obj, descriptors)
        except BaseException:  # also one that a signal handler raises
            descriptors.abort()
            raise

    def _start(self, process_obj: BaseProcess, descriptors: Descriptors) -> None:
        tracker = tracker_fd()
        self._fds.append(tracker)
        pickled = self._pickle(process_obj)
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as the_workers:
            # For the worker the end of the second pipe means our death, so we hold its other end.
            child_read, parent_write = pipe_above_stdio()
            the_workers.callback(os.close, child_read)
            ours.callback(os.close, parent_write)
            self._fds.append(child_read)
            self.sentinel = _readable()
            ours.callback(os.close, self.sentinel)
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=child_read)
            request = Request(
                [spawn.get_executable(), *command[1:]],
                options={"pass_fds": self._fds, "restore_signals": False},
            )
            self.program = start_blocking(request, descriptors)
            descriptors.close()
            self.pid = self.program.pid
            pidfd = self.program.pidfd
            if pidfd >= 0:  # else it has exited already, and the sentinel is readable
                os.dup2(pidfd, self.sentinel, inheritable=False)
            the_workers.close()
            with contextlib.suppress(BrokenPipeError), open(parent_write, "wb", closefd=False) as f:
                f.write(pickled.getbuffer())  # a view that does not outlive this line
            kept = contextlib.ExitStack()
            self.finalizer = util.Finalize(self, kept.close)
            kept.push(ours.pop_all())

    def _pickle(self, process_obj: BaseProcess) -> io.BytesIO:
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        return buffer


def _readable() -> int:
    """A descriptor that is readable, like a pidfd whose process has exited."""
    read, write = pipe_above_stdio()
    os.close(write)
    return read
