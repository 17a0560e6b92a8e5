"""One browser and one controller for the whole folder.

Not for the whole session: playwright's event loop would go on under the tests of other folders.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from controller.access.tokens import Secret
from tests.browser.chromium import CHROMIUM, Chrome, launch
from tests.browser.dashboard import Dashboard
from tests.browser.world import World
from tests.conftest import cannot
from tests.receivers import LOOPBACK
from tests.tokens import ADMIN

OpenPage = Callable[..., Page]


@pytest.fixture(scope="package")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """The dashboard over the whole cluster."""
    with Dashboard(tmp_path_factory.mktemp("dashboard"), outgoing=LOOPBACK) as dashboard:
        dashboard.world.fill()
        yield dashboard


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium."""
    if not CHROMIUM.exists():
        cannot(f"needs {CHROMIUM}: `make install` brings it")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def chrome(browser: Browser, dashboard: Dashboard) -> Chrome:
    """Opens pages of the dashboard."""
    return Chrome(browser, dashboard)


@pytest.fixture
def world(dashboard: Dashboard) -> World:
    """The cluster."""
    return dashboard.world


@pytest.fixture(autouse=True)
def no_complaints(chrome: Chrome) -> Iterator[None]:
    """Fail on errors of scripts and of the policy, and on requests to other servers."""
    chrome.complaints.found.clear()
    chrome.complaints.expected.clear()
    yield
    assert chrome.complaints.unexpected() == []


@pytest.fixture
def open_page(chrome: Chrome) -> Iterator[OpenPage]:
    """Open a page of a path, as an admin unless told; closed when the test ends."""
    with ExitStack() as opened:

        def open_(path: str, secret: Secret | None = ADMIN, **options: Any) -> Page:
            context: AbstractContextManager[Page] = chrome.page(secret, **options)
            page = opened.enter_context(context)
            page.goto(path)
            return page

        yield open_
