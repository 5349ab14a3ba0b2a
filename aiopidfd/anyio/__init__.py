"""Invisible programs for anyio, on asyncio, uvloop and trio. Needs anyio.

    from aiopidfd.anyio import open_process, run_process, supervise

`open_process` and `run_process` are like anyio's; `supervise` runs a program as a member of a task
group. After `install`, code that calls anyio's own functions gets invisible programs unchanged.
"""

from importlib.util import find_spec

if find_spec("anyio") is None:
    raise ModuleNotFoundError(
        "aiopidfd.anyio needs anyio: pip install 'aiopidfd[anyio]'", name="anyio"
    )

from ._install import install, uninstall
from ._pipeline import run_pipeline
from ._process import Process, open_process
from ._run import run_process
from ._streams import ReceivePipe, SendPipe
from ._supervise import supervise

__all__ = [
    "Process",
    "ReceivePipe",
    "SendPipe",
    "install",
    "open_process",
    "run_pipeline",
    "run_process",
    "supervise",
    "uninstall",
]
