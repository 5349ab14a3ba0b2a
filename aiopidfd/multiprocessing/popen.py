"""How multiprocessing starts a worker and learns of its end: here, by a pidfd."""

import contextlib
import fcntl
import io
import multiprocessing.popen_spawn_posix
import os
import select
import signal
import subprocess
from multiprocessing import context, reduction, spawn, util
from multiprocessing.process import BaseProcess
from typing import Any

from ..child import Child
from ..child import spawn as spawn_child
from .tracker import tracker_fd

__all__ = ["Popen"]


class Popen(multiprocessing.popen_spawn_posix.Popen):
    """A worker that was started by the method "spawn", and is invisible.

    Attributes:
        pid: the worker's.
        returncode: None while it runs.
        sentinel: a pidfd of the worker, readable when it has exited. Closed by `close`.
    """

    _fds: list[int]
    _child: Child
    pid: int
    sentinel: int
    returncode: int | None
    finalizer: Any

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Look whether the worker has exited; with flag 0, wait for it. Returns `returncode`."""
        if self.returncode is None:
            if not flag or self._has_exited():  # then the guardian is about to tell the status
                return self.wait()
            self.returncode = self._child.poll()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the worker has exited, `timeout` seconds at most. Returns `returncode`."""
        if self.returncode is None:
            if timeout == 0:
                return self.poll()
            with contextlib.suppress(subprocess.TimeoutExpired, ChildProcessError):
                self.returncode = self._child.wait(timeout)
        return self.returncode

    def _has_exited(self) -> bool:
        poller = select.poll()
        poller.register(self.sentinel, select.POLLIN)
        return bool(poller.poll(0))

    def _send_signal(self, sig: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(sig)

    def terminate(self) -> None:
        """Send SIGTERM, by pidfd. Nothing happens if it has exited."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, by pidfd. Nothing happens if it has exited."""
        self._send_signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Send SIGINT, by pidfd. Nothing happens if it has exited."""
        self._send_signal(signal.SIGINT)

    def _launch(self, process_obj: BaseProcess) -> None:
        """As multiprocessing's own, but for who starts it and what the sentinel is."""
        tracker = tracker_fd()
        self._fds.append(tracker)
        pickled = self._pickle(process_obj)
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as the_workers:
            # The worker takes the end of the second pipe for our death, so we hold its other end.
            child_read, parent_write = os.pipe()
            the_workers.callback(os.close, child_read)
            ours.callback(os.close, parent_write)
            self._fds.append(child_read)
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=child_read)
            self._child = spawn_child(
                [spawn.get_executable(), *command[1:]],
                pass_fds=self._fds,
                restore_signals=False,
            )
            self.pid = self._child.pid
            self.sentinel = fcntl.fcntl(self._child.pidfd, fcntl.F_DUPFD_CLOEXEC, 3)
            ours.callback(os.close, self.sentinel)
            the_workers.close()
            with open(parent_write, "wb", closefd=False) as pipe:
                pipe.write(pickled)
            self.finalizer = util.Finalize(self, ours.pop_all().close)

    def _pickle(self, process_obj: BaseProcess) -> memoryview:
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        return buffer.getbuffer()
