"""The options' docstrings, `help()` and the manual's table say the same."""

import pydoc

import pytest

import aiopidfd

from ..fresh import ROOT

from_source = pytest.mark.skipif(
    not (ROOT / "aiopidfd/_spawn/options.py").exists(),
    reason="the package's source is not here: what is installed is tested",
)


@pytest.fixture(autouse=True)
def _tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@from_source
def test_nothing_is_out_of_date() -> None:
    from tools import options_doc

    assert [*options_doc.stale()] == []


@from_source
def test_a_changed_docstring_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools import options_doc

    source = options_doc.SOURCE.read_text()
    changed = source.replace('"""All of its', '"""Some of its', 1)
    assert changed != source
    assert options_doc.with_attributes(changed) != changed
    manual = options_doc.MANUAL.read_text()
    assert options_doc.with_table(manual, changed) != manual


def test_help_tells_of_each_option() -> None:
    text = pydoc.plain(pydoc.render_doc(aiopidfd.Options))
    for name in aiopidfd.Options.__annotations__:
        assert f"{name}: " in text, name
