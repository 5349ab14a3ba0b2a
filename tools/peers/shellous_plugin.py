"""A pytest plugin that runs shellous's own tests on our loop, from a checkout of its repository.

    COVERAGE_RUN=1 pytest -p tools.peers.shellous_plugin tests

With that variable its conftest.py leaves pytest's descriptors open. Its source distribution has no
tests: `python -m tools.peers shellous` runs the examples of its README.

A test that fails because preexec_fn is refused is expected to: shellous sets up terminals with it.
"""

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import aiopidfd

from .plugins import counted, expect_exceptions

_AT_LEAST = 300

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop_policy(aiopidfd.EventLoopPolicy())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    expect_exceptions("shellous", items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if call.excinfo is not None and "preexec_fn is not supported" in str(call.excinfo.value):
        report.outcome = "skipped"
        report.wasxfail = "preexec_fn is refused"
    return report


@pytest.fixture(scope="session", autouse=True)
def invisible_programs() -> Iterator[None]:
    with counted("shellous", _AT_LEAST):
        yield


@pytest.fixture(autouse=True)
async def descriptors_of_the_loop() -> None:
    """A loop's first start opens what all later ones use, and each test counts descriptors."""
    aiopidfd.prepare()
