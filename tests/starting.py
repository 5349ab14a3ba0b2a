"""The start of a program in two halves, for tests of what happens between them."""

import contextlib
from typing import Any

from aiopidfd import Child
from aiopidfd._spawn.options import Request
from aiopidfd._spawn.start import start
from aiopidfd._spawn.stdio_and_pass_fds import Descriptors


def begin(command: Any, *, shell: bool = False, **options: Any) -> Child:
    """Begin to start a program: the child is STARTING still."""
    with contextlib.closing(Descriptors()) as descriptors:
        return Child(start(Request(command, shell, options=options), descriptors))
