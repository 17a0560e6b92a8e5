"""Pages that are open hear of what happens, say when the connection is lost, and miss nothing."""

import re

from playwright.sync_api import Page, expect

from controller.health.faults import Fault
from tests.browser.chromium import Chrome
from tests.browser.conftest import OpenPage
from tests.browser.world import HEALTHY, OPERATOR, READER, World, node_id
from tests.proxy import Proxy
from tests.servers import await_true

NODE = HEALTHY[3]


def live(page: Page) -> None:
    """Wait until the page hears of news."""
    expect(page.locator("#live")).to_have_text("Live")


def test_a_removal_is_on_the_page_without_a_reload(open_page: OpenPage, world: World) -> None:
    page = open_page("/audit?stage=applied", READER)
    live(page)
    page.evaluate("window.notReloaded = true")
    first = page.locator("tbody tr").first
    before = first.get_attribute("id")
    run = world.remove(NODE)
    expect(first.locator(f"a[href*='{run}']")).to_be_visible()
    assert first.get_attribute("id") != before
    assert page.evaluate("window.notReloaded") is True


def test_a_page_about_a_node_shows_its_new_run_and_keeps_what_was_opened(
    open_page: OpenPage, world: World
) -> None:
    page = open_page(f"/nodes/{node_id(NODE)}", READER)
    live(page)
    opened = page.locator("details", has=page.get_by_text("in use")).first
    opened.locator("summary").first.click()
    run = world.remove(NODE)
    expect(page.locator(f"#runs a[href='/runs/{run}']")).to_be_visible()
    expect(opened).to_have_attribute("open", "")


def test_a_run_that_was_requested_is_followed_to_its_end(open_page: OpenPage, world: World) -> None:
    page = open_page(f"/do/requeue?node={node_id(NODE)}", OPERATOR)
    page.get_by_label("Why").fill("does it live?")
    page.locator("main button").click()
    live(page)
    expect(page.locator("main")).to_contain_text("The run is requested")
    world.look(NODE)
    expect(page.get_by_role("link", name="run that answers it")).to_be_visible()
    expect(page.locator("main")).to_contain_text("succeeded")


def test_a_connection_that_is_lost_says_so_resumes_and_misses_nothing(
    open_page: OpenPage, chrome: Chrome, world: World
) -> None:
    chrome.complaints.expected += ["ERR_", "Failed to fetch"]
    page = open_page("/audit?stage=applied", READER)
    live(page)
    page.evaluate("window.notReloaded = true")
    with chrome.dashboard.away():
        expect(page.locator("#live")).to_contain_text("Connection lost")
        runs = [world.remove(NODE) for _ in range(2)]
    expect(page.locator("#live")).to_have_text("Live")
    for run in runs:
        expect(page.locator(f"tbody a[href*='{run}']").first).to_be_visible()
    assert page.evaluate("window.notReloaded") is True


def test_what_is_not_known_any_more_does_not_look_as_if_it_were(
    open_page: OpenPage, chrome: Chrome
) -> None:
    chrome.complaints.expected += ["ERR_", "Failed to fetch"]
    page = open_page("/", READER)
    live(page)
    verdict = page.locator("h1.verdict")
    sentence = verdict.inner_text()
    with chrome.dashboard.away():
        expect(verdict).to_contain_text("as of ")
        expect(verdict).to_contain_text(", and not known since")
        expect(verdict).to_have_class(re.compile(r"\bpast\b"))
    expect(page.locator("#live")).to_have_text("Live")
    expect(verdict).to_have_text(" ".join(sentence.split()), use_inner_text=True)
    chrome.dashboard.health.database.failed(Fault("DatabaseUnreachable", "the database is away"))
    expect(page.locator("#live")).to_have_text("the database is away")
    expect(verdict).to_contain_text(", and not known since")
    chrome.dashboard.health.database.succeeded()
    expect(page.locator("#live")).to_have_text("Live")
    expect(verdict).not_to_contain_text("as of")


def test_a_connection_that_dies_without_a_word_is_noticed_and_nothing_is_missed(
    chrome: Chrome, world: World
) -> None:
    chrome.complaints.expected += ["another server", "ERR_", "Failed to fetch", "abort"]
    with Proxy(int(chrome.dashboard.url.rpartition(":")[2])) as proxy, chrome.page(None) as page:
        page.clock.install()
        page.goto(f"http://127.0.0.1:{proxy.port}/audit?stage=applied")
        page.get_by_label("Token").fill(READER.text)
        page.get_by_role("button", name="Log in").click()
        live(page)
        page.evaluate("window.notReloaded = true")
        proxy.swallow_all()
        run = world.remove(NODE)
        page.clock.run_for(9_000)
        expect(page.locator("#live")).to_have_text("Live")
        page.clock.run_for(3_000)
        expect(page.locator("#live")).to_contain_text("Connection lost")
        # Tries go nowhere, and must not be waited for.
        page.clock.run_for(15_000)
        proxy.heal()

        def heard_again() -> bool:
            page.clock.run_for(1_000)
            return page.locator("#live").get_attribute("data-state") == "live"

        # Between two seconds of the page's clock, its next try has time to be answered.
        await_true(heard_again, "a try is answered", pause=0.2)
        live(page)
        page.clock.run_for(1_000)
        expect(page.locator(f"tbody a[href*='{run}']").first).to_be_visible()
        assert page.evaluate("window.notReloaded") is True


def test_ages_are_asked_for_again_though_nothing_changes(open_page: OpenPage) -> None:
    page = open_page("/login", READER)
    page.clock.install()
    page.goto("/")
    live(page)
    for section in ("now", "facts"):
        with page.expect_request(f"**/?section={section}"):
            page.clock.run_for(10_000)
