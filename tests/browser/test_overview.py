"""The overview and the matrix in use: news, what a role is offered, the charts, and finding a cell."""

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from controller.db.models import Cluster
from controller.web.routes import overview
from tests.browser.chromium import Chrome
from tests.browser.conftest import OpenPage
from tests.browser.test_pages import check
from tests.browser.world import CONFLICT, HEALTHY, HELD, PAUSED, READER, World, node_id


def test_a_removal_is_news_on_the_overview(open_page: OpenPage, world: World) -> None:
    page = open_page("/")
    expect(page.locator("#live")).to_have_text("Live")
    page.evaluate("window.notReloaded = true")
    run = world.remove(HEALTHY[1])
    expect(page.locator(f".feed li:first-child a[href='/runs/{run}']")).to_be_visible()
    assert page.evaluate("window.notReloaded") is True


def test_what_the_cluster_does_is_said_at_once(open_page: OpenPage, world: World) -> None:
    page = open_page("/")
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#facts")).to_contain_text("not tripped")
    tripped = {"breaker_tripped_at": world.now, "breaker_reason": "7 nodes removed devices"}
    calm = dict.fromkeys(tripped)
    try:
        with world.database.write() as session:
            session.execute(update(Cluster).values(tripped))
        expect(page.locator("#facts")).to_contain_text("7 nodes removed devices")
    finally:
        with world.database.write() as session:
            session.execute(update(Cluster).values(calm))
    expect(page.locator("#facts")).to_contain_text("not tripped")


def test_each_node_is_one_square_in_its_group(open_page: OpenPage) -> None:
    page = open_page("/")
    for name, look in ((CONFLICT, "bad"), (PAUSED, "chosen"), (HEALTHY[0], "ok")):
        square = page.locator(f".squares a[href='/nodes/{node_id(name)}']")
        expect(square).to_have_count(1)
        expect(square).to_have_class(f"sq {look}")
        expect(square).to_have_accessible_name(name)


def test_the_remedy_is_offered_to_those_who_may(open_page: OpenPage) -> None:
    path = f"/do/resume?node={node_id(PAUSED)}"
    button = open_page("/").locator(f".problems a[href='{path}']")
    expect(button).to_have_text("Resume…")
    as_reader = open_page("/", READER)
    expect(as_reader.locator(".problems li").first).to_be_visible()
    expect(as_reader.locator(".problems a[href^='/do/']")).to_have_count(0)


def test_the_charts_are_a_table_too(open_page: OpenPage) -> None:
    page = open_page("/?period=7d")
    expect(page.locator("#charts canvas")).to_have_count(2)
    expect(page.locator("#charts")).to_have_attribute("role", "img")
    page.get_by_text("The charts as a table").click()
    rows = page.get_by_role("region", name="Removals and time to heal").locator("tbody tr")
    assert rows.count() >= 5


ABOUT_CELL = ("wants no network of its VNI here", "mode observe of network mail", "flags learning")


def test_a_cell_is_found_by_keyboard_and_tells_everything_over_the_matrix(
    open_page: OpenPage,
) -> None:
    page = open_page("/matrix", READER)
    page.get_by_label("Node", exact=True).fill(HELD[:5])
    page.get_by_label("Node", exact=True).press("Enter")
    expect(page.locator("tbody tr")).not_to_have_count(0)
    matrix = page.url
    cell = page.get_by_role("link", name=f"{HELD}, mail: orphan")
    cell.focus()
    page.keyboard.press("Enter")
    about = page.get_by_role("dialog", name=f"{HELD}, mail: orphan")
    expect(about.get_by_role("heading", level=1)).to_have_text(f"mail on {HELD}")
    for words in ABOUT_CELL:
        expect(about).to_contain_text(words)
    assert page.url == matrix
    expect(about.get_by_role("button", name="Close")).to_be_focused()
    check(page)
    page.keyboard.press("Escape")
    expect(about).not_to_be_visible()
    expect(cell).to_be_focused()
    page.keyboard.press("Enter")
    about.get_by_role("link", name="Open as a page").click()
    expect(page.locator("h1")).to_have_text(f"mail on {HELD}")


def test_a_cell_is_a_link_in_another_tab_and_without_scripts(open_page: OpenPage) -> None:
    page = open_page("/matrix", READER)
    cell = page.get_by_role("link", name=f"{HELD}, mail: orphan")
    with page.context.expect_page() as opened:
        cell.click(button="middle")
    expect(opened.value.locator("h1")).to_have_text(f"mail on {HELD}")
    expect(page.locator("dialog")).not_to_be_visible()
    plain = open_page("/matrix", READER, scripts=False)
    plain.get_by_role("link", name=f"{HELD}, mail: orphan").click()
    for words in ABOUT_CELL:
        expect(plain.locator("main")).to_contain_text(words)


def test_a_cell_that_cannot_be_told_is_told_by_its_page(
    open_page: OpenPage, chrome: Chrome
) -> None:
    chrome.complaints.expected.append("status of 401")
    page = open_page("/matrix", READER)
    page.context.clear_cookies()
    page.get_by_role("link", name=f"{HELD}, mail: orphan").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_large_group_has_squares_if_they_are_asked_for(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_MANY_NODES", 3)
    page = open_page("/", READER)
    expect(page.locator(f".squares a[href='/nodes/{node_id(CONFLICT)}']")).to_have_count(1)
    expect(page.locator(f".squares a[href='/nodes/{node_id(HEALTHY[0])}']")).to_have_count(0)
    page.get_by_role("link", name="Show a square for each").first.click()
    square = page.locator(f".squares a[href='/nodes/{node_id(HEALTHY[0])}']")
    expect(square).to_have_count(1)
    with page.expect_response("**/?section=nodes&squares=all"):
        page.evaluate("htmx.trigger(document.getElementById('nodes'), 'refresh')")
    expect(square).to_have_count(1)


def test_the_matrix_shows_what_is_wrong_and_counts_the_rest(open_page: OpenPage) -> None:
    page = open_page("/matrix", scripts=False)
    rows = page.locator("tbody tr")
    expect(rows.filter(has_text=HELD)).to_have_count(1)
    expect(rows.filter(has_text=HEALTHY[5])).to_have_count(0)
    expect(page.locator("main")).to_contain_text("are as they should be")
    page.get_by_label("also what is as it should be").check()
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr").filter(has_text=HEALTHY[5])).to_have_count(1)
