"""Event loop policies, for code that gets its loop from one. Python 3.14 deprecates policies."""

import asyncio
import warnings

from .loops import EventLoop

__all__ = ["EventLoopPolicy", "LoopPolicy"]

with warnings.catch_warnings():
    # asyncio warns when a policy is set. The user who sets one should get that warning.
    warnings.simplefilter("ignore", DeprecationWarning)
    LoopPolicy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(LoopPolicy):
    """Makes each new loop an `EventLoop`: `asyncio.set_event_loop_policy(EventLoopPolicy())`."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new `EventLoop`."""
        return EventLoop()
