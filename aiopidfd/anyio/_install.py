"""One call of `install` gives invisible programs to code that calls anyio's own functions."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .._asyncio.install import install as install_on_loop
from ._process import open_process

__all__ = ["install", "uninstall"]

# anyio passes open_process() to its backend's class; run_process() and to_process build on that.
_before: dict[str, Any] = {}


def install() -> None:
    """Make the programs of `anyio.open_process` and `anyio.run_process` invisible from now on.

    This holds in the whole process, on every backend that is installed. On trio,
    `anyio.open_process` returns an `aiopidfd.anyio.Process`. On asyncio and uvloop, this calls
    `aiopidfd.install` for each loop on which anyio starts a program.
    """
    if not _before:
        _replace("asyncio", _on_asyncio)
        if find_spec("trio"):
            _replace("trio", lambda original: _on_trio)


def uninstall() -> None:
    """Undo `install`. Loops on which programs were already started stay as they are."""
    while _before:
        backend, method = _before.popitem()
        _backend_class(backend).open_process = method


def _replace(backend: str, make: Callable[[Any], Any]) -> None:
    backend_class = _backend_class(backend)
    _before[backend] = vars(backend_class)["open_process"]
    backend_class.open_process = staticmethod(make(backend_class.open_process))


def _backend_class(name: str) -> Any:
    return import_module(f"anyio._backends._{name}").backend_class


def _on_asyncio(original: Any) -> Any:
    async def open_process_on_our_loop(*args: Any, **kwargs: Any) -> Any:
        install_on_loop(asyncio.get_running_loop())
        return await original(*args, **kwargs)

    return open_process_on_our_loop


async def _on_trio(command: Any, **options: Any) -> Any:
    return await open_process(command, **options)
