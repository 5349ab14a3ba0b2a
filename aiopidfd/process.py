"""`Process`, and `create_subprocess_exec` and `create_subprocess_shell`, which make one."""

import asyncio
import contextlib
import warnings
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, Unpack, overload

from .ending import end
from .handle import Handle
from .launch import launch, take_fixed
from .plan import Command, Options, StrOrBytesPath
from .seconds import check_seconds
from .stdio import Descriptors, Stdio
from .streams import PipeReader, PipeWriter, open_reader, open_writer
from .terminal import HasTerminal, Terminal
from .text import TextReader, TextWriter, text_encoding
from .watch import Watch

__all__ = [
    "BaseProcess",
    "Process",
    "TextProcess",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "open_process",
]

LIMIT: Final = 2**16  # asyncio's: at twice as many bytes a reader lets the child wait
DRAIN: Final = 1.0  # seconds: enough for a `tee` that ends after the program does
GRACE: Final = 5.0  # seconds


class Streams(NamedTuple):
    """Our ends of the pipes that were asked for."""

    stdin: PipeWriter | None
    stdout: PipeReader | None
    stderr: PipeReader | None
    terminal: Terminal | None

    def readers(self) -> list[PipeReader]:
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


class BaseProcess(HasTerminal, Handle):
    """What `Process` and `TextProcess` have in common: all but the streams."""

    def __init__(self, watch: Watch, streams: Streams) -> None:
        """Internal: the functions of this module make processes."""
        self._watch = watch
        self._child = watch.child
        self._streams = streams
        self._terminal = streams.terminal
        self._communicating = False
        watch.keep = streams  # they live while the program does, even if this handle is dropped

    async def wait(self) -> int:
        """Wait until the program has exited, whoever still holds its pipes.

        Any number of tasks may wait. A cancelled wait leaves the program alone.

        Returns:
            The return code.

        Raises:
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        return await self._watch.returncode()

    async def aclose(self, *, grace: float = GRACE) -> None:
        """End the program if it runs, and its tree; reap it; close the pipes. `async with` does so.

        What it left behind when it exited by itself is ended too if its guardian has stayed for
        that: if it was contained, or its tree was dealt with before (docs/trees.md).

        Args:
            grace: seconds between SIGTERM and SIGKILL; 0 kills at once.

        A cancelled call kills at once, and is done within seconds: a program in uninterruptible
        sleep is left to be reaped when it wakes.

        Raises:
            PermissionError: we may not signal it, or what is left of its tree. The pipes are closed
                all the same.
        """
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
        if watch is None or watch.child.doomed or not watch.alive:
            return
        if watch.child.poll() is None:  # which the loop has not heard of yet, perhaps
            message = f"subprocess {self.pid} is still running"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    async def _communicate(
        self, input: bytes | None, drain: float | None
    ) -> tuple[bytes | None, bytes | None]:
        check_seconds(drain=drain)
        streams = self._streams
        if input is not None:
            if streams.stdin is None:
                raise ValueError("input was given, but stdin is neither PIPE nor PTY")
            if self._communicating and input:
                raise ValueError("Cannot send input after starting communication")
            check_bytes(input)
        self._communicating = True
        if streams.stdin is not None:
            if input:
                streams.stdin.write(input)
            streams.stdin.close()  # once all is written, which the loop sees to

        # The loop gathers the output while we wait: nothing is lost if we are cancelled.
        readers = streams.readers()
        with contextlib.ExitStack() as gathering:
            for reader in readers:
                gathering.enter_context(reader.gathering())
            await self.wait()
            await _read_to_end(readers, drain)
            return (
                None if streams.stdout is None else streams.stdout.take_all(),
                None if streams.stderr is None else streams.stderr.take_all(),
            )


def check_bytes(input: object) -> None:
    """Refuse input that is no bytes. Raises TypeError."""
    if not isinstance(input, (bytes, bytearray, memoryview)):
        raise TypeError(f"input must be bytes-like, not {type(input).__name__}")


async def _read_to_end(readers: list[PipeReader], drain: float | None) -> None:
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

    def __init__(self, watch: Watch, streams: Streams) -> None:
        """Internal: `create_subprocess_exec` makes processes."""
        super().__init__(watch, streams)
        self.stdin, self.stdout, self.stderr, _ = streams

    async def communicate(  # type: ignore[override]
        self, input: bytes | None = None, *, drain: float | None = DRAIN
    ) -> tuple[bytes | None, bytes | None]:
        """Send input, close stdin, read all output, wait for the exit.

        A cancelled call loses nothing: the next call (without input) returns all of the output.

        Args:
            input: bytes for stdin, which must be PIPE or PTY.
            drain: seconds to go on reading after the program has exited while something else, a
                grandchild, holds its pipes open; None: until that ends too, as asyncio does. What
                the program itself wrote is always there.

        Returns:
            (stdout, stderr), each None unless it is PIPE or PTY.

        Raises:
            ValueError: input without a pipe for it, or input for the second time.
        """
        return await self._communicate(input, drain)


class TextProcess(BaseProcess):
    """A running program whose streams are text. Otherwise a `Process`.

    Attributes:
        stdin: `TextWriter` to the program, or None unless PIPE or PTY was asked for.
        stdout: `TextReader` of what it writes, or None.
        stderr: likewise.
        pid: its process id.
    """

    def __init__(self, watch: Watch, streams: Streams, encoding: str, errors: str | None) -> None:
        """Internal: `create_subprocess_exec` makes processes."""
        super().__init__(watch, streams)
        stdin, stdout, stderr, _ = streams
        self._encoding = encoding
        self._errors = errors
        self.stdin = None if stdin is None else TextWriter(stdin, encoding, errors)
        self.stdout = None if stdout is None else TextReader(stdout, encoding, errors)
        self.stderr = None if stderr is None else TextReader(stderr, encoding, errors)

    async def communicate(
        self, input: str | None = None, *, drain: float | None = DRAIN
    ) -> tuple[str | None, str | None]:
        """As `Process.communicate`, in text."""
        if input is not None and not isinstance(input, str):
            raise TypeError(f"input must be str, not {type(input).__name__}")
        data = None if input is None else input.encode(self._encoding, self._errors or "strict")
        stdout, stderr = await self._communicate(data, drain)
        return (
            None if self.stdout is None else self.stdout.finish(stdout or b""),
            None if self.stderr is None else self.stderr.finish(stderr or b""),
        )


async def open_process(
    command: Command,
    *,
    shell: bool,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    limit: int = LIMIT,
    grace: float = 0,
    **options: Unpack[Options],
) -> tuple[Watch, Streams]:
    """Start a program on the running loop and wait until it was exec'd.

    Cancelled, it ends a program that runs by then: after SIGTERM and `grace` seconds, if any.
    """
    if limit <= 0:
        raise ValueError("Limit cannot be <= 0")
    with Descriptors() as descriptors:
        watch = await launch(
            descriptors,
            command,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            grace=grace,
            **options,
        )
        try:
            streams = _open_streams(descriptors, limit)
        except BaseException:
            watch.child.abandon()
            raise
    if streams.terminal is not None:
        watch.on_exit(streams.terminal.close)
    return watch, streams


def _open_streams(descriptors: Descriptors, limit: int) -> Streams:
    loop = asyncio.get_running_loop()
    streams = Streams(None, None, None, None)
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
        streams.close()
        raise
    return streams


async def _create(
    command: Command,
    *,
    shell: bool,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    limit: int,
    text: bool | None,
    encoding: str | None,
    errors: str | None,
    options: dict[str, Any],
) -> Process | TextProcess:
    take_fixed(options, shell=shell, bufsize=0)
    text = text or options.pop("universal_newlines", None)  # subprocess's older name for it
    name = text_encoding(text, encoding, errors)
    watch, streams = await open_process(
        command, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, limit=limit, **options
    )
    if name is None:
        return Process(watch, streams)
    return TextProcess(watch, streams, name, errors)


@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[Options],
) -> Process: ...
@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    text: Literal[True],
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[Options],
) -> TextProcess: ...
@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    encoding: str,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    text: bool | None = ...,
    errors: str | None = ...,
    **options: Unpack[Options],
) -> TextProcess: ...
@overload
async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
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
        (program, *args),
        shell=False,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        limit=limit,
        text=text,
        encoding=encoding,
        errors=errors,
        options=options,
    )


@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    text: Literal[False] | None = ...,
    encoding: None = ...,
    errors: None = ...,
    **options: Unpack[Options],
) -> Process: ...
@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    text: Literal[True],
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    **options: Unpack[Options],
) -> TextProcess: ...
@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    encoding: str,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
    text: bool | None = ...,
    errors: str | None = ...,
    **options: Unpack[Options],
) -> TextProcess: ...
@overload
async def create_subprocess_shell(
    cmd: str | bytes,
    *,
    stdin: Stdio = ...,
    stdout: Stdio = ...,
    stderr: Stdio = ...,
    limit: int = ...,
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
        cmd,
        shell=True,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        limit=limit,
        text=text,
        encoding=encoding,
        errors=errors,
        options=options,
    )
