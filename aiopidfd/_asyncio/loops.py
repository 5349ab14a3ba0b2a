"""Event loops whose `subprocess_exec` and `subprocess_shell` start invisible programs.

Code that uses asyncio's own functions on such a loop needs no change. One line turns it on:

    asyncio.run(main(), loop_factory=aiopidfd.EventLoop)  # Python 3.12 and later
    with asyncio.Runner(loop_factory=aiopidfd.EventLoop) as runner: ...

With `shutdown_grace`, the end of the runner also ends the programs that the loop has started.
A loop that already exists is turned into such a loop by install.py.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Awaitable, Callable
from subprocess import PIPE
from typing import Any, TypeVar, cast

from .. import _native
from .._pidfd.durations import check_seconds
from .._spawn.hub_of_each_loop import hub_of
from .._spawn.options import Command, Stdio, make_request
from .._spawn.refused_keywords import take_fixed
from .transport import SubprocessTransport, connect

__all__ = [
    "EventLoop",
    "SubprocessMethods",
    "close_loop",
    "end_programs",
    "finish_loop",
    "prepare_early",
]

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)


class SubprocessMethods:
    """A mixin: an event loop's two methods that start programs, and what ends those programs.

    Attributes:
        shutdown_grace: seconds between SIGTERM and SIGKILL for the programs that still run when the
            runner ends; None leaves them alone. It may also be set on a subclass.
    """

    shutdown_grace: float | None = None

    async def shutdown_asyncgens(self: Any) -> None:
        """End the programs of this loop if `shutdown_grace` is set; then call asyncio's own method.

        Each runner (`asyncio.Runner`, anyio's, aiohttp's, ...) awaits this before it closes its
        loop.

        Raises:
            PermissionError: as `aiopidfd.shutdown`.
        """
        await end_programs(self.shutdown_grace, super().shutdown_asyncgens)  # type: ignore[misc]

    def close(self: Any) -> None:
        """Close the loop. If the shutdown was interrupted, kill the programs that it has left.

        Ctrl-C, for example, interrupts it. Without a `shutdown_grace` programs are left alone.
        """
        close_loop(self, self.shutdown_grace, super().close)  # type: ignore[misc]

    async def subprocess_exec(
        self: Any,
        protocol_factory: Callable[[], _ProtocolT],
        program: Any,
        *args: Any,
        stdin: Stdio = PIPE,
        stdout: Stdio = PIPE,
        stderr: Stdio = PIPE,
        **options: Any,
    ) -> tuple[SubprocessTransport, _ProtocolT]:
        """Start `program` and connect a protocol to it, as `loop.subprocess_exec` of asyncio does.

        Args:
            protocol_factory: makes the protocol, an `asyncio.SubprocessProtocol` as a rule.
            program: a path, or a name that is searched for in PATH.
            args: its arguments.
            stdin, stdout, stderr: PIPE (the default here), PTY, DEVNULL, STDOUT for stderr, a
                descriptor, a file, or None to inherit.
            options: see `aiopidfd.Options`.

        Returns:
            (transport, protocol), once the exec has succeeded.

        Raises:
            OSError, TypeError, ValueError: as `aiopidfd.create_subprocess_exec`.
        """
        return await _start(
            SubprocessMethods.subprocess_exec,
            self,
            protocol_factory,
            (program, *args),
            False,
            (stdin, stdout, stderr),
            options,
        )

    async def subprocess_shell(
        self: Any,
        protocol_factory: Callable[[], _ProtocolT],
        cmd: Any,
        *,
        stdin: Stdio = PIPE,
        stdout: Stdio = PIPE,
        stderr: Stdio = PIPE,
        **options: Any,
    ) -> tuple[SubprocessTransport, _ProtocolT]:
        """Run `cmd`, a string, by `/bin/sh -c`. Otherwise as `subprocess_exec`."""
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        return await _start(
            SubprocessMethods.subprocess_shell,
            self,
            protocol_factory,
            cmd,
            True,
            (stdin, stdout, stderr),
            options,
        )


async def end_programs(grace: float | None, then: Callable[[], Awaitable[None]]) -> None:
    """Shut down the programs of the running loop if `grace` is not None; then await `then()`."""
    try:
        if grace is not None:
            from .._spawn.shutdown import shutdown  # few need this module

            await shutdown(grace=grace)
    finally:
        await then()


def close_loop(
    loop: asyncio.AbstractEventLoop, grace: float | None, then: Callable[[], None]
) -> None:
    """Kill what a shutdown has left if `grace` is not None; then call `then`: it closes `loop`."""
    try:
        if grace is not None and (hub := hub_of(loop)) is not None:
            from .._spawn.shutdown import kill_all

            kill_all(hub)
    finally:
        then()


def finish_loop(loop: SubprocessMethods, shutdown_grace: float | None) -> None:
    """Finish a new loop of ours. If its grace is not a number of seconds, the loop is closed."""
    try:
        check_seconds(shutdown_grace=shutdown_grace)
    except (TypeError, ValueError):
        cast("asyncio.AbstractEventLoop", loop).close()
        raise
    if shutdown_grace is not None:
        loop.shutdown_grace = shutdown_grace
    prepare_early()


def prepare_early() -> None:
    """Open early what starts need, see `aiopidfd.prepare`. If this fails, a start does it later."""
    with contextlib.suppress(OSError):
        _native.prepare()


async def _start(
    function: Callable[..., object],
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], _ProtocolT],
    command: Command,
    shell: bool,
    stdio: tuple[Stdio, Stdio, Stdio],
    options: dict[str, Any],
) -> tuple[SubprocessTransport, _ProtocolT]:
    take_fixed(
        options,
        universal_newlines=False,
        shell=shell,
        bufsize=0,
        text=False,
        encoding=None,
        errors=None,
    )
    request = make_request(function, command, shell, stdio, options)
    protocol = protocol_factory()
    return await connect(loop, protocol, request), protocol


class EventLoop(SubprocessMethods, asyncio.SelectorEventLoop):
    """asyncio's selector event loop, with invisible programs. It is a loop factory.

    The runner's end can shut down the programs that still run:

        asyncio.run(main(), loop_factory=partial(aiopidfd.EventLoop, shutdown_grace=5))
    """

    def __init__(
        self,
        selector: selectors.BaseSelector | None = None,
        *,
        shutdown_grace: float | None = None,
    ) -> None:
        """Make a loop.

        Args:
            selector: as for asyncio's loop.
            shutdown_grace: seconds between SIGTERM and SIGKILL for the programs of this loop that
                still run when the runner ends (see `aiopidfd.shutdown`). None: the value of the
                class, which by default leaves them alone.

        Raises:
            TypeError, ValueError: `shutdown_grace` is not a number of seconds.
        """
        super().__init__(selector)
        finish_loop(self, shutdown_grace)
