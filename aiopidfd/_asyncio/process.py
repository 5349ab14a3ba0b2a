"""`Process`, and `create_subprocess_exec` and `create_subprocess_shell`, which make one."""

import asyncio
import contextlib
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, Unpack, overload

from .._pidfd.durations import check_seconds
from .._spawn.capture import OnLimit, check_limit
from .._spawn.handle import AsyncHandle
from .._spawn.options import (
    Command,
    Options,
    Request,
    StartOptions,
    Stdio,
    StrOrBytesPath,
    make_request,
    take_fixed,
)
from .._spawn.outputs import Output, Outputs
from .._spawn.program import Program
from .._spawn.stdio import Descriptors
from .._streams.streams import OutputReader, PipeReader, PipeWriter, open_reader, open_writer
from .._streams.terminal import HasTerminal, Terminal
from .._streams.text import TextOutputReader, TextReader, TextWriter, text_encoding
from .attend import DRAIN, attend, make_pumps
from .shutdown import end
from .start import start_on_loop
from .watch import Watch

__all__ = [
    "NO_STREAMS",
    "BaseProcess",
    "Process",
    "TextProcess",
    "check_bytes",
    "communicate",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "send_input",
    "start_process",
]

LIMIT: Final = 2**16  # asyncio's: at twice as many bytes a reader lets the child wait
GRACE: Final = 5.0  # seconds


class Streams(NamedTuple):
    """Our ends of the pipes that were asked for."""

    stdin: PipeWriter | None
    stdout: OutputReader | None
    stderr: OutputReader | None
    terminal: Terminal | None

    def readers(self) -> list[OutputReader]:
        """The outputs that are pipes."""
        return [reader for reader in (self.stdout, self.stderr) if reader is not None]

    def close(self) -> None:
        """Close them all; what was not written to stdin yet is lost."""
        if self.stdin is not None:
            self.stdin.transport.abort()
        for reader in self.readers():
            reader.close()
        if self.terminal is not None:
            self.terminal.close()


NO_STREAMS: Final = Streams(None, None, None, None)


class BaseProcess(HasTerminal, AsyncHandle):
    """What `Process` and `TextProcess` have in common: all but the streams."""

    def __init__(self, watch: Watch, streams: Streams, grace: float = GRACE) -> None:
        """Internal: the functions of this module make processes."""
        self._grace = grace
        self._watch = watch
        self._program = watch.program
        self._streams = streams
        self._terminal = streams.terminal
        self._communicating = False
        self._bounded: Outputs | None = None  # it stays when a call of communicate is cancelled
        self._limits: tuple[int | None, OnLimit] = (None, "raise")
        watch.keep = streams  # they live while the program does, even if this handle is dropped

    def _described(self) -> str:
        named = zip(("stdin", "stdout", "stderr"), self._streams[:3], strict=True)
        pipes = [f"{name}={stream.transport!r}" for name, stream in named if stream is not None]
        return " ".join([super()._described(), *pipes])

    async def wait(self) -> int:
        """Wait until the program has exited, whoever still holds its pipes.

        Any number of tasks may wait. A cancelled wait leaves the program alone.

        A program whose PIPE nobody reads stops when that is full, and never exits: read it
        meanwhile, or use `communicate`.

        Returns:
            The return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        return await self._watch.returncode()

    async def aclose(self, *, grace: float | None = None) -> None:
        """End the program if it runs, and its tree; reap it; close the pipes. `async with` does so.

        What it left behind when it exited by itself is ended too if its guardian has stayed for
        that: if it was contained, or its tree was dealt with before (docs/trees.md).

        Args:
            grace: seconds between SIGTERM and SIGKILL; 0 kills at once. None: what the start was
                given, 5 seconds by default.

        A cancelled call kills at once, and is done within seconds: a program in uninterruptible
        sleep is left to be reaped when it wakes.

        Raises:
            PermissionError: we may not signal it, or what is left of its tree. The pipes are closed
                all the same.
        """
        grace = self._grace if grace is None else grace
        check_seconds(grace=grace)
        try:
            await end(self._watch, grace)
        finally:
            self._streams.close()

    async def __aenter__(self) -> Self:
        """The process itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the program, see `aclose`."""
        await self.aclose()

    def __del__(self) -> None:
        """Warn if it still runs. It lives on, and the loop still reaps it."""
        watch: Watch | None = getattr(self, "_watch", None)
        if watch is None or watch.program.abandoned or not watch.alive:
            return
        if watch.program.poll() is None:  # which the loop has not heard of yet, perhaps
            message = f"subprocess {self.pid} is still running"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    @property
    def dropped(self) -> tuple[int, int]:
        """Bytes of (stdout, stderr) that `communicate` did not keep, because of its limit."""
        return (0, 0) if self._bounded is None else self._bounded.dropped()

    async def _communicate(
        self,
        input: bytes | None,
        drain: float | None,
        output_limit: int | None,
        on_limit: OnLimit,
        encoding: str | None = None,
    ) -> tuple[bytes | None, bytes | None]:
        check_seconds(drain=drain)
        check_limit(output_limit, on_limit)
        if input is not None:
            if self._streams.stdin is None:
                raise ValueError("input was given, but stdin is neither PIPE nor PTY")
            if self._communicating and input:
                raise ValueError("Cannot send input after starting communication")
            check_bytes(input)
        if self._bounded is None and output_limit is not None:
            self._limits = output_limit, on_limit
            choices = [Output(None, (), reader is not None) for reader in self._streams[1:3]]
            self._bounded = Outputs(self.args, (choices[0], choices[1]), *self._limits)
        bounded = self._bounded
        if bounded is None:
            self._communicating = True
            return await communicate(self._watch, self._streams, input, drain)
        if (output_limit, on_limit) not in (self._limits, (None, "raise")):
            raise ValueError("communicate() was called before with another limit")
        for reader in self._streams.readers():
            with reader.gathering():  # RuntimeError, if somebody else reads it
                pass
        self._communicating = True
        send_input(self._streams, input)
        pumps = make_pumps(self._streams.stdout, self._streams.stderr, bounded)
        try:
            await attend([self._watch], pumps, self._grace, drain, ends=False)
        except Exception as exc:
            bounded.tell(exc)
            raise
        await self._watch.returncode()
        return bounded.values(encoding)


def send_input(streams: Streams, input: bytes | None) -> None:
    """Write the input, if there is any, and close stdin; the loop does both when it can."""
    if streams.stdin is not None:
        if input:
            streams.stdin.write(input)
        streams.stdin.close()  # once all is written, which the loop sees to


async def communicate(
    watch: Watch, streams: Streams, input: bytes | None, drain: float | None
) -> tuple[bytes | None, bytes | None]:
    """Send input, close stdin, take all output, wait for the exit. See `Process.communicate`."""
    send_input(streams, input)

    # The loop gathers the output while we wait: nothing is lost if we are cancelled.
    readers = streams.readers()
    with contextlib.ExitStack() as gathering:
        for reader in readers:
            gathering.enter_context(reader.gathering())
        await watch.returncode()
        await _read_to_end(readers, drain)
        stdout = None if streams.stdout is None else streams.stdout.take_all()
        stderr = None if streams.stderr is None else streams.stderr.take_all()
    for reader in readers:
        reader.close()  # a grandchild may hold the other end
    return stdout, stderr


def check_bytes(input: object) -> None:
    """Refuse input that is no bytes. Raises TypeError."""
    if not isinstance(input, (bytes, bytearray, memoryview)):
        raise TypeError(f"input must be bytes-like, not {type(input).__name__}")


async def _read_to_end(readers: list[OutputReader], drain: float | None) -> None:
    """Wait for the end of the output; after the exit, for `drain` seconds at most.

    What the program itself wrote is in the pipes by then. A grandchild may hold them open for ever.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(drain):
            for reader in readers:
                await reader.ended()
    for reader in readers:
        reader.drain()


class Process(BaseProcess, asyncio.subprocess.Process):  # type: ignore[override]
    """A running program: everything `asyncio.subprocess.Process` has, and more.

    Attributes:
        stdin: `asyncio.StreamWriter` to the program, or None unless PIPE or PTY was asked for.
        stdout: `asyncio.StreamReader` of what it writes, or None. Also has `close()` and `lines()`.
        stderr: likewise; None with PTY for both, which are one stream.
        pid: its process id.
    """

    stdin: PipeWriter | None
    stdout: PipeReader | None
    stderr: PipeReader | None

    def __init__(self, watch: Watch, streams: Streams, grace: float = GRACE) -> None:
        """Internal: `create_subprocess_exec` makes processes."""
        super().__init__(watch, streams, grace)
        self.stdin, self.stdout, self.stderr, _ = streams

    async def communicate(  # type: ignore[override]
        self,
        input: bytes | None = None,
        *,
        drain: float | None = DRAIN,
        output_limit: int | None = None,
        on_limit: OnLimit = "raise",
    ) -> tuple[bytes | None, bytes | None]:
        """Send input, close stdin, read all output, wait for the exit.

        A cancelled call loses nothing: the next call (without input) returns all of the output.

        Args:
            input: bytes for stdin, which must be PIPE or PTY.
            drain: seconds to go on reading after the program has exited while something else, a
                grandchild, holds its pipes open; then they are closed. None: until that ends too,
                as asyncio does. What the program itself wrote is always there.
            output_limit, on_limit: as `run_process`; `dropped` tells what was not kept. A later
                call, after a cancelled one, goes on with the same limit.

        Returns:
            (stdout, stderr), each None unless it is PIPE or PTY.

        Raises:
            ValueError: input without a pipe for it, or input for the second time.
            OutputLimitError: it wrote more than `output_limit`; it was ended, see `aclose`.
        """
        return await self._communicate(input, drain, output_limit, on_limit)


class TextProcess(BaseProcess):
    """A running program whose streams are text. Otherwise a `Process`.

    Attributes:
        stdin: `TextWriter` to the program, or None unless PIPE or PTY was asked for.
        stdout: `TextReader` of what it writes, or None.
        stderr: likewise.
        pid: its process id.
    """

    stdin: TextWriter | None
    stdout: TextReader | None
    stderr: TextReader | None

    def __init__(
        self, watch: Watch, streams: Streams, grace: float, encoding: str, errors: str | None
    ) -> None:
        """Internal: `create_subprocess_exec` makes processes."""
        super().__init__(watch, streams, grace)
        stdin, stdout, stderr, _ = streams
        self._encoding = encoding
        self._errors = errors
        self.stdin = None if stdin is None else TextWriter(stdin, encoding, errors)
        self._outputs = [
            None if reader is None else TextOutputReader(reader, encoding, errors)
            for reader in (stdout, stderr)
        ]
        self.stdout, self.stderr = self._outputs

    async def communicate(
        self,
        input: str | None = None,
        *,
        drain: float | None = DRAIN,
        output_limit: int | None = None,
        on_limit: OnLimit = "raise",
    ) -> tuple[str | None, str | None]:
        """As `Process.communicate`, in text."""
        if input is not None and not isinstance(input, str):
            raise TypeError(f"input must be str, not {type(input).__name__}")
        data = None if input is None else input.encode(self._encoding, self._errors or "strict")
        stdout, stderr = await self._communicate(
            data, drain, output_limit, on_limit, self._encoding
        )
        out, err = self._outputs
        return (
            None if out is None else out.finish(stdout or b""),
            None if err is None else err.finish(stderr or b""),
        )


async def start_process(
    request: Request, *, limit: int = LIMIT, grace: float = 0
) -> tuple[Watch, Streams]:
    """Start a program on the running loop and wait until it was exec'd.

    Cancelled, it ends a program that runs by then: after SIGTERM and `grace` seconds, if any.
    """
    if limit <= 0:
        raise ValueError("Limit cannot be <= 0")
    with Descriptors() as descriptors:
        watch = await start_on_loop(request, descriptors, grace)
        streams = _open_streams(watch.program, descriptors, limit)
    if streams.terminal is not None:
        watch.on_exit(streams.terminal.close)
    for reader in streams.readers():
        watch.on_exit(reader.program_is_over)
    return watch, streams


def _open_streams(program: Program, descriptors: Descriptors, limit: int) -> Streams:
    """Our ends of a program's pipes. If they cannot be opened the program is killed."""
    loop = asyncio.get_running_loop()
    streams = NO_STREAMS
    try:
        if (fd := descriptors.hand_over_terminal()) is not None:
            streams = streams._replace(terminal=Terminal(fd))

        def terminal_of(number: int) -> Terminal | None:
            return streams.terminal if number in descriptors.on_terminal else None

        if (fd := descriptors.hand_over(0)) is not None:
            watch = descriptors.watches.pop() if 0 in descriptors.on_terminal else None
            streams = streams._replace(stdin=open_writer(loop, fd, watch))
        if (fd := descriptors.hand_over(1)) is not None:
            streams = streams._replace(stdout=open_reader(loop, fd, limit, terminal_of(1)))
        if (fd := descriptors.hand_over(2)) is not None:
            streams = streams._replace(stderr=open_reader(loop, fd, limit, terminal_of(2)))
        if streams.terminal is not None and not descriptors.reads_terminal:
            streams.terminal.drop_output(loop, descriptors.watches.pop())
    except BaseException:
        program.abandon()  # first: it must not read the end of file
        streams.close()
        raise
    return streams


async def _create(
    function: Callable[..., object],
    command: Command,
    shell: bool,
    stdio: tuple[Stdio, Stdio, Stdio],
    limit: int,
    grace: float | None,
    text: tuple[bool | None, str | None, str | None],
    options: dict[str, Any],
) -> Process | TextProcess:
    take_fixed(options, shell=shell, bufsize=0)
    check_seconds(grace=grace or 0)
    text_wanted, encoding, errors = text
    name = text_encoding(text_wanted, encoding, errors, options.pop("universal_newlines", None))
    request = make_request(function, command, shell, stdio, options)
    watch, streams = await start_process(request, limit=limit, grace=grace or 0)
    later = GRACE if grace is None else grace
    if name is None:
        return Process(watch, streams, later)
    return TextProcess(watch, streams, later, name, errors)


@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[StartOptions],
) -> Process: ...
@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    text: Literal[True],
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[StartOptions],
) -> TextProcess: ...
@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    encoding: str,
    text: bool | None = ...,
    errors: str | None = ...,
    **options: Unpack[StartOptions],
) -> TextProcess: ...
@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    errors: str,
    text: bool | None = ...,
    encoding: str | None = ...,
    **options: Unpack[StartOptions],
) -> TextProcess: ...
@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    grace: float | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[Options],
) -> Process | TextProcess: ...
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    limit: int = LIMIT,
    grace: float | None = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    **options: Any,
) -> Process | TextProcess:
    """Start a program that nothing else in this process can notice, reap or lose.

    A drop-in for `asyncio.create_subprocess_exec`, on any running loop with `add_reader`. Returns
    once the program was exec'd; the loop is free meanwhile. A cancelled call leaves no child.

    Args:
        program: a path, or a name to be looked for in PATH (that of `env` where that is given).
        args: its arguments.
        stdin, stdout, stderr: None to inherit ours, `subprocess.PIPE`, DEVNULL, a descriptor, an
            object with a `fileno()`; STDOUT for stderr. Pipes are pipes, never sockets. Those that
            are `aiopidfd.PTY` are one terminal, the program's controlling one.
        limit: bytes that a reader buffers; twice as much stops the reading. See `PipeReader`.
        grace: seconds between SIGTERM and SIGKILL where the program is ended for you: by
            `async with`, by `aclose()`, and when this call is cancelled while the program runs.
            None: 5, and for a cancelled call 0.
        text, encoding, errors: any of them makes the streams text: `TextProcess`.
        options: see `aiopidfd.Options`; their meaning is that of `subprocess.Popen`.

    Returns:
        The process.

    Raises:
        FileNotFoundError, PermissionError, NotADirectoryError: as subprocess: `filename` is the
            program, or the cwd if that is at fault.
        TypeError, ValueError: bad arguments, before anything is started.
        OSError: EMFILE, EAGAIN and the like; or this kernel cannot (see `aiopidfd.kernel`).
    """
    return await _create(
        create_subprocess_exec,
        (program, *args),
        False,
        (stdin, stdout, stderr),
        limit,
        grace,
        (text, encoding, errors),
        options,
    )


@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[StartOptions],
) -> Process: ...
@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    text: Literal[True],
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[StartOptions],
) -> TextProcess: ...
@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    encoding: str,
    text: bool | None = ...,
    errors: str | None = ...,
    **options: Unpack[StartOptions],
) -> TextProcess: ...
@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    errors: str,
    text: bool | None = ...,
    encoding: str | None = ...,
    **options: Unpack[StartOptions],
) -> TextProcess: ...
@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    grace: float | None = ...,
    text: bool | None = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[Options],
) -> Process | TextProcess: ...
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    limit: int = LIMIT,
    grace: float | None = None,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    **options: Any,
) -> Process | TextProcess:
    """Run a command by `/bin/sh -c`. Otherwise as `create_subprocess_exec`.

    Raises:
        ValueError: cmd is not a string.
    """
    if not isinstance(cmd, (str, bytes)):
        raise ValueError("cmd must be a string")
    return await _create(
        create_subprocess_shell,
        cmd,
        True,
        (stdin, stdout, stderr),
        limit,
        grace,
        (text, encoding, errors),
        options,
    )
