"""What the tests of aiopidfd.anyio share: one test body on each of anyio's backends."""

import asyncio
import itertools
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio
import anyio.lowlevel
import pytest
import uvloop

T = TypeVar("T")
Body = Callable[[], Awaitable[T]]
HANG_GUARD = 60


def _eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"loop_factory": asyncio.SelectorEventLoop}),
    "uvloop": ("asyncio", {"loop_factory": uvloop.new_event_loop}),
    "trio": ("trio", {}),
}
if sys.version_info >= (3, 12):
    BACKENDS["eager"] = ("asyncio", {"loop_factory": _eager})
ON_ASYNCIO = [name for name in BACKENDS if name != "trio"]


class Backend:
    """One of anyio's backends. Tests are ordinary functions, so no plugin takes them for its own.

    Attributes:
        name: "asyncio", "uvloop", "trio" or "eager": asyncio with eager tasks.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def is_trio(self) -> bool:
        return self.name == "trio"

    def run(self, body: Body[T]) -> T:
        """Run the body; what it has not done in a minute it never will."""

        async def guarded() -> T:
            with anyio.fail_after(HANG_GUARD):
                return await body()

        backend, options = BACKENDS[self.name]
        return anyio.run(guarded, backend=backend, backend_options=options)


def backends(*names: str) -> pytest.MarkDecorator:
    """Run the test on these alone."""
    chosen = [name for name in names if name in BACKENDS]
    return pytest.mark.parametrize("backend", [Backend(name) for name in chosen], ids=chosen)


async def until(condition: Callable[[], Any]) -> None:
    """Let others run until it is so; the hang guard ends a wait in vain."""
    while not condition():
        await anyio.sleep(0.002)


async def turns(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def gone(pid: int) -> None:
    """Until the process is a zombie or no more."""

    def is_gone() -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return stat.rpartition(")")[2].split()[0] in "ZX"

    await until(is_gone)


@types.coroutine
def stepped(
    coroutine: Coroutine[Any, Any, T], at: Callable[[int], Callable[[], object] | None]
) -> Generator[Any, Any, T]:
    """Drive a coroutine; at its await number n, while it is suspended there, call `at(n)`."""
    value: Any = None
    error: BaseException | None = None
    for number in itertools.count():
        try:
            waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return cast("T", stop.value)
        if (action := at(number)) is not None:
            action()
        try:
            value, error = (yield waits_for), None
        except BaseException as exc:
            error = exc
    raise AssertionError
