"""Event loop policies, for code that takes its loop from one. Python 3.14 deprecates them."""

import asyncio
import warnings

from .loops import EventLoop

__all__ = ["EventLoopPolicy", "LoopPolicy"]

with warnings.catch_warnings():
    # asyncio warns whoever sets one, and that is who should know.
    warnings.simplefilter("ignore", DeprecationWarning)
    LoopPolicy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(LoopPolicy):
    """`asyncio.set_event_loop_policy(EventLoopPolicy())`: new loops are `aiopidfd.EventLoop`."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new `EventLoop`."""
        return EventLoop()
