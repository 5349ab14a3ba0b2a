"""uvloop's event loop with invisible programs, and its policy. Imported only when asked for."""

import asyncio

import uvloop

from .loops import SubprocessMethods, finish_loop
from .policies import LoopPolicy

__all__ = ["UvloopEventLoop", "UvloopEventLoopPolicy"]


class UvloopEventLoop(SubprocessMethods, uvloop.Loop):  # type: ignore[misc]
    """uvloop's event loop, with invisible programs. It is a loop factory, and needs uvloop."""

    def __init__(self, *, shutdown_grace: float | None = None) -> None:
        """Make a loop; `shutdown_grace` is as for `EventLoop`."""
        super().__init__()
        finish_loop(self, shutdown_grace)


class UvloopEventLoopPolicy(LoopPolicy):
    """Use it by `asyncio.set_event_loop_policy(UvloopEventLoopPolicy())`. Needs uvloop."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new `UvloopEventLoop`."""
        return UvloopEventLoop(shutdown_grace=self._shutdown_grace)
