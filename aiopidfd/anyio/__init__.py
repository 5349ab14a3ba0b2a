"""Invisible programs for anyio, on asyncio, uvloop and trio. Needs anyio.

    from aiopidfd.anyio import open_process, run_process, supervise

`open_process` and `run_process` are anyio's; `supervise` runs a program as a member of a task
group. `install` gives code that calls anyio's own functions invisible programs without a change.
"""

from .install import install, uninstall
from .process import Process, open_process
from .run import run_process
from .streams import ReceivePipe, SendPipe
from .supervise import supervise

__all__ = [
    "Process",
    "ReceivePipe",
    "SendPipe",
    "install",
    "open_process",
    "run_process",
    "supervise",
    "uninstall",
]
