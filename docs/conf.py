"""How Sphinx builds the site from the Markdown files of this folder: `make site`.

The files stay plain Markdown that a forge shows too; what only Sphinx needs is here.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

ROOT = Path(__file__).parents[1]

project = "vxlan-operator"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
copyright = "the authors of vxlan-operator, Apache-2.0"  # noqa: A001 -- the name that Sphinx reads

extensions = ["myst_parser"]
exclude_patterns = ["man"]
nitpicky = True
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"vxlan-operator {version}"
html_baseurl = "https://vxlan-operator.readthedocs.io/"
html_copy_source = False
html_show_sphinx = False
# Options such as --fix are to be copied as they stand.
smartquotes = False


def toctrees(index: str) -> Iterator[str]:
    """The navigation: a toctree for each list of links under a heading of index.md."""
    for section in index.split("\n## ")[1:]:
        caption, _, rest = section.partition("\n")
        links = re.findall(r"^\* \[(.+?)\]\(([\w-]+)\.md\)", rest, re.MULTILINE)
        pages = [f"{title} <{page}>" for title, page in links]
        if pages:
            yield "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])


def _add_toctrees(_app: Any, docname: str, source: list[str]) -> None:
    if docname == "index":
        source[0] = "\n\n".join([source[0], *toctrees(source[0])])


def setup(app: Any) -> None:
    """Register what differs from plain Sphinx."""
    app.connect("source-read", _add_toctrees)
    # Drawings in Mermaid are shown as their text: its program would come from another server.
    app.add_lexer("mermaid", TextLexer)
