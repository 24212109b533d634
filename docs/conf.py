"""Sphinx: `make docs` builds docs/_build/html."""

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
napoleon_google_docstring = True
