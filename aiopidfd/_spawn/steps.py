"""A step: a system call that the child makes before its exec."""

from typing import TypeAlias

__all__ = ["Step", "Steps"]

Step: TypeAlias = tuple[int | bytes, ...]  # the call's number, and its arguments
Steps: TypeAlias = list[tuple[str, Step]]  # each with the option that asked for it
