"""Event loop policies, for code that gets its loop from one. Python 3.14 deprecates policies."""

import asyncio
import warnings

from .._pidfd.durations import check_seconds
from .loops import EventLoop

__all__ = ["EventLoopPolicy", "LoopPolicy"]

with warnings.catch_warnings():
    # asyncio warns when a policy is set. The user who sets one should get that warning.
    warnings.simplefilter("ignore", DeprecationWarning)
    _Default = asyncio.DefaultEventLoopPolicy


class LoopPolicy(_Default):
    """A policy whose loops take a `shutdown_grace`."""

    def __init__(self, *, shutdown_grace: float | None = None) -> None:
        """Make a policy; `shutdown_grace` is that of each of its loops, see `EventLoop`.

        Raises:
            TypeError, ValueError: `shutdown_grace` is not a number of seconds.
        """
        check_seconds(shutdown_grace=shutdown_grace)
        super().__init__()
        self._shutdown_grace = shutdown_grace


class EventLoopPolicy(LoopPolicy):
    """Makes each new loop an `EventLoop`: `asyncio.set_event_loop_policy(EventLoopPolicy())`."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A new `EventLoop`."""
        return EventLoop(shutdown_grace=self._shutdown_grace)
