"""`Plan`: what the native spawner takes, and what an error of it is about."""

from collections.abc import Sequence
from dataclasses import dataclass

from .cgroup_checks import Cgroup
from .options import Env, Step, StrOrBytesPath

__all__ = ["Plan"]


@dataclass(slots=True)
class Plan:
    """What a request has become; `start_error` says what an error of it means."""

    executable: StrOrBytesPath  # as the caller wrote it, for errors
    args: Sequence[StrOrBytesPath]
    paths: tuple[bytes, ...]
    argv: tuple[bytes, ...]
    env: Env | None
    cwd: StrOrBytesPath | None
    steps: Sequence[tuple[str, Step]]  # each with the option that asked for it
    private_memory: bool
    private_table: bool
    highest: int  # the highest number of ours that a step uses and no step has put there
    contain: bool
    cgroup: Cgroup | None
