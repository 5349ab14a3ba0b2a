"""The standard library's `subprocess`, with programs that nothing else in the process can see.

    from aiopidfd import subprocess

    subprocess.run(["git", "status"], check=True, timeout=10)

It is for code without a loop: plugins, worker threads, synchronous web workers. Pipes, text,
timeouts and errors are the standard library's own code. docs/subprocess.md lists the differences.
"""

from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
)
from subprocess import list2cmdline as list2cmdline  # the standard module's __all__ lacks it, too
from typing import Any, Literal, TypeAlias, Unpack, overload

from .._pidfd.durations import check_seconds
from .._spawn.options import Command
from .._spawn.shutdown import warn_of_the_rest
from ._popen import EncodedOptions, Popen, PopenOptions, TextOptions

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Popen",
    "SubprocessError",
    "TimeoutExpired",
    "call",
    "check_call",
    "check_output",
    "getoutput",
    "getstatusoutput",
    "run",
]

Buffer: TypeAlias = bytes | bytearray | memoryview


@overload
def run(
    args: Command,
    *popenargs: Any,
    text: Literal[False] | None = ...,
    input: Buffer | None = ...,
    capture_output: bool = ...,
    timeout: float | None = ...,
    check: bool = ...,
    **options: Unpack[PopenOptions],
) -> CompletedProcess[bytes]: ...
@overload
def run(
    args: Command,
    *popenargs: Any,
    text: Literal[True],
    input: str | None = ...,
    capture_output: bool = ...,
    timeout: float | None = ...,
    check: bool = ...,
    **options: Unpack[EncodedOptions],
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *popenargs: Any,
    encoding: str,
    errors: str | None = ...,
    input: str | None = ...,
    capture_output: bool = ...,
    timeout: float | None = ...,
    check: bool = ...,
    **options: Unpack[PopenOptions],
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *popenargs: Any,
    input: Buffer | str | None = ...,
    capture_output: bool = ...,
    timeout: float | None = ...,
    check: bool = ...,
    **options: Unpack[TextOptions],
) -> CompletedProcess[Any]: ...
def run(
    args: Command,
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> CompletedProcess[Any]:
    """Run a command to its end; see `subprocess.run`.

    On timeout, on Ctrl-C and on any other exception, the program and all that it has started get
    SIGKILL and are reaped before this raises.

    Args:
        args, popenargs, options: as for `Popen`.
        input: sent to stdin, which is a pipe then.
        capture_output: make stdout and stderr pipes, and read them to their ends.
        timeout: seconds from the start on; None for no limit.
        check: raise CalledProcessError when the return code is not 0.

    Returns:
        `subprocess.CompletedProcess`, with output where it was captured.

    Raises:
        subprocess.CalledProcessError: with the output.
        subprocess.TimeoutExpired: with what was read so far, always as bytes, as in subprocess.
        OSError, TypeError, ValueError: as `Popen`.
    """
    check_seconds(timeout=timeout)
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        options["stdin"] = PIPE
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options["stdout"] = options["stderr"] = PIPE
    with Popen(args, *popenargs, **options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except BaseException:
            _end(process)
            raise
    result = CompletedProcess(process.args, process.returncode, stdout, stderr)
    if check:
        result.check_returncode()
    return result


def call(
    args: Command, *popenargs: Any, timeout: float | None = None, **options: Unpack[TextOptions]
) -> int:
    """Run a command to its end. Returns its return code; see `subprocess.call`, and `run`."""
    check_seconds(timeout=timeout)
    with Popen(args, *popenargs, **options) as process:
        try:
            return process.wait(timeout=timeout)
        except BaseException:
            _end(process)
            raise


def check_call(
    args: Command, *popenargs: Any, timeout: float | None = None, **options: Unpack[TextOptions]
) -> int:
    """As `call`, but raises CalledProcessError when the return code is not 0. Returns 0."""
    returncode = call(args, *popenargs, timeout=timeout, **options)
    if returncode:
        raise CalledProcessError(returncode, args)
    return 0


@overload
def check_output(
    args: Command,
    *popenargs: Any,
    text: Literal[False] | None = ...,
    input: Buffer | None = ...,
    timeout: float | None = ...,
    **options: Unpack[PopenOptions],
) -> bytes: ...
@overload
def check_output(
    args: Command,
    *popenargs: Any,
    text: Literal[True],
    input: str | None = ...,
    timeout: float | None = ...,
    **options: Unpack[EncodedOptions],
) -> str: ...
@overload
def check_output(
    args: Command,
    *popenargs: Any,
    encoding: str,
    errors: str | None = ...,
    input: str | None = ...,
    timeout: float | None = ...,
    **options: Unpack[PopenOptions],
) -> str: ...
@overload
def check_output(
    args: Command,
    *popenargs: Any,
    input: Buffer | str | None = ...,
    timeout: float | None = ...,
    **options: Unpack[TextOptions],
) -> Any: ...
def check_output(
    args: Command, *popenargs: Any, timeout: float | None = None, **options: Any
) -> Any:
    """Run a command to its end. Returns its output; see `subprocess.check_output`, and `run`.

    Raises CalledProcessError when the return code is not 0.
    """
    for name in ("stdout", "check"):
        if name in options:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    if "input" in options and options["input"] is None:  # None means empty input
        text = ("text", "encoding", "errors", "universal_newlines")
        options["input"] = "" if any(map(options.get, text)) else b""
    return run(args, *popenargs, stdout=PIPE, timeout=timeout, check=True, **options).stdout


def getstatusoutput(
    cmd: str | bytes, *, encoding: str | None = None, errors: str | None = None
) -> tuple[int, str]:
    """(return code, output) of a command in a shell; see `subprocess.getstatusoutput`.

    The output is stdout and stderr as one text, without the newline at its end.
    """
    result = run(
        cmd, shell=True, text=True, stdout=PIPE, stderr=STDOUT, encoding=encoding, errors=errors
    )
    return result.returncode, result.stdout.removesuffix("\n")


def getoutput(cmd: str | bytes, *, encoding: str | None = None, errors: str | None = None) -> str:
    """The output of a command in a shell, whatever its return code; see `getstatusoutput`."""
    return getstatusoutput(cmd, encoding=encoding, errors=errors)[1]


def _end(process: Popen[Any]) -> None:
    """SIGKILL a program's whole tree. It is gone when this returns, except what cannot die yet.

    Raises:
        PermissionError: we may not signal what is left of the tree.
    """
    try:
        process.kill_tree()
    except PermissionError:
        raise
    except OSError as exc:
        warn_of_the_rest(process.pid, exc)
    process.poll()
