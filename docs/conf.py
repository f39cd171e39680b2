"""Sphinx settings. Build with `sphinx-build -W -b html docs docs/_build/html`; tutorials run in the build."""

import importlib.metadata
import re

project = "dmsim"
author = "The dmsim developers"
copyright = "The dmsim developers"  # the name that Sphinx reads
version = release = importlib.metadata.version("dmsim")

extensions = [
    "myst_nb",  # MyST Markdown, and pages with code cells that are executed
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute", "README.md"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"dmsim {release}"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

nb_execution_mode = "force"  # a page shows what today's code gives, never a stored result
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
nb_merge_streams = True

default_role = "literal"  # single backticks in docstrings mean code
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of a NamedTuple would be described twice
napoleon_preprocess_types = False
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90


def _read_as_text(_app, _what, _name, _obj, _options, lines):
    """Set `Gradient:` and `Source:` off from the text around them; |x| is a modulus, not a substitution."""
    text = "\n".join(lines)
    text = "".join(
        part if part.startswith("`") else part.replace("|", r"\|") for part in re.split(r"(`[^`]*`)", text)
    )
    text = re.sub(r"(?<!\n)\n(?=(Gradient|Source):)", "\n\n", text)
    text = re.sub(r"(?m)(^|(?<=\. ))(Gradient|Source):", r"**\2:**", text)
    lines[:] = text.split("\n")


def setup(app):
    """Run the hook before napoleon reads the docstring."""
    app.connect("autodoc-process-docstring", _read_as_text, priority=400)
