"""What the tests of output, groups and pipelines share: one body for the calls of both kinds."""

import asyncio
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio

from .anyio_support import BACKENDS, ON_ASYNCIO, Backend


class Host(Backend):
    """A backend, and the calls that are tried on it: the package's own, or those for anyio."""

    def __init__(self, name: str, for_anyio: bool) -> None:
        super().__init__(name)
        self.for_anyio = for_anyio
        calls: Any = aiopidfd.anyio if for_anyio else aiopidfd
        self.run_process = calls.run_process
        self.supervise = calls.supervise
        self.run_pipeline = calls.run_pipeline


ALL = [*((name, False) for name in ON_ASYNCIO), *((name, True) for name in BACKENDS)]
HOSTS = [
    pytest.param(Host(name, for_anyio), id=f"{name}-anyio" if for_anyio else name)
    for name, for_anyio in ALL
]
on_all_hosts = pytest.mark.parametrize("host", HOSTS)


class Collector(list[Any]):
    """A function that keeps what it is called with."""

    def __call__(self, *items: Any) -> None:
        self.append(items[0] if len(items) == 1 else items)


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop
