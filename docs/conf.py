"""How Sphinx builds the documentation: without the network, and with every warning an error."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

import atoll


def home(name: str) -> str:
    """Module that defines a public name, as written below the package."""
    return str(getattr(atoll, name).__module__).removeprefix("atoll.")


project = "Atoll"
author = "The Atoll maintainers"
copyright = "the Atoll maintainers"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "One model, many nodes", "fixed_sidebar": True, "page_width": "70rem"}
html_show_copyright = False
default_role = "code"
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = True
autosummary_context = {"exported": [f"~{home(name)}.{name}" for name in atoll.__all__ if name[0].isupper()]}
numpydoc_show_class_members = False

# Names of other projects stay plain text, since looking them up would need the network; type parameters have no page.
nitpick_ignore_regex = [(r"py:.*", r"(?!atoll\b).*"), (r"py:.*", r"atoll\..*\.[A-Z]"), (r"py:.*", r"atoll\..*\._\w+")]


def leave_out(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which their class describes, and methods that scikit-learn adds."""
    is_field = type(thing).__name__ == "_tuplegetter"
    is_routing = name.startswith("set_") and name.endswith("_request")
    return True if is_field or is_routing else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", leave_out)
