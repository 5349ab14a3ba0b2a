"""uvloop's event loop with invisible children. Imported only when it is asked for."""

import uvloop

from .loops import SubprocessMethods, prepare_early

__all__ = ["UvloopEventLoop"]


class UvloopEventLoop(SubprocessMethods, uvloop.Loop):  # type: ignore[misc]
    """uvloop's event loop, with invisible children. A loop factory. Needs uvloop."""

    def __init__(self) -> None:
        """Make one."""
        super().__init__()
        prepare_early()
