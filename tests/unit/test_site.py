"""The documents build as a website, strictly, and its pages ask no other server for anything."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

LINKS: Final = frozenset({"canonical", "next", "prev", "index", "search", "author", "copyright"})
"""What `<link rel>` may say without a browser fetching anything."""


class _Requests(HTMLParser):
    """What a browser fetches for a page by itself, as far as its markup says so."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and set(values.get("rel", "").split()) <= LINKS:
            return
        names = ["src", "srcset", "poster", "data"] + ["href"] * (tag in {"link", "use", "image"})
        self.found += [values[name] for name in names if name in values]
        self.found += _of_style(values.get("style", ""))
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh":
            self.found.append(values.get("content", ""))


def _of_style(css: str) -> Iterator[str]:
    """What a style sheet fetches."""
    for found in re.finditer(r"""url\(\s*["']?([^"')]*)|@import\s+["']([^"']*)""", css):
        yield found[1] or found[2]


def _elsewhere(addresses: Iterator[str] | list[str]) -> list[str]:
    """Those that another server is asked for."""
    return [each for each in addresses if re.match(r"\s*(?!data:)([a-z][a-z0-9+.-]*:|//)", each)]


def _requests_of(page: str) -> list[str]:
    parser = _Requests()
    parser.feed(page)
    return parser.found


@pytest.mark.parametrize(
    ("page", "elsewhere"),
    [
        ('<script src="https://cdn.example/a.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/b.css">', True),
        ('<link rel="preload icon" href="https://x.example/c.png">', True),
        ('<img src="images/d.png" srcset="https://x.example/d.png 2x">', True),
        ('<p style="background: url(https://x.example/e.png)">', True),
        ('<iframe src="http://x.example/">', True),
        ('<a href="https://x.example/">a link that a person clicks</a>', False),
        ('<link rel="canonical" href="https://vxlan-operator.readthedocs.io/">', False),
        ('<script src="_static/f.js"></script><img src="data:image/png;base64,AA">', False),
    ],
)
def test_a_request_to_another_server_is_found(page: str, elsewhere: bool) -> None:
    assert bool(_elsewhere(_requests_of(page))) is elsewhere


def test_the_site_builds_without_warnings_and_asks_no_other_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    command += ["-d", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (built.returncode, built.stderr) == (0, "")

    pages = {path.stem: path.read_text() for path in (tmp_path / "site").glob("*.html")}
    assert {path.stem for path in ROOT.glob("docs/*.md")} <= pages.keys()
    sheets = "\n".join(path.read_text() for path in (tmp_path / "site").rglob("*.css"))
    fetched = [each for page in pages.values() for each in _requests_of(page)]
    assert "_static/styles/furo.css" in {each.partition("?")[0] for each in fetched}
    assert _elsewhere([*fetched, *_of_style(sheets)]) == []

    rules = (ROOT / "packaging" / "prometheus" / "vxlan-operator.rules.yml").read_text()
    wanted = re.findall(
        r"runbook_url: https://vxlan-operator\.readthedocs\.io/(\w+)\.html#(\w+)", rules
    )
    assert len(wanted) == rules.count("runbook_url:") > 20
    assert [each for each in wanted if f'id="{each[1]}"' not in pages[each[0]]] == []

    without_navigation = {name for name, page in pages.items() if 'href="limits.html"' not in page}
    assert without_navigation == {"limits"}
