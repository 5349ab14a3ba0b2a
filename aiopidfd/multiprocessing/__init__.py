"""Invisible worker processes for multiprocessing and `ProcessPoolExecutor`.

    from aiopidfd.multiprocessing import get_context

    with ProcessPoolExecutor(mp_context=get_context()) as pool: ...
    worker = get_context().Process(target=function)

Workers start as with multiprocessing's method "spawn". `exitcode` and `is_alive()` are right
whoever reaps children in this process, or ignores SIGCHLD, and `sentinel` is a pidfd of the worker.
"""

from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from .._spawn.handle import BlockingTreeHandle
from .._spawn.program import Program
from ._popen import Popen
from ._tracker import tracker_fd

__all__ = ["Context", "Process", "get_context"]


class Process(SpawnProcess, BlockingTreeHandle):
    """A worker; see `multiprocessing.Process`. Beside that it has what other handles of ours have.

    `with` starts it and waits for its exit. The rest, `handle`, `children`, `kill_tree` and so on,
    raises ValueError before `start` and after `close`.
    """

    @property
    def _program(self) -> Program:  # type: ignore[override]  # it may not be there
        self._check_closed()  # type: ignore[attr-defined]
        if self._popen is None:  # type: ignore[attr-defined]
            raise ValueError("process not started")
        return self._popen.program  # type: ignore[attr-defined,no-any-return]

    def __enter__(self) -> Self:
        """The worker itself; it is started if it has not been."""
        if self._popen is None:  # type: ignore[attr-defined]
            self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for its exit, as `subprocess.Popen` does."""
        self.join()

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # noqa: N802  multiprocessing's name for it
        return Popen(process_obj)


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
