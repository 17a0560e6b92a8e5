"""Every page: read by anybody, in both schemes, at 320 px, without scripts, printed, with hostile names."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.chromium import SCHEMES, Chrome
from tests.browser.conftest import OpenPage
from tests.browser.on_the_way import WAYS, Look
from tests.browser.pages import LEAK_LINE, PAGES, path_of
from tests.browser.world import (
    ESCAPES,
    HEALTHY,
    HOSTILE,
    HOSTILE_NETWORK,
    LONG,
    MARKUP,
    READER,
    RTL,
    World,
    node_id,
)
from tests.fake_swarm import swarm_id
from tests.tokens import ADMIN

AXE = Axe()
_WRONG = {"audit-wrong": "422", "not-found": "404"}


@pytest.fixture(scope="module")
def shared(chrome: Chrome) -> Iterator[Page]:
    """A page for tests that only read."""
    with chrome.page(ADMIN) as page:
        yield page


def check(page: Page) -> None:
    """Nothing keeps anybody from reading it: neither scheme, nor a narrow screen."""
    everything: dict[str, list[str]] = {}
    # In the other scheme colours alone are others.
    for scheme, rules in zip(SCHEMES, (everything, {"runOnly": ["color-contrast"]}), strict=True):
        page.emulate_media(color_scheme=scheme)
        found = AXE.run(page, options={"resultTypes": ["violations"], **rules})
        assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"
    page.set_viewport_size({"width": 320, "height": 640})
    width = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert width <= 320, f"{page.url} is {width} px wide on a screen of 320"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_for_everybody(name: str, shared: Page, chrome: Chrome, world: World) -> None:
    if name in _WRONG:
        chrome.complaints.expected.append(f"status of {_WRONG[name]}")
    answer = shared.goto(path_of(name, world))
    assert answer is not None
    assert answer.status == int(_WRONG.get(name, "200"))
    expect(shared.locator("h1")).to_have_count(1)
    check(shared)


def test_what_explain_answers_is_for_everybody(shared: Page) -> None:
    shared.goto("/explain")
    shared.get_by_label("An error of Docker or Swarm").fill(LEAK_LINE)
    shared.get_by_role("button", name="Explain").click()
    expect(shared.get_by_role("heading", name="On blue-5")).to_be_visible()
    expect(shared.locator("pre").first).to_contain_text("file exists")
    check(shared)


def test_a_text_without_a_fault_is_said_to_have_none(shared: Page) -> None:
    shared.goto("/explain")
    shared.get_by_label("An error of Docker or Swarm").fill(f"nothing {MARKUP} happened")
    shared.get_by_role("button", name="Explain").click()
    expect(shared.get_by_role("heading", name="No known fault")).to_be_visible()
    assert shared.locator("img[src=x]").count() == 0


def test_the_way_in_is_for_everybody(open_page: OpenPage) -> None:
    page = open_page("/safety", None)
    expect(page.get_by_label("Token")).to_be_focused()
    check(page)
    page.get_by_label("Token").fill(READER.text)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url("/safety")


@pytest.mark.parametrize("name", ["forbidden", "done-nothing", "act-refused", "login-refused"])
def test_what_is_met_between_the_pages_is_for_everybody(name: str, chrome: Chrome) -> None:
    chrome.complaints.expected += ["status of 401", "status of 403", "status of 422"]
    with WAYS[name](Look(chrome, Path(), "light", 1280)) as page:
        check(page)


@pytest.mark.parametrize("name", ["overview", "matrix", "node-held", "audit"])
def test_a_very_wide_screen_stretches_nothing(name: str, shared: Page, world: World) -> None:
    """3840 px: the lines of a text stay short enough for an eye to find the next one."""
    shared.set_viewport_size({"width": 3840, "height": 2160})
    shared.goto(path_of(name, world))
    longest = shared.evaluate(
        """() => Math.max(...[...document.querySelectorAll("main p")].map(
          (each) => each.getBoundingClientRect().width / parseFloat(getComputedStyle(each).fontSize)))"""
    )
    width = shared.evaluate("document.documentElement.scrollWidth")
    shared.set_viewport_size({"width": 1280, "height": 900})
    assert width <= 3840
    assert longest < 120, f"a paragraph is {longest:.0f} em wide"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str, shared: Page) -> None:
    shared.goto(f"/nodes/{node_id(name)}")
    shown = {"markup": MARKUP, "rtl": "web\\u202egnp.exe", "escapes": "\\x1b[31mred\\x07\\nnext"}
    expect(shared.locator("h1")).to_contain_text(shown.get(name, LONG))
    text = shared.content()
    assert RTL[3] not in text
    assert ESCAPES[0] not in text
    assert shared.locator("img[src=x]").count() == 0


def test_a_hostile_network_is_text_in_the_title_too(shared: Page) -> None:
    shared.goto(f"/networks/{swarm_id('evil')}")
    expect(shared).to_have_title(f"Network {HOSTILE_NETWORK} · vxlan-operator")
    expect(shared.locator("h1")).to_contain_text(HOSTILE_NETWORK)


def test_a_run_is_a_timeline_to_the_task_that_runs_again(shared: Page, world: World) -> None:
    shared.goto(f"/runs/{world.healing}")
    steps = shared.get_by_role("list", name="Timeline").locator("> li")
    expect(steps.first).to_contain_text("was rejected")
    expect(steps.last).to_contain_text("a successor of task")
    expect(
        steps.filter(has_text=f"requeued by otto (as anna): does it heal? {MARKUP}")
    ).to_be_visible()
    assert shared.locator("img[src=x]").count() == 0
    removal = steps.filter(has_text="removed, as the kernel confirmed")
    expect(removal).to_have_count(1)
    removal.locator("summary").click()
    expect(removal.locator("dd").filter(has_text="position")).to_be_visible()


@pytest.mark.parametrize("name", ["overview", "node-held", "run", "audit", "safety", "pause"])
def test_reading_needs_no_scripts(name: str, open_page: OpenPage, world: World) -> None:
    page = open_page(path_of(name, world), scripts=False)
    expect(page.locator("time").first).to_contain_text("UTC") if name != "pause" else None
    expect(page.locator("h1")).to_be_visible()


def test_a_page_can_be_printed(shared: Page) -> None:
    shared.goto(f"/nodes/{node_id(HEALTHY[0])}")
    shared.emulate_media(media="print")
    expect(shared.locator("nav").first).not_to_be_visible()
    expect(shared.get_by_role("link", name="Look again now")).not_to_be_visible()
    expect(shared.locator("h1")).to_be_visible()
    shared.emulate_media(media="screen")


def test_times_are_those_of_the_person_and_exact_on_demand(shared: Page, world: World) -> None:
    shared.goto("/audit")
    shown = shared.locator("table time").first
    assert "UTC" not in shown.inner_text()
    assert (shown.get_attribute("title") or "").endswith("UTC")
    shared.get_by_role("button", name="Show UTC").click()
    expect(shown).to_contain_text("UTC")
    shared.get_by_role("button", name="Show Europe/Berlin").click()


class TestAudit:
    """Searching the trail."""

    def test_all_filters_are_of_the_form_and_in_the_address(self, shared: Page) -> None:
        shared.goto("/audit")
        shared.get_by_label("Node", exact=True).fill(HEALTHY[4])
        shared.get_by_label("What").select_option("applied")
        shared.get_by_label("Since").fill("7d")
        shared.get_by_text("More filters").click()
        shared.get_by_label("VNI").fill("4097")
        shared.get_by_role("button", name="Search").click()
        expect(shared).to_have_url(f"/audit?node={HEALTHY[4]}&vni=4097&stage=applied&since=7d")
        rows = shared.locator("tbody tr")
        expect(rows).to_have_count(3)
        expect(shared.get_by_label("Node", exact=True)).to_have_value(HEALTHY[4])

    def test_pages_follow_each_other(self, shared: Page) -> None:
        shared.goto("/audit?since=30d")
        seen = set(_row_ids(shared))
        assert len(seen) == 50
        shared.get_by_role("link", name="Older").click()
        expect(shared.get_by_role("link", name="Newest")).to_be_visible()
        shared.wait_for_load_state()
        older = set(_row_ids(shared))
        assert older
        assert not seen & older
        assert max(older) < min(seen)

    def test_what_is_wrong_stands_beside_what_was_typed(self, shared: Page, chrome: Chrome) -> None:
        chrome.complaints.expected.append("status of 422")
        shared.goto("/audit?node=nobody&since=yesterday")
        expect(shared.get_by_role("alert")).to_contain_text("yesterday")
        expect(shared.get_by_label("Node", exact=True)).to_have_value("nobody")

    def test_a_link_shows_the_same_rows_later(self, shared: Page) -> None:
        shared.goto(f"/audit?node={HEALTHY[4]}&since=2d")
        before = _row_ids(shared)
        shared.get_by_role("link", name="Link to this search").click()
        expect(shared).to_have_url(re.compile("since=20"))
        shared.wait_for_load_state()
        assert "until=20" in shared.url
        assert _row_ids(shared) == before

    def test_exports_have_the_rows_and_no_formula(self, open_page: OpenPage) -> None:
        page = open_page("/audit?stage=requeued", downloads=True)
        with page.expect_download() as csv:
            page.get_by_role("link", name="CSV").click()
        lines = csv.value.path().read_text().splitlines()
        assert lines[0].startswith("node_name_is_shared,") or "entry_id" in lines[0]
        assert any("does it heal?" in line for line in lines[1:])
        with page.expect_download() as jsonl:
            page.get_by_role("link", name="JSON lines").click()
        assert len(jsonl.value.path().read_text().splitlines()) == len(lines) - 1


def _row_ids(page: Page) -> list[int]:
    rows = page.locator("tbody tr[id^=row-]")
    return [int(id_.removeprefix("row-")) for id_ in rows.evaluate_all("all => all.map(e => e.id)")]
