"""Writes what `help()` and docs/options.md say of each option, from the docstrings of `Options`.

    python -m tools.options_doc           # writes
    python -m tools.options_doc --check   # fails where something is not up to date

An editor shows the docstring below a key of `aiopidfd._spawn.options.Options`. `help()` shows the
docstring of the class alone, and the manual is a table: both are made of the same sentences.
"""

import ast
import sys
import textwrap
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["main", "stale"]

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "aiopidfd/_spawn/options.py"
MANUAL: Final = ROOT / "docs/options.md"

ATTRIBUTES: Final = "\n\n    Attributes:\n"
BEGIN: Final = "<!-- options: made by tools/options_doc.py -->\n"
END: Final = "<!-- end of options -->\n"


class Option(NamedTuple):
    """One key of `Options`."""

    name: str
    type: str
    text: str


def options(source: str) -> list[Option]:
    """The keys of `Options`, each with the docstring that stands below it."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    body = next(node for node in classes if node.name == "Options").body[1:]
    found = []
    for key, text in zip(body[::2], body[1::2], strict=True):
        assert isinstance(key, ast.AnnAssign)
        assert isinstance(text, ast.Expr), f"line {text.lineno}: a key without a docstring"
        assert isinstance(text.value, ast.Constant)
        words = " ".join(str(text.value.value).split())
        found.append(Option(ast.unparse(key.target), ast.unparse(key.annotation), words))
    return found


def with_attributes(source: str) -> str:
    """The source with the section "Attributes" of the class's docstring made anew."""
    start = source.index("class Options(")
    end = source.index('    """\n', start)
    text = source[:end].split(ATTRIBUTES, 1)[0].rstrip()
    lines = []
    for option in options(source):
        entry = f"{option.name}: {option.text}"
        indents = {"initial_indent": " " * 8, "subsequent_indent": " " * 12}
        lines += textwrap.wrap(entry, 100, break_on_hyphens=False, **indents)
    return text + ATTRIBUTES + "\n".join(lines) + "\n" + source[end:]


def with_table(manual: str, source: str) -> str:
    """The manual with its table made anew."""
    before, rest = manual.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    rows = ["| option | type | what it is |", "|---|---|---|"]
    for option in options(source):
        kind = option.type.replace("|", "\\|")
        rows.append(f"| `{option.name}` | `{kind}` | {option.text} |")
    return before + BEGIN + "\n".join(rows) + "\n" + END + after


def stale() -> dict[Path, str]:
    """The files that are not up to date, with what they should be."""
    source = SOURCE.read_text()
    wanted = {SOURCE: with_attributes(source), MANUAL: with_table(MANUAL.read_text(), source)}
    return {path: text for path, text in wanted.items() if path.read_text() != text}


def main() -> int:
    """Write, or with --check tell what should be written."""
    for path, text in stale().items():
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is not up to date: python -m tools.options_doc")
            return 1
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
