"""A controller that waits to start tells a browser what for, and shows the dashboard once it has started."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from contract.runtime.startup import UnavailableError
from controller.process.controller import listen
from controller.process.waiting import WaitingApi
from tests.browser.chromium import TIMEOUT_MS, Complaints
from tests.browser.test_pages import check
from tests.browser.world import MARKUP


@pytest.fixture
def waits(browser: Browser) -> Iterator[tuple[Page, WaitingApi]]:
    """A page at the address of a controller that waits for its database."""
    with listen("127.0.0.1:0") as listener, WaitingApi(listener, None) as waiting:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        waiting.tell(UnavailableError(f"the database {MARKUP} does not answer", "start `postgres`"))
        complaints = Complaints(url)
        complaints.expected.append("status of 503")
        context = browser.new_context(base_url=url)
        context.set_default_timeout(TIMEOUT_MS)
        complaints.watch(context)
        yield context.new_page(), waiting
        context.close()
        assert complaints.unexpected() == []


def test_a_controller_that_waits_says_what_for_and_what_to_do(
    waits: tuple[Page, WaitingApi],
) -> None:
    page, waiting = waits
    answer = page.goto("/matrix")
    assert answer is not None
    assert answer.status == 503
    expect(page.locator("h1")).to_contain_text("The controller waits to start")
    expect(page.get_by_role("status")).to_contain_text(f"the database {MARKUP} does not answer")
    expect(page.locator("code")).to_have_text("postgres")
    check(page)
    waiting.tell(UnavailableError("dockerd does not answer", "start dockerd"))
    expect(page.get_by_role("status")).to_contain_text("dockerd does not answer")
    page.route("**/matrix", lambda route: route.fulfill(body="<title>Matrix</title>It runs"))
    expect(page.locator("body")).to_have_text("It runs")
