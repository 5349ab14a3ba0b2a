"""A pytest plugin that runs anyio's own subprocess tests on invisible programs.

    pytest -p tools.peers.anyio_plugin FOLDER/tests/test_subprocesses.py

FOLDER is anyio's unpacked source distribution. `aiopidfd.anyio.install()` turns every backend.
"""

from collections.abc import Iterator

import pytest

import aiopidfd.anyio

from .plugins import counted, expect_exceptions

_AT_LEAST = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    expect_exceptions("anyio", items)


@pytest.fixture(scope="session", autouse=True)
def invisible_programs() -> Iterator[None]:
    aiopidfd.anyio.install()
    with counted("anyio", _AT_LEAST):
        yield
    aiopidfd.anyio.uninstall()
