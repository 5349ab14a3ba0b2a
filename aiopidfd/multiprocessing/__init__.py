"""Invisible worker processes for multiprocessing and `ProcessPoolExecutor`.

    from aiopidfd.multiprocessing import get_context

    with ProcessPoolExecutor(mp_context=get_context()) as pool: ...
    worker = get_context().Process(target=function)

Workers start as with multiprocessing's method "spawn". `exitcode` and `is_alive()` are right
whoever reaps children in this process, or ignores SIGCHLD, and `sentinel` is a pidfd of the worker.
"""

from contextlib import AbstractContextManager
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Final

from ._popen import Popen
from ._tracker import tracker_fd

__all__ = ["Context", "Process", "get_context"]


class Process(SpawnProcess):
    """A worker; see `multiprocessing.Process`."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # noqa: N802  multiprocessing's name for it
        return Popen(process_obj)

    def handle(self) -> AbstractContextManager[int]:
        """A pidfd of the worker that is valid for the block. See `aiopidfd.Child.handle`.

        Raises:
            NoHandleError: the worker has exited and that is known.
            ValueError: it was not started, or is closed.
        """
        worker: Any = self
        worker._check_closed()
        if worker._popen is None:
            raise ValueError("the worker was not started")
        lent: AbstractContextManager[int] = worker._popen.handle()
        return lent


_Worker = Process  # whose name the class below has, too


class Context(SpawnContext):
    """What `multiprocessing.get_context` returns for its own methods: all of its API."""

    Process: ClassVar[type[_Worker]] = _Worker

    def get_context(self, method: Any = None) -> Any:
        """This context; with a method, multiprocessing's of that name."""
        if method is None:
            tracker_fd()  # all that needs the tracker, locks and queues, asks for the context first
        return super().get_context(method)

    def __repr__(self) -> str:
        """How its workers start."""
        return f"<{type(self).__name__} {self.get_start_method()!r}>"

    def __reduce__(self) -> Any:
        """In a worker, the same context."""
        return get_context, ()


_context: Final = Context()


def get_context(method: str | None = None) -> Context:
    """The context whose `Process`, `Pool`, `Manager` and so on have invisible workers.

    Args:
        method: "spawn" or None, as for `multiprocessing.get_context`; there is no other here.

    Raises:
        ValueError: another method.

    Starts multiprocessing's resource tracker, invisible: whoever comes first starts it, and a
    `SharedMemory` that is made beside the workers knows no context.
    """
    if method not in (None, "spawn"):
        raise ValueError(f"invisible workers are started by the method 'spawn', not {method!r}")
    tracker_fd()
    return _context
