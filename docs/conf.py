"""The manual: pip install '.[docs]' && sphinx-build -W -b html docs site."""

import contextlib
import re
import sys
from importlib.metadata import version as installed
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer

if sys.version_info >= (3, 14):
    raise SystemExit("build the manual with Python 3.11 to 3.13: later ones have no child watcher")

project = "aiopidfd"
author = "The aiopidfd project"
release = version = installed("aiopidfd")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py"]

myst_heading_anchors = 3

smartquotes = False  # they would change Python and file names
default_role = "py:obj"  # docstrings have single backticks: a link, if it is a name that is here
highlight_language = "none"  # where a block does not name its language
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_use_type_comments = False
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

html_theme = "furo"
pygments_dark_style = "monokai"  # the theme's own underlines modules, as if they were links
html_title = f"aiopidfd {release}"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False


def forget_overloads(app: Sphinx, obj: Any, bound_method: bool) -> None:
    """Show the signature with all parameters, once: types stand in the list below it."""
    with contextlib.suppress(AttributeError, PycodeError):  # it has no module, or no source
        analyzer = ModuleAnalyzer.for_module(obj.__module__)
        analyzer.analyze()
        analyzer.overloads.clear()


def hide_internal_parameters(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: Any, result: Any
) -> tuple[str, str] | None:
    """A class that only the package makes has no parameters for a reader."""
    made_inside = what == "class" and (obj.__init__.__doc__ or "").startswith("Internal")
    return ("", "") if made_inside else None


SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")


def read_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Show what is indented, outside of a section, as Python, and link to a page that is named."""
    lines[:] = [line.replace("\\", r"\\") for line in lines]  # what is shown is what stands there
    read: list[str] = []
    in_section = in_code = False
    for line in lines:
        if line and not line.startswith(" "):
            in_section, in_code = SECTION.match(line) is not None, False
        elif line and not in_section and not in_code and read and not read[-1]:
            in_code = True
            read += [".. code-block:: python", ""]
        if not in_code:
            line = re.sub(r"[Tt]he manual's page (\w+)", r":doc:`/\1`", line)
        read.append(line)
    lines[:] = read


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon
    app.connect("autodoc-before-process-signature", forget_overloads)
    app.connect("autodoc-process-signature", hide_internal_parameters)
