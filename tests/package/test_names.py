"""What `import aiopidfd` offers, and what it says where an extra is missing."""

import pytest

import aiopidfd

from .. import fresh

NEEDS = {"UvloopEventLoop": "uvloop", "UvloopEventLoopPolicy": "uvloop", "anyio": "anyio"}


@pytest.mark.parametrize("name", NEEDS)
def test_a_missing_extra(name: str) -> None:
    extra = NEEDS[name]
    fresh.run(f"""
        sys.modules.update({{"{extra}": None}})
        hint = "aiopidfd.{name} needs {extra}: pip install 'aiopidfd[{extra}]'"
        attempts = ["aiopidfd.{name}", "exec('from aiopidfd import {name}')"]
        if "{name}" == "anyio":
            attempts.append("exec('from aiopidfd.anyio import Process')")
        for attempt in attempts:
            try:
                eval(attempt)
            except ModuleNotFoundError as exc:
                assert str(exc) == hint, exc
            else:
                raise AssertionError("there was no error")
    """)


def test_all_names_are_listed() -> None:
    assert {*aiopidfd.__all__, *NEEDS, "EventLoopPolicy", "multiprocessing"} <= {*dir(aiopidfd)}
    for name in aiopidfd.__all__:
        assert getattr(aiopidfd, name) is not None


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'aiopidfd' has no attribute 'nothing'"):
        _ = getattr(aiopidfd, "nothing")  # noqa: B009 - a type checker knows that it is not there
    assert not hasattr(aiopidfd, "nothing")


def test_import_star_gives_what_can_be_had_here() -> None:
    fresh.run("""
        names = {}
        exec("from aiopidfd import *", names)
        assert {"UvloopEventLoop", "run_in_fork", "NoResultError"} <= names.keys()
        assert not {"anyio", "multiprocessing", "subprocess"} & names.keys()  # their namesakes stay
        assert ("PidfdChildWatcher" in names) == (sys.version_info < (3, 14))
    """)
    fresh.run("""
        sys.modules["uvloop"] = sys.modules["anyio"] = None
        names = {}
        exec("from aiopidfd import *", names)
        assert not {"UvloopEventLoop", "UvloopEventLoopPolicy"} & names.keys()
        assert "run_in_fork" in names
    """)


def test_what_a_corner_needs_is_not_imported() -> None:
    fresh.run("""
        import subprocess
        code = "import aiopidfd, sys; print(*sys.modules)"
        modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
        assert not {"difflib", "pickle", "uvloop", "anyio", "trio"} & {*modules}
        assert "multiprocessing" not in modules
    """)
