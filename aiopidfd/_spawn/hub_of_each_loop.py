"""How a loop hears of the programs that were started on it: each loop has one hub.

From its first start on, a loop watches one descriptor, that of its hub, however many programs there
are. Only the loop holds the hub: by its reader, or on trio by a system task. So the hub is freed
when the loop is closed.
"""

import asyncio
import contextlib
import contextvars
import functools
import os
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from errno import EBADF
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from .. import _native
from .._pidfd.any_loop import Flag, running_trio
from .._pidfd.durations import monotonic
from .clone3_or_clone import clone_call, with_a_clone
from .weak_programs import WeakPrograms

if TYPE_CHECKING:
    from .program import Program

__all__ = [
    "Hub",
    "carrying",
    "current_hub",
    "hub_for",
    "hub_of",
    "is_of_another_loop",
    "known_hub",
    "news_of",
    "prepare",
    "with_hub",
]

P = ParamSpec("P")
T = TypeVar("T")

# How many starts may be under way at once on one loop; the next one waits for its turn. A start
# needs some more descriptors than a running program, and more starts at once would not be faster.
AT_ONCE: Final = 16

_LOOK_AGAIN: Final = 0.05  # seconds
_LOOK_AT_STARTS: Final = 0.5  # seconds


class Hub:
    """Tells each listener when there is news of its program, and gives starts their turns.

    It keeps the programs of its loop until their exits are known, even if nobody listens.

    Attributes:
        native: the native half, which the native module needs for a start.
        number: the number of the native half's descriptor, even after somebody has closed that.
        carriers: how many calls carry the output of programs of this loop to sinks.
        reader: what an asyncio loop calls when the native half is readable, as long as it does so.
        known: the programs of this loop that it does not keep: above all those being started.
        programs: the running programs of this loop, by number.
        trees: the programs whose guardian stays for their tree, perhaps after their own exit.
    """

    __slots__ = (
        "__weakref__",
        "_later",
        "_listeners",
        "_lost",
        "_news",
        "_queue",
        "_renewing",
        "_shutdowns",
        "_soon",
        "_starting",
        "_timers",
        "_unwatch",
        "_watch",
        "carriers",
        "known",
        "native",
        "number",
        "programs",
        "reader",
        "trees",
    )

    def __init__(
        self,
        soon: Callable[..., object],
        later: Callable[..., object],
        watch: "Callable[[Hub, int], object]",
        unwatch: "Callable[[Hub, int], object]",
    ) -> None:
        """Open the native half. Raises OSError.

        Args:
            soon: the loop's `call_soon`.
            later: the loop's `call_later`.
            watch: from now on the loop calls `collect` when that descriptor, a new one of this
                hub's, is readable.
            unwatch: the host has closed that number, and perhaps has its own there.
        """
        clone_call()  # raises an error that names what is missing, before anything is opened
        self.native: _native.Hub = _native.hub()
        self.number: int = self.native.fd
        self._soon = soon
        self._later = later
        self._watch = watch
        self._unwatch = unwatch
        self._lost: list[_native.Hub] = []
        self._timers: dict[Callable[[Hub], object], float] = {}
        self._renewing = False
        self._news: deque[int] = deque()
        self._listeners: dict[int, Callable[[], object]] = {}
        self._starting = 0
        self._queue: deque[Flag] = deque()
        self._shutdowns = 0
        self.carriers: int = 0
        self.known: WeakPrograms = WeakPrograms()
        self.programs: dict[int, Program] = {}
        self.reader: weakref.ref[Callable[[], object]] | None = None
        self.trees: WeakPrograms = WeakPrograms()

    def listen(self, child: _native.Child, listener: Callable[[], object]) -> None:
        """Call `listener` whenever the state of `child` has changed, or may have."""
        self._listeners[child.id] = listener

    def forget(self, child: _native.Child) -> None:
        """Stop calling the listener for `child`."""
        self._listeners.pop(child.id, None)

    def has_listener(self, child: _native.Child) -> bool:
        """Whether somebody still waits for news of `child`."""
        return child.id in self._listeners

    def collect(self) -> None:
        """Take in the news and call the listeners. The loop calls this when the hub is readable."""
        try:
            numbers, late = self.native.collect()
            self._news.extend(numbers)
            if late > 0:
                self._later_once(_LOOK_AGAIN, Hub._look_again)
            elif late < 0:
                with contextlib.suppress(OSError):  # it is tried again
                    self.renew()
            self._tell()
        except BaseException:  # an interrupt may have come between: of whom there was news is lost
            self._news.extend({*self._listeners, *self.programs})
            self._soon(self._tell)
            self._later_once(_LOOK_AGAIN, Hub._look_again)
            raise

    def renew(self) -> None:
        """If the host has closed the native half, make a new one, which hears of all programs.

        A guardian that is starting a program knows the old one alone, so that is still asked. What
        fails, or is interrupted, is done again, by a timer if something is to be heard.

        Raises:
            OSError: EMFILE; or the kernel refuses a call.
        """
        if self.native.fd >= 0 and not self._renewing:
            return
        self._renewing = True
        if self._listeners or self.programs:
            self._later_once(_LOOK_AGAIN, Hub._try_to_renew)
        self._unwatch(self, self.number)  # else the loop would spin, if the file is held elsewhere
        if self.native.fd < 0:
            native = _native.hub()
            self._lost.append(self.native)
            self.native = native
        self.number = self.native.fd
        self._watch(self, self.number)
        self._look_at_lost()
        self._news.extend({*self._listeners, *self.programs})
        self._soon(self._tell)
        self._renewing = False

    def watch_again(self) -> None:
        """The loop does not watch the native half any more: the host has its own there."""
        self._renewing = True
        self._later_once(_LOOK_AGAIN, Hub._try_to_renew)  # if this is interrupted
        self._try_to_renew()

    def _try_to_renew(self) -> None:
        with contextlib.suppress(OSError):  # it is tried again
            self.renew()

    def _later_once(self, seconds: float, function: "Callable[[Hub], object]") -> None:
        """Call `function` after a while: once, however often it is asked for until then.

        If its time is over, the loop is late with it, or an interrupt has lost it: then it comes
        as soon as it can.
        """
        now, due = monotonic(), self._timers.get(function)
        if due is None:
            due = now + seconds
            self._later(seconds, functools.partial(self._call, seconds, function, due))
            self._timers[function] = due
        elif due <= now:
            self._soon(functools.partial(self._call, seconds, function, due))

    def _call(self, seconds: float, function: "Callable[[Hub], object]", due: float) -> None:
        try:
            if self._timers.get(function) != due:
                return  # it has been called
            del self._timers[function]
            function(self)
        except BaseException:  # interrupted: it is called again
            self._later_once(seconds, function)
            raise

    def _look_at_lost(self) -> None:
        for native in self._lost:
            native.look_again()
            self._news.extend(native.collect()[0])
        for program in (*self.programs.values(), *self.known.list()):
            self.native.adopt(program.native)
        if self._starting:
            self._later_once(_LOOK_AGAIN, Hub._look_again)
        else:
            self._lost.clear()

    def _listener(self, number: int) -> Callable[[], object] | None:
        """The function to call. If nobody listens, it lets the program itself take in its end."""
        program = self.programs.get(number)
        return self._listeners.get(number, None if program is None else program.advance)

    def _tell(self) -> None:
        """Call the listeners. If one is interrupted, as by Ctrl-C, the others are called later."""
        news = self._news
        try:
            while news:
                if (listener := self._listener(news[0])) is not None:
                    listener()
                news.popleft()
        except BaseException:
            if news and (listener := self._listener(news.popleft())) is not None:
                self._soon(listener)  # once more: it may have been interrupted
            if news:
                self._soon(self._tell)
            raise

    def _look_again(self) -> None:
        self.native.look_again()
        if self._lost:
            self._look_at_lost()
        self.collect()  # it arranges the next look if some are still late

    def look_at_starts(self) -> None:
        """From time to time continue guardians that somebody has stopped: of that there is no news.

        One timer serves all starts, and goes on as long as any is under way.
        """
        self._later_once(_LOOK_AT_STARTS, Hub._look_at_starts)

    def _look_at_starts(self) -> None:
        if self._starting:
            self.look_at_starts()
            self.native.look_again()
            self.collect()

    async def take_turn(self) -> None:
        """Wait until one more start may be under way. The turn lasts until `give_turn` is called.

        Raises:
            RuntimeError: the programs of this loop are being shut down.
            OSError: as `renew`: the host has closed the hub meanwhile.
        """
        self.check_open()
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
        try:
            self.check_open()
            self.renew()
        except BaseException:
            self.give_turn()
            raise

    def give_turn(self) -> None:
        """Give a turn back. The caller that has waited longest gets it, if any caller waits."""
        if self._queue:
            self._queue.popleft().set()
        else:
            self._starting -= 1

    @property
    def is_starting(self) -> bool:
        """Whether any start is under way."""
        return self._starting > 0

    def check_open(self) -> None:
        """Raise RuntimeError if the programs of this loop are being shut down."""
        if self._shutdowns:
            raise RuntimeError(
                "nothing can be started: the programs of this loop are being shut down"
            )

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Inside the block nothing new can be started on this loop."""
        self._shutdowns += 1
        try:
            yield
        finally:
            self._shutdowns -= 1


_hubs: "weakref.WeakKeyDictionary[Any, weakref.ref[Hub]]" = weakref.WeakKeyDictionary()
_trio_hub: Any = None  # a RunVar

os.register_at_fork(after_in_child=_hubs.clear)  # a forked copy has the native half closed


def known_hub() -> Hub | None:
    """The hub of the running loop, if it has one yet. Raises RuntimeError if no loop runs here."""
    trio = running_trio()
    if trio is not None:
        hub: Hub | None = None if _trio_hub is None else _trio_hub.get(None)
        return hub
    return hub_of(asyncio.get_running_loop())


@contextlib.contextmanager
def carrying() -> Iterator[None]:
    """In the block the output of programs of the running loop is carried to sinks."""
    hub = known_hub()
    if hub is not None:
        hub.carriers += 1
    try:
        yield
    finally:
        if hub is not None:
            hub.carriers -= 1


def hub_of(loop: asyncio.AbstractEventLoop) -> Hub | None:
    """The hub of an asyncio loop, if it has one yet."""
    reference = _hubs.get(loop)
    return None if reference is None else reference()


def current_hub() -> Hub:
    """The hub of the running loop: asyncio's, another loop with `add_reader`, or trio's.

    Raises:
        RuntimeError: no loop runs here.
        OSError: EMFILE; or the kernel refuses a call, which the text names.
    """
    trio = running_trio()
    return hub_for(asyncio.get_running_loop()) if trio is None else _hub_of_trio(trio)


def hub_for(loop: asyncio.AbstractEventLoop) -> Hub:
    """The hub of an asyncio loop, this thread's running one. It is made if there is none.

    Raises:
        OSError: EMFILE; or the kernel refuses a call, which the text names.
    """
    hub = hub_of(loop)
    if hub is None:
        watch, unwatch = functools.partial(_watch, loop), functools.partial(_unwatch, loop)
        soon = functools.partial(_in_no_context, loop.call_soon)
        later = functools.partial(_in_no_context, loop.call_later)
        hub = Hub(soon, later, watch, unwatch)
        try:
            _watch(loop, hub, hub.number)
            _hubs[loop] = weakref.ref(hub)
        except BaseException:  # else the loop would hold a hub that nobody knows
            hub.reader = None
            with contextlib.suppress(RuntimeError):  # the host's transport has the number
                loop.remove_reader(hub.number)
            raise
    else:
        hub.renew()
    return hub


def _in_no_context(function: Callable[..., object], *args: object) -> None:
    """Have a loop call something later. It would keep the caller's context, perhaps for ever.

    And what a hub tells is not for the caller who has made it, whose request may be long over.
    """
    contextvars.Context().run(function, *args)


def _watch(loop: asyncio.AbstractEventLoop, hub: Hub, number: int) -> None:
    reader = functools.partial(hub.collect)  # an object that the loop alone holds
    weak = weakref.ref(hub)

    def gone(_: object) -> None:
        """The host has put a reader of its own in the place of ours, or has taken ours away."""
        if (hub := weak()) is None or loop.is_closed():  # it was dropped for that
            return
        with contextlib.suppress(RuntimeError):  # it is being closed
            loop.call_soon_threadsafe(hub.watch_again)  # which holds the hub till then

    _in_no_context(loop.add_reader, number, reader)
    hub.reader = weakref.ref(reader, gone)


def _unwatch(loop: asyncio.AbstractEventLoop, hub: Hub, number: int) -> None:
    """Take our reader away, unless the host has one there by now, for a file of its own."""
    reader, hub.reader = hub.reader, None  # so it is not missed
    is_ours = reader is not None and reader() is not None
    del reader
    if is_ours:
        # RuntimeError: by now a transport of the host's has the number, and is about to read.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            loop.remove_reader(number)


def _hub_of_trio(trio: Any) -> Hub:
    global _trio_hub
    if _trio_hub is None:
        _trio_hub = trio.lowlevel.RunVar("aiopidfd.hub")
    hub = known_hub()
    if hub is None:
        hub = _TrioHub(trio)
        _trio_hub.set(hub)
    else:
        hub.renew()
    assert isinstance(hub, _TrioHub)
    hub.be_served()
    return hub


class _TrioHub(Hub):
    """A hub that a system task of trio serves.

    At the end of a run trio cancels its system tasks, while other tasks may still be ending
    programs. So this task is shielded as long as there is a listener, and it is started again for
    the next listener.
    """

    __slots__ = ("_scope", "_trio")

    def __init__(self, trio: Any) -> None:
        later = functools.partial(_call_later_on_trio, trio)  # a method would make a cycle
        super().__init__(functools.partial(later, 0), later, _serve_anew, _do_nothing)
        self._trio = trio
        self._scope: Any = None  # the cancel scope of the task that serves this hub

    def listen(self, child: _native.Child, listener: Callable[[], object]) -> None:
        super().listen(child, listener)
        self.be_served()

    def be_served(self) -> None:
        """Start the task unless it runs: programs may end although nobody listens."""
        if self._scope is None:
            scope = self._trio.CancelScope()
            _spawn_on_trio(self._trio, self._serve, scope)
            self._scope = scope
        self._scope.shield = bool(self._listeners)

    def stop_serving(self) -> None:
        """End the task, if it runs."""
        if self._scope is not None:
            scope, self._scope = self._scope, None
            scope.cancel()

    def forget(self, child: _native.Child) -> None:
        try:
            super().forget(child)
        finally:  # else the run would not end
            if self._scope is not None and not self._listeners:
                self._scope.shield = False

    async def _serve(self, scope: Any) -> None:
        try:
            with scope:
                while self._scope is scope and self.native.fd >= 0:  # else the host has closed it
                    try:
                        await self._trio.lowlevel.wait_readable(self.number)
                    except (self._trio.ClosedResourceError, self._trio.BusyResourceError):
                        self.watch_again()  # the host has, or had, its own there
                    else:
                        self.collect()
        finally:
            if self._scope is scope:  # else another task serves by now
                self._scope = None
                self._after_serving()

    def _after_serving(self) -> None:
        if self._listeners and self.native.fd >= 0:
            self.be_served()  # they came when the task was already cancelled
        else:  # objects of trio may outlive the run, but `shutdown` may come before its end
            for program in [*self.programs.values()]:
                self.known.add(program)
            self.programs.clear()


def _serve_anew(hub: Hub, number: int) -> None:
    """Have another task serve: this one sleeps on a number that the host has closed."""
    del number
    assert isinstance(hub, _TrioHub)
    hub.stop_serving()
    hub.be_served()


def _do_nothing(hub: Hub, number: int) -> None:
    pass


def _call_later_on_trio(trio: Any, seconds: float, function: Callable[[], object]) -> None:
    async def call() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        function()

    _spawn_on_trio(trio, call)


def _spawn_on_trio(trio: Any, function: Callable[..., Awaitable[object]], *args: object) -> None:
    """Start a system task; or, where trio has none any more, a task that is as good as one.

    After the system tasks, at the end of a run, trio closes the async generators that are left,
    which may be ending programs. Only the outermost nursery is open then.
    """
    lowlevel = trio.lowlevel

    @lowlevel.enable_ki_protection  # type: ignore[untyped-decorator]
    async def protected() -> None:
        await function(*args)

    try:
        lowlevel.spawn_system_task(function, *args)
    except RuntimeError:
        lowlevel.current_root_task().child_nurseries[0].start_soon(protected)


def with_hub(
    hub: Hub | None,
    clone: Callable[Concatenate[_native.Hub | None, int, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Call `clone` with the native half of a hub, the way to clone, and the other arguments.

    If another thread has closed the native half in that very moment, nothing has run, and `clone`
    is called once more, with a new one.

    Raises:
        OSError: as `with_a_clone`; EMFILE: there is no descriptor for a new native half.
    """
    try:
        return with_a_clone(clone, None if hub is None else hub.native, *args, **kwargs)
    except OSError as exc:
        if exc.errno != EBADF or hub is None or hub.native.fd >= 0:
            raise
        hub.renew()
        return with_a_clone(clone, hub.native, *args, **kwargs)


def prepare() -> None:
    """Open now the descriptors that the first start would open, a dozen or so, and keep them.

    A start costs the same however many descriptors this process has open, provided that these few
    have low numbers. They have low numbers if the first start comes early, or if an event loop of
    ours is made early. A server that starts its first program late should call this before it opens
    thousands of descriptors. If a loop runs, this also opens the descriptors of that loop.

    Raises:
        OSError: EMFILE, ENFILE; or the kernel refuses a call, which the text names.
    """
    _native.prepare()
    with contextlib.suppress(RuntimeError):  # no loop runs here
        current_hub()


async def news_of(child: _native.Child, hub: Hub) -> None:
    """Wait until there is news of `child`. Only one task may do this at a time."""
    flag = Flag()
    hub.listen(child, flag.set)
    try:
        await flag.wait()
    finally:
        hub.forget(child)


def is_of_another_loop(program: "Program") -> bool:
    """Whether the loop of a program is closed, or another one runs here: then none can be awaited.

    A block that is thrown away with its loop may be ended where another loop runs.
    """
    hub = program.hub
    try:
        return hub is None or hub is not known_hub()
    except RuntimeError:
        return True
