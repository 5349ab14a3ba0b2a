"""Hosts that lose exit statuses: what a process may do that robs its own libraries of children."""

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Final

WALL: Final = 0x40000000  # __WALL of waitpid(2): children whose exit signal is not SIGCHLD, too
SA_NOCLDWAIT: Final = 2


class Seen:
    """What the host noticed of any child."""

    def __init__(self) -> None:
        self.sigchld = 0
        self.pids: list[int] = []


@contextlib.contextmanager
def reaper_thread(seen: Seen, options: int) -> Iterator[None]:
    """A thread that does nothing but waitpid(-1), and remembers all that is not ECHILD."""
    stop = threading.Event()

    def reap() -> None:
        while not stop.is_set():
            try:
                seen.pids.append(os.waitpid(-1, options)[0])
            except ChildProcessError:
                continue

    thread = threading.Thread(target=reap, name="reaper")
    thread.start()
    try:
        with sigchld_handler(seen):
            yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def sigchld_handler(seen: Seen, *, reap: bool = False) -> Iterator[None]:
    """A handler that counts SIGCHLD, and reaps everything if asked to."""

    def handler(signum: int, frame: object) -> None:
        seen.sigchld += 1
        with contextlib.suppress(ChildProcessError):
            while reap and (pid := os.waitpid(-1, os.WNOHANG)[0]):
                seen.pids.append(pid)

    before = signal.signal(signal.SIGCHLD, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


@contextlib.contextmanager
def sigchld_ignored(seen: Seen) -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


class _SigAction(ctypes.Structure):
    """glibc's struct sigaction on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


@contextlib.contextmanager
def no_child_wait(seen: Seen) -> Iterator[None]:
    """SA_NOCLDWAIT: the kernel reaps the children itself and drops their statuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    old = _SigAction()
    new = _SigAction(handler=None, flags=SA_NOCLDWAIT)
    assert libc.sigaction(signal.SIGCHLD, ctypes.byref(new), ctypes.byref(old)) == 0
    try:
        yield
    finally:
        assert libc.sigaction(signal.SIGCHLD, ctypes.byref(old), None) == 0


Host = Callable[[Seen], contextlib.AbstractContextManager[None]]

HOSTS: dict[str, Host] = {
    "blocking reaper": lambda seen: reaper_thread(seen, 0),
    "polling reaper": lambda seen: reaper_thread(seen, os.WNOHANG),
    "reaping handler": lambda seen: sigchld_handler(seen, reap=True),
    "ignored": sigchld_ignored,
    "SA_NOCLDWAIT": no_child_wait,
    "__WALL reaper": lambda seen: reaper_thread(seen, os.WNOHANG | WALL),
}
