"""Each Python block of the README and the manual runs, and prints what stands below it.

A block that has an `await` outside of a function runs on a loop, as in `python -m asyncio` after
`import aiopidfd`, and can be pasted there; any other is a program, and runs as it stands. All run
under `-X dev -W error`, each in a folder of its own. A comment right above a block may say:

    <!-- test: continues -->            it goes on where the block before it on the page has ended
    <!-- test: programs ffmpeg make --> these are stood in for by ones that succeed and say nothing
    <!-- test: needs fastapi -->        it is left out where that cannot be imported
    <!-- test: not run: REASON -->      it is compiled, and not run

and between a block and a `text` block:

    <!-- test: prints -->               that is what it prints
"""

import ast
import codeop
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import aiopidfd
import aiopidfd.anyio
import aiopidfd.multiprocessing
import aiopidfd.subprocess

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
if not (ROOT / "README.md").exists():
    pytest.skip("the README and the manual are not here", allow_module_level=True)

PAGES = [
    ROOT / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if page.name != "seeds.md"),  # test_seeds.py
]
GIVEN = "import asyncio, aiopidfd; "

BLOCK = re.compile(
    r"(?:^<!-- test: (?P<mark>[^\n]*?) -->\n)?"
    r"^```python\n(?P<code>.*?)^```$"
    r"(?:\n+<!-- test: prints -->\n```text\n(?P<prints>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Block:
    """A Python block, with those before it that it continues."""

    page: Path
    line: int
    code: str
    mark: str
    prints: str | None

    def __str__(self) -> str:
        return f"{self.page.stem}:{self.line}"

    def is_on_a_loop(self) -> bool:
        """Whether it has an `await` outside of a function. SyntaxError: it cannot be compiled."""
        code = compile(self.code, str(self), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return code.co_flags & inspect.CO_COROUTINE > 0

    def words(self, mark: str) -> list[str]:
        """What follows a mark's name."""
        return self.mark.split()[1:] if self.mark.split()[:1] == [mark] else []


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    before = ""
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        mark = found["mark"] or ""
        code = found["code"]
        if mark == "continues":
            code = before + "\n" * max(0, line - 1 - before.count("\n")) + code
        else:
            code = "\n" * (line - 1) + code
        before = code
        yield Block(page, line, code, mark, found["prints"])


BLOCKS = [block for page in PAGES for block in blocks(page)]
MARKS = ("", "continues", "programs", "needs", "not")


def stand_in(folder: Path, names: list[str]) -> str:
    """A search path on which programs of these names succeed and say nothing."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.heavy
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block: Block, tmp_path: Path) -> None:
    on_a_loop = block.is_on_a_loop()
    if block.mark.startswith("not run: "):
        return
    for name in block.words("needs"):
        if not importlib.util.find_spec(name):
            pytest.skip(f"{name} is not installed")
    program = tmp_path / "block.py"
    if on_a_loop:
        program.write_text(
            f"{GIVEN}import ast, types\n"
            f"code = compile({block.code!r}, {str(block.page)!r}, 'exec', "
            "flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)\n"
            "asyncio.run(types.FunctionType(code, globals())())\n"
        )
    else:
        program.write_text(block.code)
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", program],
        cwd=tmp_path,
        env={**os.environ, "PATH": stand_in(tmp_path / "bin", block.words("programs"))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    if block.prints is not None:
        assert result.stdout == block.prints


@pytest.mark.parametrize("block", [*filter(Block.is_on_a_loop, BLOCKS)], ids=str)
def test_block_can_be_pasted(block: Block) -> None:
    """Line by line, as the console of Python 3.11 and 3.12 takes it: an empty line ends a block."""
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    lines: list[str] = []
    for line in [*block.code.splitlines(), ""]:
        lines.append(line)
        if compiler("\n".join(lines), str(block)) is not None:
            lines.clear()
    assert not lines


def test_all_marks_are_known() -> None:
    for page in PAGES:
        marks = re.findall(r"<!-- test: (.*?) -->", page.read_text())
        used = [block for block in BLOCKS if block.page == page]
        assert len(marks) == sum(bool(b.mark) + (b.prints is not None) for b in used), page
    for block in BLOCKS:
        assert block.mark.split(" ")[0] in MARKS, block
        if block.mark.startswith("not"):
            assert re.match(r"not run: \w", block.mark), block


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    listed = {*re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)$", text, re.MULTILINE)}
    listed |= {f"aiopidfd.{name}" for name in re.findall(r"`(\w+)`", text)}
    modules = (aiopidfd, aiopidfd.anyio, aiopidfd.multiprocessing, aiopidfd.subprocess)
    names = {
        f"{module.__name__}.{name}"
        for module in modules
        for name in module.__all__
        if module is aiopidfd or getattr(module, name) is not getattr(subprocess, name, None)
    }
    names |= {f"aiopidfd.{name}" for name in dir(aiopidfd) if not name.startswith("_")}
    assert names - listed - {module.__name__ for module in modules} == set()


def test_tests_that_are_named_exist() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    there = {*re.findall(r"def (test_\w+)", tests), *(p.stem for p in ROOT.glob("tests/**/*.py"))}
    for page in (*PAGES, *ROOT.glob("*.md")):
        named = {*re.findall(r"`(test_\w+)`", page.read_text())}
        assert named - there - {"test_subprocess"} == set(), page  # that is CPython's


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """On a forge as on the site."""
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_example_is_listed() -> None:
    listed = re.findall(r"\]\(\.\./examples/(\w+\.py)\)", (DOCS / "examples.md").read_text())
    assert sorted(listed) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))
