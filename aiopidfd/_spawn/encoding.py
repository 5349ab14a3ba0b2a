"""Bytes or text: which of them a caller has asked for, and the way from one to the other."""

import codecs
import inspect
import locale
import subprocess
import sys
import warnings
from typing import Any, Final, NamedTuple

from .._pidfd.arguments import flag
from .argument_errors import named

__all__ = ["BYTES", "Text", "check_bytes", "decode_output", "input_bytes", "read_text"]


class Text(NamedTuple):
    """How text is encoded, and what is done with errors. Without an encoding it is bytes."""

    encoding: str | None
    errors: str | None


BYTES: Final = Text(None, None)


def read_text(
    text: bool | None,
    encoding: str | None,
    errors: str | None,
    universal_newlines: bool | None = None,
) -> Text:
    """What these options ask for, text or bytes. subprocess decides it likewise.

    Without `encoding` it is UTF-8 in Python's UTF-8 mode (PEP 540, PEP 686), else the locale's.

    Args:
        text, encoding, errors: the options as the caller has given them.
        universal_newlines: the older name of `text`.

    Raises:
        LookupError: there is no such text encoding, or no such error handler.
        TypeError: `text` is no bool; or a name is no string.
        subprocess.SubprocessError: `text` and its older name contradict each other.
    """
    flags = {"text": text, "universal_newlines": universal_newlines}
    given = {flag(name, choice) for name, choice in flags.items() if choice is not None}
    if len(given) > 1:
        raise subprocess.SubprocessError(
            "Cannot disambiguate when both text and universal_newlines are supplied but different. "
            "Pass one or the other."
        )
    if not (text or universal_newlines or encoding or errors):
        return BYTES
    for option, value in (("encoding", encoding), ("errors", errors)):
        if value and not isinstance(value, str):
            raise TypeError(f"{option} must be str, not {type(value).__name__}")
    name = encoding or _default_encoding()
    try:
        " ".encode(name)
    except (LookupError, ValueError) as exc:  # ValueError: it has a NUL inside
        raise named(exc, "the option encoding") from None
    try:
        codecs.lookup_error(errors or "strict")
    except (LookupError, ValueError) as exc:
        raise named(exc, "the option errors") from None
    return Text(name, errors)


def _default_encoding() -> str:
    if sys.flags.warn_default_encoding:  # as subprocess does; the warning names our caller
        depth, frame = 1, inspect.currentframe()
        package = __name__.partition(".")[0] + "."
        while frame is not None and frame.f_globals.get("__name__", "").startswith(package):
            depth, frame = depth + 1, frame.f_back
        warnings.warn("'encoding' argument not specified.", EncodingWarning, depth)
    return "utf-8" if sys.flags.utf8_mode else locale.getencoding()


def decode_output(data: bytes | None, encoding: str | None, errors: str | None) -> Any:
    """A program's whole output as text, with universal newlines, decoded as in subprocess.

    Without an encoding it stays bytes; without an output it stays None.
    """
    if data is None or encoding is None:
        return data
    return data.decode(encoding, errors or "strict").replace("\r\n", "\n").replace("\r", "\n")


def input_bytes(input: bytes | str | None, encoding: str | None, errors: str | None) -> Any:
    """The input as bytes; text is encoded first. Raises TypeError for input of the wrong type."""
    if input is None:
        return None
    if encoding is None:
        check_bytes(input)
        return input
    if not isinstance(input, str):
        raise TypeError(f"input must be str, not {type(input).__name__}")
    return input.encode(encoding, errors or "strict")


def check_bytes(input: object) -> None:
    """Raise TypeError if the input is not bytes."""
    if not isinstance(input, (bytes, bytearray, memoryview)):
        raise TypeError(f"input must be bytes-like, not {type(input).__name__}")
