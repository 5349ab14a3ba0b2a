"""What the plugins for pytest have in common: the exceptions, and the count of our programs."""

import contextlib
from collections.abc import Iterable, Iterator

import pytest

from .exceptions import EXCEPTIONS
from .running import spawns

__all__ = ["counted", "expect_exceptions"]


def expect_exceptions(peer: str, items: Iterable[pytest.Item]) -> None:
    """What is in EXCEPTIONS must fail."""
    for item in items:
        if reason := EXCEPTIONS[peer].get(getattr(item, "originalname", item.name)):
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


@contextlib.contextmanager
def counted(peer: str, at_least: int) -> Iterator[None]:
    """Fail if fewer programs are started through us meanwhile."""
    with spawns() as started:
        yield
    print(f"{peer}: {started.count} programs were started by aiopidfd")
    assert started.count >= at_least, "these tests did not use it"
