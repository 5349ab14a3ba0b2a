"""`Popen`: the standard class, except for how the program is started and its end is learned."""

import contextlib
import errno
import inspect
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, AnyStr, Final, Literal, Unpack, overload

from .. import _native
from .._pidfd.durations import check_seconds
from .._pidfd.not_copyable import Owner
from .._spawn.encoding import Text, input_bytes
from .._spawn.handle import BlockingHandle
from .._spawn.kept_output import NOTHING_IS_CAPTURED, Outputs
from .._spawn.open_terminal import PTY
from .._spawn.options import (
    Command,
    Env,
    Options,
    OutputChoice,
    Stdio,
    StrOrBytesPath,
    make_request,
)
from .._spawn.output_limit import OnLimit, check_limit
from .._spawn.program import Program
from .._spawn.refused_keywords import refuse
from .._spawn.start import start_blocking
from .._spawn.stdio_and_pass_fds import Descriptors, descriptor_of
from ._communicate import Carrier, captured

__all__ = [
    "CheckOptions",
    "EncodedOptions",
    "Popen",
    "PopenOptions",
    "RunOptions",
    "TextCheckOptions",
    "TextOptions",
    "TextSinkOptions",
]


def _standard_popen() -> Any:
    """The standard class, even where gevent or eventlet has put its own class in its place."""
    for cls in getattr(subprocess.Popen, "__mro__", ()):
        if cls.__module__ == "subprocess":
            return cls  # eventlet's class is a subclass of it
    if (gevent := sys.modules.get("gevent.monkey")) is not None:
        return gevent.get_original("subprocess", "Popen")
    raise ImportError(f"subprocess.Popen has been replaced: {subprocess.Popen!r}")


if TYPE_CHECKING:
    from subprocess import Popen as _StandardPopen
else:
    _StandardPopen = _standard_popen()

_LONGEST: Final = 2_000_000  # seconds

# The keywords of `Options` that the standard class takes itself and passes to `_execute_child`,
# each with the value that it passes if the caller gave none. It never sees the three for ids: its
# errors do not say which of them is meant.
_STANDARD: Final[dict[str, object]] = {
    "executable": None,
    "close_fds": True,
    "pass_fds": (),
    "cwd": None,
    "env": None,
    "restore_signals": True,
    "umask": -1,
    "start_new_session": False,
    "process_group": -1,
}
_DEFAULTS: Final = tuple(_STANDARD.values())
_OURS: Final = Options.__annotations__.keys() - _STANDARD.keys() - {"pipesize"}
KNOWN: Final = frozenset(inspect.signature(_StandardPopen.__init__).parameters) | _OURS


class CommonOptions(Options, total=False):
    """What each function here takes beside its outputs and the text's keywords. A type only."""

    bufsize: int
    stdin: Stdio
    shell: bool
    preexec_fn: None
    startupinfo: None
    creationflags: Literal[0]


class PopenOptions(CommonOptions, total=False):
    """What `Popen` takes beside the command and the text's keywords. A type only."""

    stdout: Stdio
    stderr: Stdio


class EncodedOptions(PopenOptions, total=False):
    """`PopenOptions`, and the text's keywords except `text` itself."""

    encoding: str | None
    errors: str | None
    universal_newlines: bool | None


class TextOptions(EncodedOptions, total=False):
    """`PopenOptions`, and all of the text's keywords."""

    text: bool | None


class SinkOptions(CommonOptions, total=False):
    """`CommonOptions`, and outputs that may go to a sink. A type only."""

    stdout: OutputChoice
    stderr: OutputChoice


class RunOptions(SinkOptions, total=False):
    """What `run` takes beside its input, its limit and the text's keywords. A type only."""

    capture_output: bool
    timeout: float | None
    check: bool


class CheckOptions(CommonOptions, total=False):
    """What `check_output` takes beside its input and the text's keywords. A type only."""

    stderr: OutputChoice
    timeout: float | None
    output_limit: int | None
    on_limit: OnLimit


class TextSinkOptions(SinkOptions, total=False):
    """`SinkOptions`, and the text's keywords. A type only."""

    text: bool | None
    encoding: str | None
    errors: str | None
    universal_newlines: bool | None


class TextCheckOptions(CommonOptions, total=False):
    """What `check_output` hands to `run`, as it is. A type only."""

    stderr: OutputChoice
    input: bytes | bytearray | memoryview | str | None
    output_limit: int | None
    on_limit: OnLimit
    text: bool | None
    encoding: str | None
    errors: str | None
    universal_newlines: bool | None


class Popen(_StandardPopen[AnyStr], Owner, BlockingHandle):
    """A program that was started invisibly. This is a subclass of `subprocess.Popen`; see there.

    All methods may be called from any thread. Waiting releases the GIL and starts no thread.

    Attributes:
        pidfd: the program's pidfd (pidfd_open(2)) while it runs, else -1. You must not close it.
        rusage: a `resource.struct_rusage` of this program alone, once it has exited.
    """

    _program: Program
    _carrier: Carrier | None = None  # kept when a call of communicate() with a limit times out
    _limits: tuple[int | None, OnLimit] = (None, "raise")
    _communication_started: bool
    pid: int
    returncode: int | Any

    @overload
    def __init__(
        self: "Popen[bytes]",
        args: Command,
        *popenargs: Any,
        text: Literal[False] | None = ...,
        **options: Unpack[PopenOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Popen[str]",
        args: Command,
        *popenargs: Any,
        text: Literal[True],
        **options: Unpack[EncodedOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Popen[str]",
        args: Command,
        *popenargs: Any,
        encoding: str,
        errors: str | None = ...,
        **options: Unpack[PopenOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Popen[Any]",
        args: Command,
        *popenargs: Any,
        **options: Unpack[TextOptions],
    ) -> None: ...
    def __init__(self, args: Command, *popenargs: Any, **options: Any) -> None:
        """Start a program, and block until its exec.

        Args:
            args: the program and its arguments; or one string, which is a program's name or path,
                or, with `shell`, a command for `/bin/sh -c`.
            popenargs: as for `subprocess.Popen`.
            options: the keywords of `subprocess.Popen`, and those of `aiopidfd.Options`.

        Raises:
            OSError: with `filename`, as in subprocess; or the kernel lacks a call (see
                `aiopidfd.kernel`).
            TypeError, ValueError: bad arguments; raised before anything is started. This includes
                PTY, and `preexec_fn`: no Python code can run safely between clone and exec.
        """
        if not options.keys() <= KNOWN:
            refuse(Popen, options, KNOWN, "Popen.__init__")
        self._ours = {name: options.pop(name) for name in _OURS & options.keys()}
        super().__init__(args, *popenargs, **options)

    def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> Any:
        if PTY in (stdin, stdout, stderr):
            raise ValueError("Popen makes no terminals: use create_subprocess_exec()")
        for name, choice in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if choice not in (None, subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT):
                descriptor_of(name, choice)  # it refuses what has none, and says more
        return super()._get_handles(stdin, stdout, stderr)  # type: ignore[misc]

    def _execute_child(
        self,
        args: Command,
        executable: StrOrBytesPath | None,
        preexec_fn: Any,
        close_fds: bool,
        pass_fds: Iterable[int],
        cwd: StrOrBytesPath | None,
        env: Env | None,
        startupinfo: None,
        creationflags: int,
        shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: bool,
        gid: int | None,
        gids: list[int] | None,
        uid: int | None,
        umask: int,
        start_new_session: bool,
        process_group: int,
    ) -> None:
        """Start the program. The standard class calls this, with -1 for each absent pipe."""
        options = self._ours
        given = (
            *(executable, close_fds, pass_fds, cwd, env, restore_signals),
            *(umask, start_new_session, process_group),
        )
        if given != _DEFAULTS:
            options = {**dict(zip(_STANDARD, given, strict=True)), **options}
        if preexec_fn is not None:
            options = {"preexec_fn": preexec_fn, **options}  # it is refused, with a hint
        if p2cwrite != -1 and errwrite in (p2cread, p2cwrite):  # STDOUT, but 1 was closed until now
            raise OSError(errno.EBADF, f"{os.strerror(errno.EBADF)} (for the option stderr)")
        pipes = ((p2cread, p2cwrite), (c2pwrite, c2pread), (errwrite, errread))
        own = [theirs for theirs, ours in pipes if ours != -1]
        descriptors = Descriptors()
        try:
            if hasattr(self, "_devnull"):
                own.append(self._devnull)
            self._closed_child_pipe_fds = True  # from now on the standard class does not own them
            numbers: dict[int, int | None] = {-1: None, **descriptors.take(own)}
            stdin, stdout, stderr = [numbers.get(fd, fd) for fd in (p2cread, c2pwrite, errwrite)]
            request = make_request(Popen, args, shell, (stdin, stdout, stderr), options)
            self._program = start_blocking(request, descriptors)
            self.pid = self._program.pid
            descriptors.close()
            self._child_created = True
        except BaseException:
            descriptors.abort()
            raise

    def communicate(
        self,
        input: AnyStr | None = None,
        timeout: float | None = None,
        *,
        output_limit: int | None = None,
        on_limit: OnLimit = "raise",
    ) -> tuple[Any, Any]:
        """Send input, read all output, wait for the exit. See `subprocess.Popen.communicate`.

        A timeout of more than 23 days is no timeout: poll(2) takes milliseconds as an int.

        Args:
            input, timeout: as in subprocess.
            output_limit, on_limit: as in `run`; `dropped` tells what was not kept. A call that
                follows one that has timed out goes on with the same limit, and may not give
                another. What a file object has read ahead before is not captured, as in subprocess
                where there are two pipes.

        Raises:
            subprocess.TimeoutExpired: as in subprocess; the program runs on.
            ValueError: a limit, and no output is captured.
            OutputLimitError: the program wrote more than `output_limit`. It, and all that it has
                started, was killed.
        """
        check_seconds(timeout=timeout)
        check_limit(output_limit, on_limit)
        if output_limit is not None and self.stdout is None and self.stderr is None:
            raise ValueError(NOTHING_IS_CAPTURED)
        if output_limit is not None or self._carrier is not None:
            return self._communicate_bounded(input, timeout, output_limit, on_limit)
        limit = None if timeout is None or timeout > _LONGEST else timeout
        try:
            communicate: Any = super().communicate
            return communicate(input, limit)  # type: ignore[no-any-return]
        except subprocess.TimeoutExpired as exc:
            exc.timeout = timeout or 0  # before Python 3.15 it is the time that was left
            raise

    def _communicate_bounded(
        self, input: Any, timeout: float | None, limit: int | None, on_limit: OnLimit
    ) -> tuple[Any, Any]:
        if self._communication_started and input:
            raise ValueError("Cannot send input after starting communication")
        if self._carrier is None:
            if self._communication_started:
                raise ValueError("communicate() was called before without a limit")
            file: Any = self.stdout or self.stderr or self.stdin
            text = Text(getattr(file, "encoding", None), getattr(file, "errors", None))
            outputs = Outputs(self.args, captured(self), limit, on_limit, text=text)
            data = input_bytes(input, *text)
            self._carrier = Carrier(self, outputs, data)
            self._limits = limit, on_limit
            self._communication_started = True
        elif (limit, on_limit) not in (self._limits, (None, "raise")):
            raise ValueError("communicate() was called before with another limit")
        return self._carrier.communicate(self, timeout, ends=False)

    @property
    def dropped(self) -> tuple[int, int]:
        """How many bytes of (stdout, stderr) `communicate` did not keep because of its limit."""
        return (0, 0) if self._carrier is None else self._carrier.outputs.dropped()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit. See `subprocess.Popen.wait`.

        Raises:
            subprocess.TimeoutExpired: the program still runs.
            ChildProcessError: this process is a forked copy of the one that started the program.
            TypeError, ValueError: not a number of seconds.
        """
        if timeout is None and self.returncode is not None:  # communicate() and `with` ask, too
            return self.returncode
        check_seconds(timeout=timeout)
        return super().wait(timeout)

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            try:
                self.returncode = self._program.wait(timeout)
            except subprocess.TimeoutExpired:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return self.returncode

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        """Look whether it has exited. With `_deadstate`, for `__del__`, it raises nothing."""
        if self.returncode is None:
            program = self._program
            if program.advance() == _native.FOREIGN:
                if _deadstate is None:
                    raise program.failure()
                self.returncode = _deadstate
            elif program.returncode is not None:
                program.close()
                self.returncode = program.returncode
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal by pidfd, so never to another process that got the same pid.

        Nothing happens if the program has exited.

        Raises:
            PermissionError: the program runs with ids that we may not signal (kill(2)).
            ChildProcessError: this process is a forked copy of the one that started the program.
        """
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._program.send_signal(sig)
