"""How Sphinx builds the documentation: ``sphinx-build -W docs build/docs``."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).resolve().parents[1]
# The documentation is that of the sources beside it, whatever is installed.
sys.path.insert(0, str(ROOT / "src"))

from tensorstate import __version__  # noqa: E402

project = "tensorstate"
author = "the authors of tensorstate"
release = version = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = True
# In docstrings, single backticks hold names of parameters and columns as well as of objects: those
# that are objects become links. Whatever else refers to something has to find it.
default_role = "py:obj"
nitpick_ignore_regex = [("py:obj", r".*")]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# The docstrings tell the types, in words and with shapes.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": True}
numpydoc_show_class_members = False

smartquotes = False  # quotes and dashes of code stay what they are

html_theme = "furo"
html_title = f"tensorstate {version}"
html_static_path = ["_static"]
html_css_files = ["tensorstate.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_math_renderer = "mathml"
templates_path: list[str] = []
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


def _inline_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block_math(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _end_blocks(app: Sphinx, document: nodes.document) -> None:
    """Take away the empty line with which the output of an example ends for doctest."""
    for block in document.findall(nodes.literal_block):
        text = block.astext().rstrip("\n")
        block.rawsource = text
        block.children = []
        block += nodes.Text(text)


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers show without a script from the network."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("doctree-read", _end_blocks)
