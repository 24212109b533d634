"""Sphinx configuration: `make docs` builds docs/_build."""

import re
from typing import Any

import srcolor

project = "srcolor"
author = "The srcolor authors"
copyright = "2026, The srcolor authors"
version = release = srcolor.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"srcolor {release}"

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_ivar = True
default_role = "code"  # docstrings are Markdown: `x` is code


def setup(app: Any) -> None:
    """Keep the asterisks and bars of docstrings, as in a* and |x|, which are markup in reStructuredText."""
    app.connect("autodoc-process-docstring", _escape, priority=400)


def _escape(app: Any, what: str, name: str, object: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [re.sub(r"(`[^`]*`)|([*|])", lambda match: match[1] or rf"\{match[2]}", line) for line in lines]
