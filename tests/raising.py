"""An exception at any place of our code, as of a signal handler.

A tracing function raises it, which may do so wherever a signal handler may, at the start of each
function and at each line; and where no signal handler can: when a `with` is about to be left.
"""

import contextlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import aiopidfd

OURS = str(Path(aiopidfd.__file__).parent)


class RaisedError(Exception):
    """What the signal handler raises."""


@contextlib.contextmanager
def raising_at(number: int, events: Collection[str] = ("call", "line")) -> Iterator[list[int]]:
    """Raise at the event of that number. What is yielded has how many are left."""
    left = [number]

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event in events and left[0] > 0:
            left[0] -= 1
            if left[0] == 0:
                raise RaisedError(f"{frame.f_code.co_filename}:{frame.f_lineno}, {event}")
        return trace

    sys.settrace(trace)
    try:
        yield left
    finally:
        sys.settrace(None)
