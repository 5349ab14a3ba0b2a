"""Event loop policies, for code that takes its loop from one. Python 3.14 deprecates them."""

import asyncio
import warnings

from .loops import EventLoop

__all__ = ["EventLoopPolicy", "UvloopEventLoopPolicy"]

with warnings.catch_warnings():
    # asyncio warns whoever sets one, and that is who should know.
    warnings.simplefilter("ignore", DeprecationWarning)
    _Base = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_Base):
    """`asyncio.set_event_loop_policy(EventLoopPolicy())`: new loops are `aiopidfd.EventLoop`."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new `EventLoop`."""
        return EventLoop()


class UvloopEventLoopPolicy(_Base):
    """The same with `aiopidfd.UvloopEventLoop`. Needs uvloop."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new `UvloopEventLoop`."""
        from .uvloops import UvloopEventLoop

        return UvloopEventLoop()
