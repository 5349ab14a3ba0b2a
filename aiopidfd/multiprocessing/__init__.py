"""Invisible worker processes for multiprocessing and `ProcessPoolExecutor`.

    from aiopidfd.multiprocessing import get_context

    with ProcessPoolExecutor(mp_context=get_context()) as pool: ...
    worker = get_context().Process(target=function)

Workers start as with multiprocessing's method "spawn". `exitcode` and `is_alive()` are right even
if something reaps children in this process or ignores SIGCHLD. `sentinel` is a pidfd of the worker.
"""

from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from .._spawn.handle import AFTER_CTRL_C, BlockingHandle
from .._spawn.program import Program
from ._popen import Popen
from ._tracker import tracker_fd

__all__ = ["Context", "Process", "get_context"]


class Process(SpawnProcess, BlockingHandle):
    """A worker: a `multiprocessing.Process` that also has what our other handles have.

    `with` starts it and waits for its exit. The additions (`handle`, `children`, `kill_tree` and so
    on) raise ValueError before `start` and after `close`.
    """

    @property
    def _program(self) -> Program:  # type: ignore[override]  # it may not be there
        self._check_closed()  # type: ignore[attr-defined]
        if self._popen is None:  # type: ignore[attr-defined]
            raise ValueError("process not started")
        return self._popen.program  # type: ignore[attr-defined,no-any-return]

    def __enter__(self) -> Self:
        """The worker itself, which is started if it was not started yet."""
        if self._popen is None:  # type: ignore[attr-defined]
            self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the worker's exit; after Ctrl-C for a quarter of a second, as `Popen` does."""
        self.join(AFTER_CTRL_C if exc_type is KeyboardInterrupt else None)

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # noqa: N802  multiprocessing's name for it
        return Popen(process_obj)


_Worker = Process  # the class below also has an attribute of that name


class Context(SpawnContext):
    """A context like that of `multiprocessing.get_context`, with all of its API."""

    Process: ClassVar[type[_Worker]] = _Worker

    def get_context(self, method: Any = None) -> Any:
        """This context; or, with a method, multiprocessing's context for that method."""
        if method is None:
            tracker_fd()  # whatever needs the tracker (locks, queues) asks for the context first
        return super().get_context(method)

    def __repr__(self) -> str:
        """Say how its workers start."""
        return f"<{type(self).__name__} {self.get_start_method()!r}>"

    def __reduce__(self) -> Any:
        """In a worker, this context is unpickled as the same context."""
        return get_context, ()


_context: Final = Context()


def get_context(method: str | None = None) -> Context:
    """The context whose `Process`, `Pool`, `Manager` and so on make invisible workers.

    Args:
        method: "spawn" or None, as for `multiprocessing.get_context`; no other is supported.

    Raises:
        ValueError: another method.

    This starts multiprocessing's resource tracker, invisibly. It must be the first to start it: a
    `SharedMemory` that is made beside the workers knows no context, and would start a visible one.
    """
    if method not in (None, "spawn"):
        raise ValueError(f"invisible workers are started by the method 'spawn', not {method!r}")
    tracker_fd()
    return _context
