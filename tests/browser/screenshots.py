"""`make screenshots`: pictures of all pages and of what is between, in both schemes, wide and narrow."""

import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import SCHEMES, Chrome, launch
from tests.browser.dashboard import Dashboard
from tests.browser.on_the_way import WAYS, Look
from tests.browser.pages import PAGES, path_of
from tests.tokens import ADMIN

FOLDER: Final = Path("build/screenshots")
IMAGES: Final = Path("docs/images")
WIDTHS: Final = (1280, 320)
_DRAWN_MS: Final = 200
IN_DOCUMENTS: Final = {"overview": "/", "matrix": "/matrix?everything=true"}


def main() -> int:
    """Take all pictures, or those of the pages that are named."""
    only = set(sys.argv[1:]) or {*PAGES, *WAYS, *IN_DOCUMENTS}
    FOLDER.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        found = _all(browser, only)
        if only & {*IN_DOCUMENTS}:
            found += _of_documents(browser)
    for text in found:
        sys.stderr.write(f"{text}\n")
    return 1 if found else 0


def _all(browser: Browser, only: set[str]) -> list[str]:
    """Take pictures of pages; return what the browser complained of."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "database"
        folder.mkdir()
        with Dashboard(folder) as dashboard:
            dashboard.world.fill()
            chrome = Chrome(browser, dashboard)
            _pages(chrome, only)
            chrome.complaints.expected += ["another server", "ERR_", "Failed to fetch"]
            _ways(chrome, folder, only)
            return chrome.complaints.unexpected()


def _pages(chrome: Chrome, only: set[str]) -> None:
    chrome.complaints.expected.append("status of 4")
    for scheme in SCHEMES:
        for width in WIDTHS:
            with chrome.page(ADMIN, scheme=scheme, width=width) as page:
                for name in only & {*PAGES}:
                    page.goto(path_of(name, chrome.dashboard.world))
                    _take(page, name, scheme, width)


def _ways(chrome: Chrome, folder: Path, only: set[str]) -> None:
    chrome.complaints.expected += ["status of 4", "status of 503"]
    for scheme in SCHEMES:
        for width in WIDTHS:
            for name in only & {*WAYS}:
                with WAYS[name](Look(chrome, folder, scheme, width)) as page:
                    _take(page, name, scheme, width)


def _take(page: Page, name: str, scheme: str, width: int) -> None:
    page.wait_for_timeout(_DRAWN_MS)
    page.screenshot(path=FOLDER / f"{name}-{scheme}-{width}.png", full_page=True)


def _of_documents(browser: Browser) -> list[str]:
    """Take the pictures in the documents, of a cluster that is as most are."""
    with tempfile.TemporaryDirectory() as folder, Dashboard(Path(folder)) as dashboard:
        dashboard.world.fill(calm=True)
        chrome = Chrome(browser, dashboard)
        with chrome.page(ADMIN, width=1120, height=760) as page:
            for name, path in IN_DOCUMENTS.items():
                page.goto(path)
                page.wait_for_timeout(_DRAWN_MS)
                page.screenshot(path=IMAGES / f"{name}.png")
        return chrome.complaints.unexpected()


if __name__ == "__main__":
    sys.exit(main())
