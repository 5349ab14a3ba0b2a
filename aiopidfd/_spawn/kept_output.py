"""What is kept of a program's two outputs, and what is raised with it."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from subprocess import CompletedProcess, TimeoutExpired
from typing import Any, Final

from .choose_sinks import Output
from .encoding import BYTES, Text, decode_output
from .failures import errors_in
from .idle_timeout import IdleTimeoutError, Silence
from .output_limit import BoundedProcess, Capture, OnLimit, OutputLimitError, note_dropped
from .sinks import Feed, Sink, Tee

__all__ = ["NOTHING_IS_CAPTURED", "Outputs"]

NOTHING_IS_CAPTURED: Final = "output_limit needs an output that is captured: PIPE"
_NAMES = ("stdout", "stderr")


class _Kept(Sink):
    """Keeps the output. What exceeds the limit is dropped, or is an error."""

    def __init__(self, capture: Capture, error: OutputLimitError | None) -> None:
        """Feed `capture`. Raise `error`, if given, when `capture` first drops something."""
        self._capture = capture
        self._error = error

    async def feed(self, data: bytes) -> None:
        """Keep as much as the limit allows."""
        self._capture.feed(data)
        if self._capture.dropped and self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback holds this frame


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
                sinks.insert(0, _Kept(capture, error))
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
