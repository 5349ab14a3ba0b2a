"""What a caller has chosen for a program's outputs, checked, becomes the sinks that they go to."""

import inspect
import io
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from subprocess import PIPE
from typing import Any, NamedTuple, TypeAlias

from .argument_errors import open_first
from .encoding import Text
from .file_sink import FileSink
from .line_functions import Lines
from .open_terminal import PTY
from .options import Stdio
from .sinks import Decoder, Sink, make_decoder

__all__ = ["OnOutput", "Output", "StreamSink", "read_choices"]

OnOutput: TypeAlias = Callable[[str, Any], Awaitable[object] | object]
StreamSink: TypeAlias = Callable[[object, Decoder], Sink | None]

_NAMES = ("stdout", "stderr")


class Output(NamedTuple):
    """One output of a program, as the caller has chosen it.

    Attributes:
        stdio: how it is opened.
        sinks: where the output goes, beside what is captured.
        captured: whether the output is captured, too.
    """

    stdio: Stdio
    sinks: tuple[Sink, ...] = ()
    captured: bool = False


def read_choices(
    stdout: Any,
    stderr: Any,
    on_output: OnOutput | None,
    text: Text,
    stream_sink: StreamSink | None,
    *,
    capturing: bool,
) -> tuple[Output, Output]:
    """Interpret what a caller has chosen for a program's outputs.

    Args:
        stdout, stderr: see `run_process` and `supervise`.
        on_output: a function that is called with the name of the output and each line of it.
        text: what sinks get, text or bytes.
        stream_sink: makes a sink of an object that is a stream to write to, on this kind of loop.
            None: there is no loop, so nothing can be awaited.
        capturing: whether PIPE is captured. If not, the caller reads it.

    Raises:
        TypeError, ValueError: a choice that is not valid, or choices that exclude each other.
    """
    reading = _Reading(text, stream_sink, capturing)
    outputs = reading.output("stdout", stdout), reading.output("stderr", stderr)
    if on_output is not None:
        outputs = _with_callback(outputs, on_output, text, capturing)
    out, err = outputs
    if out.stdio == err.stdio == PTY:
        if err.sinks:
            raise ValueError("stdout and stderr are one terminal: its sinks are those of stdout")
        err = err._replace(captured=False)
    return out, err


class _Reading:
    """Interprets what was chosen for the outputs of one program."""

    def __init__(self, text: Text, stream_sink: StreamSink | None, capturing: bool) -> None:
        self._text = text
        self._stream_sink = stream_sink
        self._capturing = capturing
        self._streams: list[object] = []

    def output(self, name: str, choice: Any) -> Output:
        if choice is None or isinstance(choice, int):
            return Output(choice, (), self._capturing and choice in (PIPE, PTY))
        if isinstance(choice, (list, tuple)) and not callable(choice):
            return self._list(name, choice)
        if (sink := self._sink(name, choice)) is not None:
            return Output(PIPE, (sink,))
        if hasattr(choice, "fileno"):
            return Output(choice)
        raise self._refused(name, type(choice).__name__ + open_first(choice))

    def _list(self, name: str, choices: Sequence[Any]) -> Output:
        if not choices:
            raise ValueError(f"{name} is an empty list")
        sinks: list[Sink] = []
        for choice in choices:
            if choice in (PIPE, PTY):
                continue
            sink = self._sink(name, choice)
            if sink is None and hasattr(choice, "write"):
                _check_file(name, choice)
                sink = FileSink(choice, *self._text)
            if sink is None:
                what = repr(choice) if isinstance(choice, int) else type(choice).__name__
                raise self._refused(name, f"a list with {what}{open_first(choice)}")
            sinks.append(sink)
        if PIPE in choices and not self._capturing:
            raise ValueError(
                f"a list for {name} cannot hold PIPE here: nothing is captured. PIPE alone is for "
                "a stream that you read"
            )
        captured = self._capturing and (PIPE in choices or PTY in choices)
        return Output(PTY if PTY in choices else PIPE, tuple(sinks), captured)

    def _sink(self, name: str, choice: Any) -> Sink | None:
        if inspect.isasyncgenfunction(choice):
            raise TypeError(f"{name} must be a function, not an async generator function")
        decode = make_decoder(*self._text)
        if self._stream_sink is None:
            return self._blocking_sink(name, choice, decode)
        if (sink := self._stream_sink(choice, decode)) is not None:
            if any(choice is stream for stream in self._streams):
                raise ValueError(
                    "stdout and stderr cannot share a stream: clone() it, or stderr=STDOUT"
                )
            self._streams.append(choice)
            return sink
        return Lines(choice, decode) if _is_function(choice) else None

    def _blocking_sink(self, name: str, choice: Any, decode: Decoder) -> Sink | None:
        if hasattr(choice, "drain"):
            raise TypeError(f"{name} cannot be a stream of a loop: this call blocks, and has none")
        if not _is_function(choice):
            return None
        if inspect.iscoroutinefunction(choice) or inspect.iscoroutinefunction(choice.__call__):
            raise TypeError(
                f"{name} must be a plain function, not a coroutine function: a call that blocks "
                "awaits nothing. aiopidfd.run_process() does"
            )
        return Lines(choice, decode, awaits=False)

    def _refused(self, name: str, kind: str) -> TypeError:
        streams = self._stream_sink is not None
        function = "a function that takes lines" + (", or a stream to send to" if streams else "")
        sinks = "functions, streams and files" if streams else "functions and files"
        terminal = "PTY, " if streams else ""
        return TypeError(
            f"{name} must be PIPE, {terminal}DEVNULL, a descriptor, an object with fileno(), None, "
            f"{function}; or a list of PIPE, {sinks}; not {kind}"
        )


def _is_function(choice: Any) -> bool:
    return callable(choice) and not hasattr(choice, "fileno")


def _check_file(name: str, file: Any) -> None:
    """Refuse a file that cannot be written to, before there is something to write."""
    if getattr(file, "closed", False) is True:
        raise ValueError(f"I/O operation on closed file (for the option {name})")
    writable = getattr(file, "writable", None)
    if callable(writable) and writable() is False:
        raise io.UnsupportedOperation(f"not writable (for the option {name})")


def _with_callback(
    outputs: tuple[Output, Output],
    function: OnOutput,
    text: Text,
    capturing: bool,
) -> tuple[Output, Output]:
    """Tell a function, too, of the outputs that come to us or that would be inherited."""
    if inspect.isasyncgenfunction(function) or not callable(function):
        raise TypeError("on_output must be a function that takes a name and a line")
    told: list[Output] = []
    told_of: Stdio = None
    for name, output in zip(_NAMES, outputs, strict=True):
        if output.stdio in (PIPE, PTY) and not output.sinks and not capturing:
            raise ValueError(f"on_output cannot go with {name}=PIPE, which you read yourself")
        if output.stdio not in (None, PIPE, PTY) or output.stdio == PTY == told_of:
            told.append(output)  # it does not come to us, or comes through stdout
            continue
        sink = Lines(partial(function, name), make_decoder(*text))
        stdio = PIPE if output.stdio is None else output.stdio
        told.append(output._replace(stdio=stdio, sinks=(*output.sinks, sink)))
        told_of = stdio
    if told == [*outputs]:
        raise ValueError("on_output needs an output that is not sent elsewhere")
    return told[0], told[1]
