"""`Popen`: the standard class, but for who starts the program and who tells of its end."""

import contextlib
import subprocess
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, AnyStr, Final, Literal, Unpack, overload

from .. import _native
from .._pidfd.durations import check_seconds
from .._spawn.handle import BlockingTreeHandle
from .._spawn.options import Command, Env, Options, Stdio, StrOrBytesPath, make_request
from .._spawn.program import Program
from .._spawn.start import start_blocking
from .._spawn.stdio import Descriptors
from .._spawn.terminal import PTY

__all__ = ["EncodedOptions", "Popen", "PopenOptions", "TextOptions"]


def _standard_popen() -> Any:
    """The standard class, where gevent or eventlet has put one of its own in its place, too."""
    for cls in getattr(subprocess.Popen, "__mro__", ()):
        if cls.__module__ == "subprocess":
            return cls  # eventlet's is a subclass
    if (gevent := sys.modules.get("gevent.monkey")) is not None:
        return gevent.get_original("subprocess", "Popen")
    raise ImportError(f"subprocess.Popen has been replaced: {subprocess.Popen!r}")


if TYPE_CHECKING:
    from subprocess import Popen as _StandardPopen
else:
    _StandardPopen = _standard_popen()

_LONGEST: Final = 2_000_000  # seconds

# Of `Options`, what the standard class takes itself and hands to `_execute_child`; and what it
# hands over where nothing was asked for.
_STANDARD: Final[dict[str, object]] = {
    "executable": None,
    "close_fds": True,
    "pass_fds": (),
    "cwd": None,
    "env": None,
    "restore_signals": True,
    "group": None,
    "extra_groups": None,
    "user": None,
    "umask": -1,
    "start_new_session": False,
    "process_group": -1,
}
_DEFAULTS: Final = tuple(_STANDARD.values())
_OURS: Final = Options.__annotations__.keys() - _STANDARD.keys() - {"pipesize"}


class PopenOptions(Options, total=False):
    """What `Popen` takes beside the command and the text's keywords. A type only."""

    bufsize: int
    stdin: Stdio
    stdout: Stdio
    stderr: Stdio
    shell: bool
    preexec_fn: None
    startupinfo: None
    creationflags: Literal[0]


class EncodedOptions(PopenOptions, total=False):
    """The same, and the text's keywords but `text` itself."""

    encoding: str | None
    errors: str | None
    universal_newlines: bool | None


class TextOptions(EncodedOptions, total=False):
    """The same, and all of the text's keywords."""

    text: bool | None


class Popen(_StandardPopen[AnyStr], BlockingTreeHandle):
    """A program that was started invisibly; see `subprocess.Popen`, which it is a subclass of.

    All methods may be called from any thread. Waiting holds no GIL and starts no thread.

    Attributes:
        pidfd: the program's pidfd (pidfd_open(2)) while it runs, else -1. Do not close it.
        rusage: a `resource.struct_rusage` of this program alone, once it has exited.
    """

    _program: Program
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
        """Start a program, blocking until it was exec'd.

        Args:
            args: the program and its arguments, or one string: a program's name or path, or with
                `shell` a command for `/bin/sh -c`.
            popenargs: as for `subprocess.Popen`.
            options: the keywords of `subprocess.Popen`, and those of `aiopidfd.Options`.

        Raises:
            OSError: with `filename`, as subprocess; or a call is missing here (see
                `aiopidfd.kernel`).
            TypeError, ValueError: bad arguments, before anything is started. Also `preexec_fn`: no
                Python can run safely between clone and exec; and PTY.
        """
        self._ours = {name: options.pop(name) for name in _OURS & options.keys()}
        super().__init__(args, *popenargs, **options)

    def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> Any:
        if PTY in (stdin, stdout, stderr):
            raise ValueError("Popen makes no terminals: use create_subprocess_exec()")
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
        """What the standard class calls once it has made the pipes; their ends are -1 for none."""
        options = self._ours
        given = (
            *(executable, close_fds, pass_fds, cwd, env, restore_signals),
            *(gid, gids, uid, umask, start_new_session, process_group),
        )
        if given != _DEFAULTS:
            options = {**dict(zip(_STANDARD, given, strict=True)), **options}
        if preexec_fn is not None:
            options = {"preexec_fn": preexec_fn, **options}  # refused, with a hint
        pipes = ((p2cread, p2cwrite), (c2pwrite, c2pread), (errwrite, errread))
        own = [theirs for theirs, ours in pipes if ours != -1]
        with Descriptors() as descriptors:
            if hasattr(self, "_devnull"):
                own.append(self._devnull)
            self._closed_child_pipe_fds = True  # they are not the standard class's any more
            numbers: dict[int, int | None] = {-1: None, **descriptors.take(own)}
            stdin, stdout, stderr = [numbers.get(fd, fd) for fd in (p2cread, c2pwrite, errwrite)]
            request = make_request(Popen, args, shell, (stdin, stdout, stderr), options)
            self._program = start_blocking(request, descriptors)
        self.pid = self._program.pid
        self._child_created = True

    def communicate(
        self, input: AnyStr | None = None, timeout: float | None = None
    ) -> tuple[Any, Any]:
        """Send input, read all output, wait for the exit. See `subprocess.Popen.communicate`.

        A timeout of more than 23 days is none: poll(2) takes an int of milliseconds.
        """
        check_seconds(timeout=timeout)
        limit = None if timeout is None or timeout > _LONGEST else timeout
        try:
            communicate: Any = super().communicate
            return communicate(input, limit)  # type: ignore[no-any-return]
        except subprocess.TimeoutExpired as exc:
            exc.timeout = timeout or 0  # before Python 3.15 it is what was left
            raise

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            check_seconds(timeout=timeout)
            try:
                self.returncode = self._program.wait(timeout)
            except subprocess.TimeoutExpired:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return self.returncode

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        """Look whether it has exited. With `_deadstate` it raises nothing: for `__del__`."""
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
        """Send a signal by pidfd: never to another process that got the same pid.

        Nothing happens if it has exited.

        Raises:
            PermissionError: it runs with ids that we may not signal (kill(2)).
            ChildProcessError: this process is a forked copy of the program's parent.
        """
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._program.send_signal(sig)
