"""A program's two outputs: what the caller has chosen for them, and what is kept of them."""

import contextlib
import inspect
import io
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from subprocess import PIPE, CompletedProcess, TimeoutExpired
from typing import Any, Final, NamedTuple, TypeAlias

from .argument_errors import open_first
from .encoding import BYTES, Text, decode_output
from .failures import errors_in
from .idle_timeout import IdleTimeoutError, Silence
from .open_terminal import PTY
from .options import Stdio
from .output_limit import BoundedProcess, Capture, OnLimit, OutputLimitError, note_dropped
from .sinks import Decoder, Feed, FileSink, Kept, Lines, Sink, Tee, make_decoder

__all__ = ["NOTHING_IS_CAPTURED", "OnOutput", "Output", "Outputs", "StreamSink", "read_choices"]

OnOutput: TypeAlias = Callable[[str, Any], Awaitable[object] | object]

NOTHING_IS_CAPTURED: Final = "output_limit needs an output that is captured: PIPE"
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


class Outputs:
    """The two outputs of one program, and what is kept of them.

    Attributes:
        sinks: the sink of stdout and the sink of stderr. None for an output that does not come to
            us, or that the caller reads.
        captures: what is kept of each, or None.
        shared: whether one function is called for both outputs, in the order of arrival.
        plain: whether the outputs are just captured whole, if they come to us.
    """

    def __init__(
        self,
        command: object,
        choices: tuple[Output, Output],
        limit: int | None = None,
        on_limit: OnLimit = "raise",
        *,
        shared: bool = False,
        text: Text = BYTES,
    ) -> None:
        """For a program that runs `command`: keep `limit` bytes of each output that is captured."""
        self.shared = shared
        self.plain = limit is None and not any(choice.sinks for choice in choices)
        self._command: Any = command
        self._limit = limit
        self._raises_at = limit if on_limit == "raise" else None
        self._text = text
        self._errors: list[BaseException] = []
        self.captures: list[Capture | None] = []
        self.sinks: list[Sink | None] = []
        for name, choice in zip(_NAMES, choices, strict=True):
            sinks = [*choice.sinks]
            capture = None
            if choice.captured:
                capture = Capture(limit, tail=on_limit == "tail")
                error = None
                if self._raises_at is not None:
                    error = OutputLimitError(command, name, self._raises_at)
                    self._errors.append(error)
                sinks.insert(0, Kept(capture, error))
            self.captures.append(capture)
            self.sinks.append(Tee(sinks) if sinks else None)

    def check_limit(self) -> None:
        """Refuse a limit if nothing is captured. Raises ValueError."""
        if self._limit is not None and not any(self.captures):
            raise ValueError(NOTHING_IS_CAPTURED)

    def check_idle(self, seconds: float | None) -> None:
        """Refuse an idle timeout if no output comes to us. Raises ValueError."""
        if seconds is not None and not any(self.sinks):
            raise ValueError("idle_timeout needs an output that comes to us: PIPE, PTY or a sink")

    def feeds(
        self, lock: Callable[[], AbstractAsyncContextManager[object]], silence: Silence | None
    ) -> list[Feed | None]:
        """What passes each output on; None for one without a sink. `lock` makes the loop's lock."""
        turn = lock() if self.shared else contextlib.nullcontext()
        return [None if sink is None else Feed(sink, turn, silence) for sink in self.sinks]

    def values(self, encoding: str | None = None) -> tuple[bytes | None, bytes | None]:
        """What was captured. With an encoding, without the pieces of characters that were cut."""
        out, err = [
            None if capture is None else capture.value(encoding) for capture in self.captures
        ]
        return out, err

    def result(self) -> tuple[Any, Any]:
        """What was captured, as text if that was asked for."""
        encoding, errors = self._text
        out, err = [decode_output(each, encoding, errors) for each in self.values(encoding)]
        return out, err

    def completed(
        self, returncode: int, stdout: Any, stderr: Any, check: bool
    ) -> CompletedProcess[Any]:
        """The result of a run: with a limit a BoundedProcess, which tells what was not kept.

        Raises:
            CalledProcessError: it was asked for with `check`, and the return code is not 0.
        """
        said = self._command, returncode, stdout, stderr
        result: CompletedProcess[Any]
        if self._limit is None:
            result = CompletedProcess(*said)
        else:
            result = BoundedProcess(*said, *self.dropped())
        if check:
            result.check_returncode()
        return result

    def dropped(self) -> tuple[int, int]:
        """How many bytes of each output were not kept."""
        out, err = [
            0 if capture is None else capture.dropped + capture.cut for capture in self.captures
        ]
        return out, err

    def check_dropped(self) -> None:
        """Raise OutputLimitError if a call before has raised it, or was cancelled meanwhile."""
        for name, capture in zip(_NAMES, self.captures, strict=True):
            if self._raises_at is not None and capture is not None and capture.dropped:
                raise OutputLimitError(self._command, name, self._raises_at, *self.values())

    def expired(self, timeout: float | None) -> TimeoutExpired:
        """The error for a timeout, with what was captured."""
        out, err = self.values()
        error = TimeoutExpired(self._command, timeout or 0, out or None, err or None)
        note_dropped(error, *self.dropped())
        return error

    def tell(self, exc: BaseException) -> None:
        """Store what was captured in our error of a limit or an idle timeout."""
        for error in errors_in(exc):
            if isinstance(error, OutputLimitError) and error not in self._errors:
                continue  # it is another program's error
            if isinstance(error, (IdleTimeoutError, OutputLimitError)):
                error.stdout, error.stderr = self.values()
            if isinstance(error, IdleTimeoutError):
                note_dropped(error, *self.dropped())
        self._errors.clear()  # a raised error leads to this object: it would be a reference cycle

    async def abort(self) -> None:
        """Tell the sinks that nobody carries the outputs any more. Waits for nothing."""
        await Tee(sink for sink in self.sinks if sink is not None).abort()


StreamSink: TypeAlias = Callable[[object, Decoder], Sink | None]


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
