"""`run_process`: run a command to its end and return what it said."""

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from .._pidfd.durations import check_seconds
from .._spawn.options import Command, RunOptions, Stdio, make_request, take_text
from .._spawn.terminal import PTY
from .._spawn.tree import kill_now
from .._streams.text import decode_output, text_encoding
from .process import (
    DRAIN,
    GRACE,
    NO_STREAMS,
    Streams,
    check_bytes,
    communicate,
    start_process,
)
from .shutdown import end
from .start import running_loop

if TYPE_CHECKING:
    from .watch import Watch

__all__ = ["input_bytes", "run_process"]


@overload
async def run_process(
    command: Command,
    *,
    input: bytes | None = ...,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[bytes]: ...
@overload
async def run_process(
    command: Command,
    *,
    text: Literal[True],
    input: str | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    encoding: str,
    input: str | None = ...,
    text: bool | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    errors: str,
    input: str | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
async def run_process(
    command: Command,
    *,
    input: bytes | str | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[Any]: ...
async def run_process(
    command: Command,
    *,
    input: bytes | str | None = None,
    stdin: Stdio = None,
    stdout: Stdio = subprocess.PIPE,
    stderr: Stdio = subprocess.PIPE,
    check: bool = True,
    timeout: float | None = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    shell: bool | None = None,
    grace: float = GRACE,
    drain: float | None = DRAIN,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end, on the running loop.

    On timeout or cancellation the program, and all that it has started, gets SIGTERM, `grace`
    seconds, SIGKILL, and is reaped before this raises. A second cancellation kills at once. Never
    waits for ever because a grandchild holds a pipe.

    Args:
        command: a sequence runs a program; a string is run by `/bin/sh -c`.
        input: for stdin, which is a pipe then unless it is PTY.
        stdin, stdout, stderr: as `create_subprocess_exec`; the outputs are captured by default.
        check: raise CalledProcessError when the return code is not 0.
        timeout: seconds from the call on; None for no limit.
        text, encoding, errors: any of them makes input and output str.
        shell: decide the matter of the shell yourself, as with `subprocess.run`.
        grace: seconds between SIGTERM and SIGKILL.
        drain: seconds to read on after the exit while something else holds the pipes; None: until
            they close.
        options: see `aiopidfd.Options`.

    Returns:
        `subprocess.CompletedProcess`, with output where it was captured.

    Raises:
        subprocess.CalledProcessError: with the output.
        subprocess.TimeoutExpired: with what was read so far, always as bytes, as subprocess.
        OSError, TypeError, ValueError: as `create_subprocess_exec`.
        RuntimeError: no asyncio loop runs; it says what to use on trio, and in plain code.
    """
    check_seconds(grace=grace, timeout=timeout, drain=drain)
    running_loop("run_process()")
    name = text_encoding(take_text(options, text), encoding, errors)
    data = input_bytes(input, name, errors)
    if data is not None:
        if stdin not in (None, PTY):
            raise ValueError("stdin and input arguments may not both be used.")
        stdin = subprocess.PIPE if stdin is None else stdin
    if shell is None:
        shell = isinstance(command, (str, bytes))

    request = make_request(run_process, command, shell, (stdin, stdout, stderr), options)

    watch: Watch | None = None
    streams = NO_STREAMS
    timer = asyncio.timeout(timeout)
    try:
        async with timer:
            watch, streams = await start_process(request, grace=grace)
            out, err = await communicate(watch, streams, data, drain)
    except TimeoutError as exc:
        if not timer.expired():
            raise
        if watch is None:
            raise subprocess.TimeoutExpired(command, timeout or 0) from exc
        await end(watch, grace)
        out, err = _what_was_read(streams)
        raise subprocess.TimeoutExpired(command, timeout or 0, out, err) from None
    except GeneratorExit:  # nothing can be awaited any more
        if watch is not None:
            kill_now(watch.program)
        raise
    except BaseException:
        if watch is not None:
            await end(watch, grace)
        raise
    finally:
        del timer  # it holds the task, which holds its exception, whose traceback holds us
        streams.close()

    result: subprocess.CompletedProcess[Any] = subprocess.CompletedProcess(
        command, await watch.returncode(), _decoded(out, name, errors), _decoded(err, name, errors)
    )
    if check:
        result.check_returncode()
    return result


def input_bytes(input: bytes | str | None, encoding: str | None, errors: str | None) -> Any:
    """The input as bytes, encoded if it is to be text. Raises TypeError for the other kind."""
    if input is None:
        return None
    if encoding is None:
        check_bytes(input)
        return input
    if not isinstance(input, str):
        raise TypeError(f"input must be str, not {type(input).__name__}")
    return input.encode(encoding, errors or "strict")


def _decoded(data: bytes | None, encoding: str | None, errors: str | None) -> bytes | str | None:
    return data if data is None or encoding is None else decode_output(data, encoding, errors)


def _what_was_read(streams: Streams) -> tuple[bytes | None, bytes | None]:
    taken: list[bytes | None] = []
    for reader in (streams.stdout, streams.stderr):
        if reader is None:
            taken.append(None)
        else:
            reader.drain()
            taken.append(reader.take_all() or None)
    return taken[0], taken[1]
