"""The option `restore_signals`: what CPython ignores, a program does not."""

from signal import SIGPIPE, SIGXFSZ
from typing import Final

from .. import _native
from .options import Steps

__all__ = ["RESTORE_SIGNALS"]

_DEFAULT_ACTION: Final = bytes(
    64
)  # struct sigaction, all zero: SIG_DFL; no kernel has a larger one
_SIGSET_BYTES: Final = 8

RESTORE_SIGNALS: Final[Steps] = [
    (
        "restore_signals",
        (_native.SYS_rt_sigaction, int(number), _DEFAULT_ACTION, 0, _SIGSET_BYTES),
    )
    for number in (SIGPIPE, SIGXFSZ)
]
