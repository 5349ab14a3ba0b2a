"""A pytest plugin that runs anyio's own subprocess tests on invisible programs.

    pytest -p tools.peers.anyio_plugin FOLDER/tests/test_subprocesses.py

FOLDER is anyio's unpacked source distribution. `aiopidfd.anyio.install()` turns every backend.
"""

from collections.abc import Iterator

import pytest

import aiopidfd.anyio

from .exceptions import EXCEPTIONS
from .running import Spawns

_AT_LEAST = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = getattr(item, "originalname", item.name)
        if reason := EXCEPTIONS["anyio"].get(name):
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


@pytest.fixture(scope="session", autouse=True)
def invisible_programs() -> Iterator[None]:
    aiopidfd.anyio.install()
    with Spawns() as spawns:
        yield
    aiopidfd.anyio.uninstall()
    print(f"anyio: {spawns.count} programs were started by aiopidfd")
    assert spawns.count >= _AT_LEAST, "these tests did not use it"
