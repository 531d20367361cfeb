"""Settings of Sphinx; `make docs` builds docs/_build/html and treats warnings as errors."""

from importlib.metadata import version as version_of

project = "Frostline"
author = "The Frostline authors"
release = version = version_of("frostline")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # pages link to each other's sections as on GitHub

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

default_role = "literal"  # single backticks in docstrings are code
html_theme = "furo"
html_title = f"Frostline {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
