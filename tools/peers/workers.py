"""multiprocessing's contexts, replaced by ours. Workers import this: it imports little."""

import multiprocessing.context
from multiprocessing import resource_tracker
from typing import Any

import aiopidfd.multiprocessing

__all__ = ["replace_contexts"]


def replace_contexts(*methods: str) -> None:
    """Whoever asks multiprocessing for one of these start methods gets our context."""
    contexts: Any = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    contexts.update(dict.fromkeys(methods, aiopidfd.multiprocessing.get_context()))
    # What cleans up after test modules stops the tracker and waits for it: ours is no child.
    resource_tracker._resource_tracker._stop = lambda: None  # type: ignore[attr-defined]
