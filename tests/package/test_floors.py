"""The package's floors: each module imports only from its own floor or from one below it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiopidfd

PACKAGE = Path(aiopidfd.__file__).parent

# From the bottom up; see docs/design.md. What is on one line does not know the rest of it.
FLOORS = (
    {"_native"},
    {"_pidfd"},
    {"_spawn"},
    {"_streams", "multiprocessing", "subprocess", "__main__"},
    {"_asyncio"},
    {"anyio"},
    {"__init__"},
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> tuple[str, ...]:
    """The module's name within the package: ("_spawn", "steps"), ("_spawn", "__init__")."""
    return path.relative_to(PACKAGE).with_suffix("").parts


def imports(path: Path, *, at_import: bool = False) -> Iterator[tuple[str, ...]]:
    """The modules of the package that a module names; with `at_import`, when it is imported."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if at_import else ast.walk(tree)
    here = name_of(path)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: len(here) - node.level], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            for alias in node.names:
                if (PACKAGE.joinpath(*base, alias.name).with_suffix(".py")).exists():
                    yield (*base, alias.name)
                elif base == () and alias.name == "_native":
                    yield ("_native",)
                else:
                    yield base


def floor(module: tuple[str, ...]) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if module[0] in rooms]
    assert len(found) == 1, f"{module} is on no floor"
    return found[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))
def test_nothing_is_imported_from_above(path: Path) -> None:
    here = name_of(path)
    for module in imports(path):
        if not module or here == ("__init__",):
            continue  # the package itself is named by who is on top only
        assert module[0] == here[0] or floor(module) < floor(here), (here, module)


def test_no_circle() -> None:
    graph = {name_of(path): {*imports(path, at_import=True)} for path in MODULES}
    done: set[tuple[str, ...]] = set()

    def visit(module: tuple[str, ...], above: tuple[tuple[str, ...], ...]) -> None:
        assert module not in above, [*above, module]
        if module not in done:
            for below in graph.get(module, ()):
                visit(below, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_public_surface_is_one_screen_of_names_and_nothing_else() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert not classes
    for name in ("spawn", "PidFd", "PTY", "contain", "handle()", "Options", "shutdown"):
        assert name in (aiopidfd.__doc__ or ""), name
    assert len(aiopidfd.__all__) == len({*aiopidfd.__all__})
    for name in aiopidfd.__all__:
        assert hasattr(aiopidfd, name)
