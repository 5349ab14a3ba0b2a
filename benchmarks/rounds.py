"""Subjects take turns: what the machine does meanwhile hits all of them alike."""

import gc
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def interleave(
    turns: Mapping[str, Callable[[], Iterable[T]]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[T]]:
    """Call each of `turns` once a round; returns all that they measured, by name.

    The order is shuffled each round, alike in every run. The garbage collector runs between turns,
    never within one, for everyone. The first `warm_up` rounds do not count.
    """
    order = sorted(turns)
    shuffle = random.Random(1).shuffle
    samples: dict[str, list[T]] = {name: [] for name in turns}
    for number in range(-warm_up, rounds):
        _progress(f"round {max(number + 1, 0)} of {rounds}")
        shuffle(order)
        for name in order:
            gc.collect()
            gc.disable()
            try:
                found = list(turns[name]())
            finally:
                gc.enable()
            if number >= 0:
                samples[name] += found
    _progress("")
    return samples


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
