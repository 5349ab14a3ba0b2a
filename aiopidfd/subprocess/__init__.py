"""The standard library's `subprocess`, with programs that nothing else in the process can see.

    from aiopidfd import subprocess

    subprocess.run(["git", "status"], check=True, timeout=10)

It is for code without a loop: plugins, worker threads, synchronous web workers. Pipes, text,
timeouts and errors are the standard library's own code. What there is more is `output_limit`, and
functions and lists for `stdout` and `stderr`. The manual's page subprocess lists the differences.
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
from typing import Any, Final, Literal, TypeAlias, Unpack, overload

from .._pidfd.arguments import flag
from .._pidfd.durations import check_seconds
from .._spawn.choose_sinks import read_choices
from .._spawn.encoding import BYTES, input_bytes, read_text
from .._spawn.failures import denied_once
from .._spawn.kept_output import NOTHING_IS_CAPTURED, Outputs
from .._spawn.options import Command
from .._spawn.output_limit import BoundedProcess, OnLimit, check_limit
from .._spawn.refused_keywords import refuse
from .._spawn.run_arguments import BOTH_INPUTS
from ._communicate import Carrier, captured, end
from ._popen import (
    KNOWN,
    CheckOptions,
    Popen,
    RunOptions,
    TextCheckOptions,
    TextOptions,
    TextSinkOptions,
)

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

_TEXT: Final = ("text", "encoding", "errors", "universal_newlines")


@overload
def run(
    args: Command,
    *popenargs: Any,
    text: Literal[False] | None = ...,
    input: Buffer | None = ...,
    **options: Unpack[RunOptions],
) -> CompletedProcess[bytes]: ...
@overload
def run(
    args: Command,
    *popenargs: Any,
    text: Literal[True],
    encoding: str | None = ...,
    errors: str | None = ...,
    universal_newlines: bool | None = ...,
    input: str | None = ...,
    **options: Unpack[RunOptions],
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *popenargs: Any,
    encoding: str,
    errors: str | None = ...,
    input: str | None = ...,
    **options: Unpack[RunOptions],
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *popenargs: Any,
    output_limit: int,
    on_limit: OnLimit = ...,
    input: Buffer | str | None = ...,
    capture_output: bool = ...,
    timeout: float | None = ...,
    check: bool = ...,
    **options: Unpack[TextSinkOptions],
) -> BoundedProcess[Any]: ...
@overload
def run(
    args: Command,
    *popenargs: Any,
    input: Buffer | str | None = ...,
    capture_output: bool = ...,
    timeout: float | None = ...,
    check: bool = ...,
    output_limit: int | None = ...,
    on_limit: OnLimit = ...,
    **options: Unpack[TextSinkOptions],
) -> CompletedProcess[Any]: ...
def run(
    args: Command,
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    output_limit: int | None = None,
    on_limit: OnLimit = "raise",
    **options: Any,
) -> CompletedProcess[Any]:
    """Run a command to its end; see `subprocess.run`.

    On timeout, on Ctrl-C and on any other exception, the program and all that it has started get
    SIGKILL and are reaped before this raises.

    Args:
        args, popenargs, options: as for `Popen`. But the keywords `stdout` and `stderr` may also be
            a function, which is called with each line, without its line end, in this thread; or a
            list of functions, of files, and of PIPE to capture the output as well:
            `[PIPE, sys.stdout]`. The program waits meanwhile. A function that raises ends it.
        input: sent to stdin, which is a pipe then.
        capture_output: make stdout and stderr pipes, and read them to their ends.
        timeout: seconds from the start on; None for no limit.
        check: raise CalledProcessError when the return code is not 0.
        output_limit: how many bytes of each output are captured; None for no limit.
        on_limit: what is done at the limit. "raise": the program is ended, and OutputLimitError is
            raised. "head", "tail": it runs on, and the first or the last bytes are kept.

    Returns:
        `subprocess.CompletedProcess`, with output where it was captured. With `output_limit` it is
        an `aiopidfd.BoundedProcess`, which tells how many bytes were not kept.

    Raises:
        subprocess.CalledProcessError: with the output.
        subprocess.TimeoutExpired: with what was read so far, always as bytes, as in subprocess.
        aiopidfd.OutputLimitError: see `on_limit`.
        Exception: what a function or a file for an output raised; the program was ended.
        ExceptionGroup: several of these errors.
        OSError, TypeError, ValueError: as `Popen`.
    """
    if not options.keys() <= KNOWN:
        refuse(run, options, KNOWN, "Popen.__init__")  # the standard module's text, and our hint
    for name, value in (("capture_output", capture_output), ("check", check)):
        if value is not None:
            flag(name, value)
    check_seconds(timeout=timeout)
    check_limit(output_limit, on_limit)
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError(BOTH_INPUTS)
        options["stdin"] = PIPE
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options["stdout"] = options["stderr"] = PIPE
    sinks = _is_sink(options.get("stdout")) or _is_sink(options.get("stderr"))
    carried = sinks or output_limit is not None
    choices = data = None
    text = BYTES
    if carried:
        text = read_text(*map(options.get, _TEXT))
        data = input_bytes(input, *text)
        if text.encoding is not None:
            options["encoding"] = text.encoding
        if sinks:
            given = options.get("stdout"), options.get("stderr")
            choices = read_choices(*given, None, text, None, capturing=True)
            options["stdout"], options["stderr"] = (choice.stdio for choice in choices)
    if output_limit is not None:
        given = options.get("stdout"), options.get("stderr"), *popenargs[3:5]
        if not (any(choice.captured for choice in choices) if choices else PIPE in given):
            raise ValueError(NOTHING_IS_CAPTURED)
    carrier: Carrier | None = None
    with Popen(args, *popenargs, **options) as process:
        try:
            if not carried:
                stdout, stderr = process.communicate(input, timeout=timeout)
            else:
                choices = choices or captured(process)
                outputs = Outputs(process.args, choices, output_limit, on_limit, text=text)
                carrier = Carrier(process, outputs, data)
                stdout, stderr = carrier.communicate(process, timeout, ends=True)
        except BaseException as exc:
            with denied_once(exc):
                end(process)
            raise
    if carrier is not None:
        return carrier.outputs.completed(process.returncode, stdout, stderr, check)
    result = CompletedProcess(process.args, process.returncode, stdout, stderr)
    if check:
        result.check_returncode()
    return result


def _is_sink(choice: object) -> bool:
    """Whether a choice for an output is one that `Popen` does not know."""
    return not (choice is None or isinstance(choice, int) or hasattr(choice, "fileno"))


def call(
    args: Command, *popenargs: Any, timeout: float | None = None, **options: Unpack[TextOptions]
) -> int:
    """Run a command to its end. Returns its return code; see `subprocess.call`, and `run`."""
    check_seconds(timeout=timeout)
    with Popen(args, *popenargs, **options) as process:
        try:
            return process.wait(timeout=timeout)
        except BaseException:
            end(process)
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
    **options: Unpack[CheckOptions],
) -> bytes: ...
@overload
def check_output(
    args: Command,
    *popenargs: Any,
    text: Literal[True],
    encoding: str | None = ...,
    errors: str | None = ...,
    universal_newlines: bool | None = ...,
    input: str | None = ...,
    **options: Unpack[CheckOptions],
) -> str: ...
@overload
def check_output(
    args: Command,
    *popenargs: Any,
    encoding: str,
    errors: str | None = ...,
    input: str | None = ...,
    **options: Unpack[CheckOptions],
) -> str: ...
@overload
def check_output(
    args: Command,
    *popenargs: Any,
    timeout: float | None = ...,
    **options: Unpack[TextCheckOptions],
) -> Any: ...
def check_output(
    args: Command, *popenargs: Any, timeout: float | None = None, **options: Any
) -> Any:
    """Run a command to its end. Returns its output; see `subprocess.check_output`, and `run`.

    `output_limit`, `on_limit` and a sink for stderr are as in `run`.

    Raises CalledProcessError when the return code is not 0.
    """
    for name in ("stdout", "check"):
        if name in options:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    if "input" in options and options["input"] is None:  # None means empty input
        options["input"] = "" if any(map(options.get, _TEXT)) else b""
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
