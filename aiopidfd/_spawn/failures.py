"""What goes wrong while a program is seen to its end: one error, or a group of them."""

import contextlib
from collections.abc import Iterator

from .idle_timeout import IdleTimeoutError
from .output_limit import OutputLimitError

__all__ = ["add_failure", "denied_once", "errors_in", "raise_all", "sink_was_cancelled"]


def errors_in(exc: BaseException) -> Iterator[BaseException]:
    """The error itself, or the errors in a group."""
    if isinstance(exc, BaseExceptionGroup):
        yield from exc.exceptions
    else:
        yield exc


def add_failure(failures: list[BaseException], exc: BaseException) -> None:
    """Note what went wrong. A limit that is broken while a program is ended is no second error."""
    if not (failures and isinstance(exc, (OutputLimitError, IdleTimeoutError))):
        failures.append(exc)


@contextlib.contextmanager
def denied_once(exc: BaseException) -> Iterator[None]:
    """In the block programs are ended because of `exc`, or once more.

    That we may not end one is no second error in its place, if `exc` tells that.
    """
    try:
        yield
    except PermissionError:
        if not any(isinstance(each, PermissionError) for each in errors_in(exc)):
            raise


def sink_was_cancelled(exc: BaseException) -> RuntimeError:
    """The failure of a sink that something else has cancelled."""
    error = RuntimeError("what a sink for a program's output awaited was cancelled")
    error.__cause__ = exc
    return error


def raise_all(failures: list[BaseException]) -> None:
    """Raise the only error, or a group of several errors. The list is emptied."""
    try:
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise BaseExceptionGroup("several things went wrong with a program", [*failures])
    finally:
        failures.clear()  # a raising frame holds the list: it would be a reference cycle
