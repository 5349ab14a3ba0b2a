"""What a call that sees a program to its end was asked for: it is checked before the start."""

import subprocess
from typing import Any, Final, NamedTuple

from .._pidfd.arguments import flag
from .._pidfd.durations import check_seconds
from .choose_sinks import OnOutput, StreamSink, read_choices
from .encoding import Text, input_bytes
from .kept_output import Outputs
from .open_terminal import PTY
from .options import Stdio
from .output_limit import OnLimit, check_limit

__all__ = ["BOTH_INPUTS", "DRAIN", "Call", "read_call", "read_input"]

DRAIN: Final = 1.0  # seconds: enough for a `tee` that ends after the program does

BOTH_INPUTS: Final = "stdin and input arguments may not both be used."


class Call(NamedTuple):
    """What a call was asked for, beside the options of its program.

    Attributes:
        input: what stdin gets before it is closed; None: nothing.
        stdio: how the three streams are opened.
        outputs: where the outputs go, and what is kept of them.
    """

    input: bytes | None
    stdio: tuple[Stdio, Stdio, Stdio]
    outputs: Outputs


def read_call(
    command: object,
    stdio: tuple[Stdio, Any, Any],
    input: Any,
    text: Text,
    stream_sink: StreamSink | None,
    *,
    capturing: bool,
    check: bool,
    on_output: OnOutput | None = None,
    output_limit: int | None = None,
    on_limit: OnLimit = "raise",
    idle_timeout: float | None = None,
    both: str = BOTH_INPUTS,
    **seconds: float | None,
) -> Call:
    """Interpret what a caller wants, for one program.

    Args:
        command: what errors of a limit name.
        stdio, input, check, on_output, output_limit, on_limit, idle_timeout: as the caller gave
            them.
        text, stream_sink, capturing: see `read_choices`.
        both: what is said if there is an input and another stdin.
        seconds: all other durations that the caller gave.

    Raises:
        TypeError, ValueError: something of it is not valid.
    """
    flag("check", check)
    check_seconds(idle_timeout=idle_timeout, **seconds)
    check_limit(output_limit, on_limit)
    data, stdin = read_input(input, stdio[0], text, (None, PTY), both)
    choices = read_choices(*stdio[1:], on_output, text, stream_sink, capturing=capturing)
    shared = on_output is not None
    outputs = Outputs(command, choices, output_limit, on_limit, shared=shared, text=text)
    outputs.check_limit()
    outputs.check_idle(idle_timeout)
    return Call(data, (stdin, choices[0].stdio, choices[1].stdio), outputs)


def read_input(
    input: Any, stdin: Stdio, text: Text, may_have: tuple[Stdio, ...], both: str
) -> tuple[bytes | None, Stdio]:
    """The input as bytes, and what stdin is then.

    Args:
        input, stdin: as the caller gave them.
        text: see `read_choices`.
        may_have: the choices for stdin that go with an input.
        both: what is said of others.
    """
    data = input_bytes(input, *text)
    if data is None:
        return None, stdin
    if stdin not in may_have:
        raise ValueError(both)
    return data, subprocess.PIPE if stdin is None else stdin
