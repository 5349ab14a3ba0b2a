"""How a loop hears of the programs that were started on it: one hub for each loop.

The loop watches one descriptor, from the first start on, whatever the number of programs. It is the
loop alone that holds the hub, by its reader (on trio by a system task): so that goes when the loop
is closed.
"""

import asyncio
import contextlib
import functools
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from .. import _native
from .._pidfd.backend import Flag, running_trio

__all__ = ["Hub", "current_hub", "news_of", "prepare"]

# Starts that are under way at once, on one loop; the next one waits for its turn. Each needs a few
# more descriptors than a running program does, and more of them would not be done any sooner.
AT_ONCE: Final = 16

_LOOK_AGAIN: Final = 0.05  # seconds


class Hub:
    """Tells whoever listens when there is news of a child.

    Attributes:
        native: what the native module takes for a start.
    """

    __slots__ = (
        "__weakref__",
        "_later",
        "_listeners",
        "_news",
        "_queue",
        "_soon",
        "_starting",
        "_will_look",
        "native",
        "number",
    )

    def __init__(self, soon: Callable[..., object], later: Callable[..., object]) -> None:
        """Open it. `soon` and `later` are how to be called by the loop. Raises OSError."""
        self.native: _native.Hub = _native.hub()
        self.number: int = self.native.fd
        self._soon = soon
        self._later = later
        self._will_look = False
        self._news: deque[int] = deque()
        self._listeners: dict[int, Callable[[], object]] = {}
        self._starting = 0
        self._queue: deque[Flag] = deque()

    def listen(self, child: _native.Child, listener: Callable[[], object]) -> None:
        """Call `listener` when there is news of `child`: its state has changed, or may have."""
        self._listeners[child.id] = listener

    def forget(self, child: _native.Child) -> None:
        """Call it no more."""
        self._listeners.pop(child.id, None)

    def collect(self) -> None:
        """Take in what is new, and call who listens. For the loop: when `native.fd` is readable."""
        numbers, late = self.native.collect()
        self._news.extend(numbers)
        if late and not self._will_look:
            self._will_look = True
            self._later(_LOOK_AGAIN, self._look_again)
        self._tell()

    def _tell(self) -> None:
        """Call who listens. Ctrl-C may come anywhere: the others are called all the same."""
        news = self._news
        try:
            while news:
                if (listener := self._listeners.get(news[0])) is not None:
                    listener()
                news.popleft()
        except BaseException:
            if news and (listener := self._listeners.get(news.popleft())) is not None:
                self._soon(listener)  # once more: it may have been interrupted
            if news:
                self._soon(self._tell)
            raise

    def _look_again(self) -> None:
        self._will_look = False
        self.native.look_again()
        self.collect()  # which sees to it that those who are still late are looked at again

    async def take_turn(self) -> None:
        """Wait until one more start may be under way. Then it is, until `give_turn`."""
        if self._starting < AT_ONCE:
            self._starting += 1
            return
        flag = Flag()
        self._queue.append(flag)
        try:
            await flag.wait()
        except BaseException:
            if flag in self._queue:
                self._queue.remove(flag)
            else:
                self.give_turn()
            raise

    def give_turn(self) -> None:
        """Hand a turn over to who has waited longest, if anybody does."""
        if self._queue:
            self._queue.popleft().set()
        else:
            self._starting -= 1


_hubs: "weakref.WeakKeyDictionary[Any, weakref.ref[Hub]]" = weakref.WeakKeyDictionary()
_trio_hub: Any = None  # a RunVar

os.register_at_fork(after_in_child=_hubs.clear)  # the native half is closed there


def current_hub() -> Hub:
    """The hub of the running loop: asyncio's, another with `add_reader`, or trio's.

    Raises:
        RuntimeError: no loop runs here.
        OSError: EMFILE; or a call is refused here, which it names.
    """
    trio = running_trio()
    if trio is not None:
        return _hub_of_trio(trio)
    loop = asyncio.get_running_loop()
    reference = _hubs.get(loop)
    hub = None if reference is None else reference()
    if hub is None or hub.native.fd < 0:
        if hub is not None:  # the host has closed it
            with contextlib.suppress(OSError, ValueError):
                loop.remove_reader(hub.number)
        hub = Hub(loop.call_soon, loop.call_later)
        loop.add_reader(hub.number, hub.collect)
        _hubs[loop] = weakref.ref(hub)
    return hub


def _hub_of_trio(trio: Any) -> Hub:
    global _trio_hub
    if _trio_hub is None:
        _trio_hub = trio.lowlevel.RunVar("aiopidfd.hub")
    hub: Hub | None = _trio_hub.get(None)
    if hub is None or hub.native.fd < 0:
        hub = _TrioHub(trio)
        _trio_hub.set(hub)
    return hub


class _TrioHub(Hub):
    """A hub that a system task of trio serves.

    At the end of a run system tasks are cancelled, and some of them may be about to end programs:
    so it goes on as long as somebody listens, and is started again where somebody begins to.
    """

    __slots__ = ("_scope", "_trio")

    def __init__(self, trio: Any) -> None:
        super().__init__(functools.partial(self._call_later, 0), self._call_later)
        self._trio = trio
        self._scope: Any = None  # of the task that serves it

    def listen(self, child: _native.Child, listener: Callable[[], object]) -> None:
        super().listen(child, listener)
        if self._scope is None:
            self._scope = self._trio.CancelScope()
            self._trio.lowlevel.spawn_system_task(self._serve, self._scope)
        self._scope.shield = True

    def forget(self, child: _native.Child) -> None:
        super().forget(child)
        if self._scope is not None and not self._listeners:
            self._scope.shield = False

    async def _serve(self, scope: Any) -> None:
        try:
            with scope:
                while True:
                    await self._trio.lowlevel.wait_readable(self.number)
                    self.collect()
        finally:
            self._scope = None

    def _call_later(self, seconds: float, function: Callable[[], object]) -> None:
        async def call() -> None:
            with self._trio.CancelScope(shield=True):
                await self._trio.sleep(seconds)
            function()

        self._trio.lowlevel.spawn_system_task(call)


def prepare() -> None:
    """Take now the descriptors that the first start would take, a dozen or so, and keep them.

    A start costs the same however many descriptors this process has open, if these have low
    numbers. They do where the first start comes early, or an event loop of ours is made early. A
    server that starts its first program late calls this first, before it opens thousands. In a
    coroutine it takes those of the running loop, too.

    Raises:
        OSError: EMFILE, ENFILE; or a call is refused here, which is named.
    """
    _native.prepare()
    with contextlib.suppress(RuntimeError):  # no loop runs here
        current_hub()


async def news_of(child: _native.Child, hub: Hub) -> None:
    """Wait until there is news of a child. One task at a time."""
    flag = Flag()
    hub.listen(child, flag.set)
    try:
        await flag.wait()
    finally:
        hub.forget(child)
