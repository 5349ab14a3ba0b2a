"""`Process`, and `create_subprocess_exec` and `create_subprocess_shell`, which make one."""

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, Self, Unpack, overload

from .._pidfd.durations import check_seconds
from .._spawn.encoding import input_bytes, read_text
from .._spawn.handle import AsyncHandle
from .._spawn.options import (
    Command,
    Options,
    Request,
    StartOptions,
    Stdio,
    StrOrBytesPath,
    make_request,
)
from .._spawn.output_limit import OnLimit
from .._spawn.refused_keywords import take_fixed
from .._spawn.run_arguments import DRAIN
from .._spawn.stdio_and_pass_fds import Descriptors
from .._spawn.tree import kill_now
from .._streams.pipe_reader import PipeReader
from .._streams.pipe_writer import PipeWriter
from .._streams.terminal import HasTerminal
from .._streams.text import TextOutputReader, TextReader, TextWriter
from .communicate import Communication
from .end_although_cancelled import end
from .exit_on_loop import Watch
from .process_streams import Streams, open_streams, reader_of
from .start_on_loop import running_loop, start_on_loop

__all__ = [
    "BaseProcess",
    "Process",
    "TextProcess",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "start_process",
]

LIMIT: Final = 2**16  # asyncio's: a reader that holds twice as many bytes stops reading
GRACE: Final = 5.0  # seconds


class BaseProcess(HasTerminal, AsyncHandle):
    """What `Process` and `TextProcess` have in common: everything but the streams."""

    def __init__(self, watch: Watch, streams: Streams, grace: float = GRACE) -> None:
        """Internal: the functions of this module make processes."""
        self._grace = grace
        self._watch = watch
        self._program = watch.program
        self._streams = streams
        self._terminal = streams.terminal
        self._communication: Communication | None = None
        watch.keep = streams  # they live while the program runs, even if this handle is dropped

    def _described(self) -> str:
        stdin, stdout, stderr, _ = self._streams
        named = {"stdin": stdin, "stdout": reader_of(stdout), "stderr": reader_of(stderr)}
        pipes = [
            f"{name}={stream.transport!r}" for name, stream in named.items() if stream is not None
        ]
        return " ".join([super()._described(), *pipes])

    async def wait(self) -> int:
        """Wait until the program has exited, even if others still hold its pipes.

        Any number of tasks may wait. A cancelled wait leaves the program alone.

        If nobody reads a program's PIPE, the program stops when the pipe is full, and never exits.
        Read the pipe meanwhile, or use `communicate`.

        Returns:
            The return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        return await self._watch.returncode()

    async def aclose(self, *, grace: float | None = None) -> None:
        """End the program and its tree, reap it, and close the pipes. `async with` does this too.

        If the program has exited by itself, what it has left behind is ended too, provided that its
        guardian has stayed for the tree: because the program was contained, or because a call dealt
        with its tree before (the manual's page trees).

        Nobody reads a PIPE for you meanwhile. If the program writes more on SIGTERM than the pipe
        and its reader have room for, it waits in vain until SIGKILL: read on in a task of yours.

        Args:
            grace: seconds between SIGTERM and SIGKILL; 0 kills at once. None: the grace that was
                given at the start, 5 seconds by default.

        A cancelled call kills at once, and ends within seconds: a program in uninterruptible sleep
        is reaped later, when it wakes.

        Raises:
            PermissionError: we may not signal the program, or what is left of its tree. The pipes
                are closed nevertheless.
        """
        grace = self._grace if grace is None else grace
        check_seconds(grace=grace)
        try:
            await end(self._watch, grace)
        finally:
            self._close_pipes()

    async def __aenter__(self) -> Self:
        """The process itself."""
        return self

    def _close_pipes(self) -> None:
        self._streams.close()

    def __del__(self) -> None:
        """Warn if the program still runs. The program goes on, and the loop still reaps it."""
        watch: Watch | None = getattr(self, "_watch", None)
        if watch is None or watch.program.abandoned or not watch.alive:
            return
        if watch.program.poll() is None:  # the loop may not have heard of the exit yet
            message = f"subprocess {self.pid} is still running"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    @property
    def dropped(self) -> tuple[int, int]:
        """How many bytes of (stdout, stderr) `communicate` did not keep because of its limit."""
        return (0, 0) if self._communication is None else self._communication.dropped

    def _communicate(
        self,
        input: bytes | None,
        drain: float | None,
        output_limit: int | None,
        on_limit: OnLimit,
        encoding: str | None = None,
    ) -> Coroutine[Any, Any, tuple[bytes | None, bytes | None]]:
        if self._communication is None:
            self._communication = Communication(self._watch, self._streams, self._grace)
        return self._communication.call(input, drain, output_limit, on_limit, encoding)


class Process(BaseProcess, asyncio.subprocess.Process):  # type: ignore[override]
    """A running program. It has everything that `asyncio.subprocess.Process` has, and more.

    Attributes:
        stdin: an `asyncio.StreamWriter` to the program; None unless it is PIPE or PTY.
        stdout: an `asyncio.StreamReader` of the program's output, or None. It also has `close()`
            and `lines()`.
        stderr: the same for stderr. None if stdout and stderr are both PTY: they are one stream.
        pid: its process id.
    """

    stdin: PipeWriter | None
    stdout: PipeReader | None
    stderr: PipeReader | None

    def __init__(self, watch: Watch, streams: Streams, grace: float = GRACE) -> None:
        """Internal: `create_subprocess_exec` makes processes."""
        super().__init__(watch, streams, grace)
        self.stdin, stdout, stderr, _ = streams
        self.stdout, self.stderr = reader_of(stdout), reader_of(stderr)

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
                grandchild, holds its pipes open; then they are closed. None: until the grandchild
                closes them, as in asyncio. What the program itself wrote is always read.
            output_limit, on_limit: as in `run_process`; `dropped` tells what was not kept. A call
                that follows a cancelled one goes on with the same limit, and may not give another.

        Returns:
            (stdout, stderr), each of which is None unless it is PIPE or PTY.

        Raises:
            ValueError: input was given without a pipe for it, or for the second time; or a limit
                where no output is captured.
            OutputLimitError: the program wrote more than `output_limit`, and was ended; see
                `aclose`.
        """
        return await self._communicate(input, drain, output_limit, on_limit)


class TextProcess(BaseProcess):
    """A running program whose streams are text. Everything else is as in `Process`.

    Attributes:
        stdin: a `TextWriter` to the program; None unless it is PIPE or PTY.
        stdout: a `TextReader` of the program's output, or None.
        stderr: the same for stderr.
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
            None if output is None else TextOutputReader(output.reader, encoding, errors)
            for output in (stdout, stderr)
        ]
        self.stdout, self.stderr = [
            None if output is None else output.reader for output in self._outputs
        ]

    async def communicate(
        self,
        input: str | None = None,
        *,
        drain: float | None = DRAIN,
        output_limit: int | None = None,
        on_limit: OnLimit = "raise",
    ) -> tuple[str | None, str | None]:
        """As `Process.communicate`, but with text."""
        data = input_bytes(input, self._encoding, self._errors)
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
    """Start a program on the running loop and wait for its exec.

    If the call is cancelled and the program runs by then, the program is ended. With a `grace` of
    more than 0 it first gets SIGTERM and that many seconds.
    """
    if not isinstance(limit, (int, float)) or isinstance(limit, bool):
        raise TypeError(f"limit must be a number of bytes, not {type(limit).__name__}")
    if not limit > 0:  # NaN, too
        raise ValueError("Limit cannot be <= 0")
    descriptors = Descriptors()
    try:
        watch = await start_on_loop(request, descriptors, grace)
        streams = open_streams(watch.program, descriptors, limit)
        if streams.terminal is not None:
            watch.on_exit(streams.terminal.close)
        descriptors.close()
        return watch, streams
    except BaseException:
        descriptors.abort()
        raise


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
    running_loop(f"{function.__name__}()")
    if options:
        take_fixed(options, shell=shell, bufsize=0)
    if grace is not None:
        check_seconds(grace=grace)
    encoding, errors = read_text(*text, options.pop("universal_newlines", None))
    request = make_request(function, command, shell, stdio, options)
    later = GRACE if grace is None else grace
    watch = None
    try:
        watch, streams = await start_process(request, limit=limit, grace=grace or 0)
        if encoding is None:
            return Process(watch, streams, later)
        return TextProcess(watch, streams, later, encoding, errors)
    except BaseException:
        if watch is not None:  # a signal handler has raised it
            kill_now(watch.program)
            streams.close()
        raise


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

    A drop-in for `asyncio.create_subprocess_exec`, on any running loop with `add_reader`. It
    returns after the exec, and the loop is free meanwhile. A cancelled call leaves no program
    behind.

    Args:
        program: a path, or a name that is searched for in PATH (the PATH of `env`, if given).
        args: the program's arguments.
        stdin, stdout, stderr: None to inherit ours, `subprocess.PIPE`, DEVNULL, a descriptor, or an
            object with a `fileno()`; for stderr also STDOUT. Pipes are real pipes, never sockets.
            Those that are `aiopidfd.PTY` are one terminal, the program's controlling one.
        limit: the size of a reader's buffer in bytes, 64 KiB by default. A reader that holds twice
            as many stops reading. See `PipeReader`.
        grace: seconds between SIGTERM and SIGKILL when the program is ended for you: by
            `async with`, by `aclose()`, and when this call is cancelled while the program runs.
            None: 5 seconds, but 0 for a cancelled call.
        text, encoding, errors: any of them makes the streams text, and the result a `TextProcess`.
        options: see `aiopidfd.Options`; they mean the same as in `subprocess.Popen`.

    Returns:
        The process.

    Raises:
        FileNotFoundError, PermissionError, NotADirectoryError: as in subprocess: `filename` is the
            program, or the cwd if the cwd is the cause.
        TypeError, ValueError: bad arguments; raised before anything is started.
        OSError: EMFILE, EAGAIN and the like; or the kernel lacks a call (see `aiopidfd.kernel`).
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
    """Run a command by `/bin/sh -c`. Everything else is as in `create_subprocess_exec`.

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
