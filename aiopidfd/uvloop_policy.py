"""An event loop policy of uvloop's loop with invisible children. Imported only when asked for."""

import asyncio

from .policies import LoopPolicy
from .uvloops import UvloopEventLoop

__all__ = ["UvloopEventLoopPolicy"]


class UvloopEventLoopPolicy(LoopPolicy):
    """`asyncio.set_event_loop_policy(UvloopEventLoopPolicy())`. Needs uvloop."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new `UvloopEventLoop`."""
        return UvloopEventLoop()
