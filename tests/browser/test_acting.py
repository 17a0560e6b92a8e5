"""Acting: what it will do, why, and the row that it made; roles, keys alone, twice, without a session."""

from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import func, select, update

from contract.verdicts import Mode, Stage
from controller.db.access_models import ApiToken
from controller.db.audit_models import AuditRow
from controller.db.models import Cluster, Network, Node, Requeue
from tests.browser.chromium import Chrome
from tests.browser.conftest import OpenPage
from tests.browser.dashboard import Dashboard
from tests.browser.world import (
    HEALTHY,
    HELD,
    MARKUP,
    OPERATOR,
    PAUSED,
    READER,
    SHORT,
    World,
    node_id,
)
from tests.fake_swarm import swarm_id

WHY = "ticket 4712: it leaks"
NODE = node_id(HEALTHY[1])


def count(world: World, stage: Stage) -> int:
    """The number of audit rows of a stage."""
    with world.database.read() as session:
        return session.scalar(select(func.count()).where(AuditRow.stage == stage)) or 0


def node(world: World, id_: str = NODE) -> Node:
    with world.database.read() as session:
        return session.get_one(Node, id_)


def say_why(page: Page, why: str = WHY) -> None:
    """Fill the form's reason, and send it."""
    page.get_by_label("Why").fill(why)
    page.locator("main button").click()


def expect_row(page: Page, text: str, actor: str = "otto") -> None:
    """The page shows one audit row, by this actor, with this text."""
    expect(page.locator("h1")).to_contain_text("done")
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(text)
    expect(row).to_contain_text(actor)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_requeue_says_what_it_will_do_and_shows_its_row(
    scripts: bool, open_page: OpenPage, world: World
) -> None:
    page = open_page(f"/nodes/{NODE}", OPERATOR, scripts=scripts)
    page.get_by_role("link", name="Look again now").click()
    expect(page.get_by_role("heading", name="What this will do")).to_be_visible()
    expect(page.locator("main")).to_contain_text("gets a run now, before all others")
    say_why(page)
    expect_row(page, WHY)
    with world.database.read() as session:
        request = session.scalars(select(Requeue).where(Requeue.node_id == NODE)).first()
        assert request is not None
        assert (request.actor, request.reason) == ("otto", WHY)


def test_a_requeue_shows_what_is_held_back_before(open_page: OpenPage) -> None:
    page = open_page(f"/do/requeue?node={node_id(HELD)}", OPERATOR)
    expect(page.locator("main")).to_contain_text("leave in place vx-001002")


def test_a_paused_node_cannot_be_requeued_and_the_page_says_so(
    open_page: OpenPage, chrome: Chrome, world: World
) -> None:
    chrome.complaints.expected.append("status of 409")
    before = count(world, Stage.REQUEUED)
    page = open_page(f"/do/requeue?node={node_id(PAUSED)}", OPERATOR)
    say_why(page)
    expect(page.get_by_role("alert")).to_contain_text("is paused by otto")
    expect(page.get_by_label("Why")).to_have_value(WHY)
    assert count(world, Stage.REQUEUED) == before


def test_a_pause_with_an_end_and_its_resumption_by_keys_alone(
    open_page: OpenPage, world: World
) -> None:
    page = open_page(f"/nodes/{NODE}", OPERATOR)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Pause":
            break
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"/do/pause?node={NODE}")
    expect(page.get_by_label("Why")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_label("For how long")).to_be_focused()
    page.keyboard.type("2h")
    page.keyboard.press("Tab")
    page.keyboard.type(WHY)
    page.keyboard.press("Enter")
    expect_row(page, "not paused -> paused until")
    left = (node(world).paused_until or datetime.min.replace(tzinfo=UTC)) - datetime.now(UTC)
    assert 7100 < left.total_seconds() < 7300
    page.get_by_role("link", name="Go on").click()
    expect(page.locator("main")).to_contain_text("Paused by otto since")
    page.get_by_role("link", name="Resume").click()
    expect(page.locator("main")).to_contain_text("The pause ends, and it gets a run at once.")
    say_why(page)
    expect_row(page, "-> not paused")
    assert node(world).paused_at is None


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        ("soon", "'soon' is neither a duration"),
        ("2000-01-01T00:00:00Z", "in the future"),
        ("2030-01-01T00:00:00", "nor a time with its zone"),
        ("9999999w", "over a year"),
    ],
)
def test_an_end_that_is_none_is_told_and_nothing_typed_is_lost(
    end: str, problem: str, open_page: OpenPage, chrome: Chrome, world: World
) -> None:
    chrome.complaints.expected.append("status of 422")
    page = open_page(f"/do/pause?node={NODE}", OPERATOR)
    page.get_by_label("For how long").fill(end)
    say_why(page)
    expect(page.get_by_role("alert")).to_contain_text(problem)
    expect(page.get_by_label("For how long")).to_have_value(end)
    expect(page.get_by_label("Why")).to_have_value(WHY)
    assert node(world).paused_at is None


def test_a_mode_of_a_network(open_page: OpenPage, world: World) -> None:
    page = open_page(f"/networks/{swarm_id('payments')}", OPERATOR)
    page.get_by_role("link", name="Set mode").click()
    page.get_by_label("observe:").check()
    say_why(page, f"{MARKUP} is why")
    expect_row(page, "mode default -> observe")
    expect(page.locator("tbody tr")).to_contain_text(MARKUP)
    with world.database.read() as session:
        assert session.get_one(Network, swarm_id("payments")).mode is Mode.OBSERVE
    page.goto(f"/do/mode?network={swarm_id('payments')}&mode=default")
    say_why(page)
    expect_row(page, "mode observe -> default")


def test_all_breakers_are_reset_and_each_has_its_row(open_page: OpenPage, world: World) -> None:
    world.trip()
    try:
        page = open_page("/safety", OPERATOR)
        expect(page.locator("h1")).to_contain_text("breaker has tripped: nothing is removed")
        page.get_by_role("link", name="Reset all breakers").click()
        expect(page.locator("main")).to_contain_text("find out first why so many devices leaked")
        say_why(page)
        expect(page.locator("h1")).to_contain_text("done")
        expect(page.locator("tbody tr")).to_have_count(2)
    finally:
        with world.database.write() as session:
            session.execute(update(Cluster).values(breaker_tripped_at=None, breaker_reason=None))
            session.execute(update(Node).values(breaker_tripped_at=None, breaker_reason=None))
        world.conclude()


def test_what_is_sent_twice_is_done_once(dashboard: Dashboard, open_page: OpenPage) -> None:
    page = open_page(f"/do/pause?node={NODE}", OPERATOR)
    once = page.locator("input[name=once]").get_attribute("value") or ""
    world = dashboard.world
    before = count(world, Stage.PAUSED)
    name, value = dashboard.cookie(OPERATOR)
    form = {"node": NODE, "once": once, "reason": WHY, "end": "1h"}
    with httpx.Client(base_url=dashboard.url, cookies={name: value}) as client:
        answers = [client.post("/do/pause", data=form) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [303, 303]
        shown = [client.get(answer.headers["location"]).text for answer in answers]
        assert count(world, Stage.PAUSED) == before + 1
        assert all("not paused -&gt; paused until" in text for text in shown)
        client.post("/do/resume", data={"node": NODE, "once": once, "reason": WHY})
        # A form of long ago, sent again by the browser's history.
        client.post("/do/pause", data=form)
    assert node(world).paused_at is None


def test_a_second_click_while_the_first_is_under_way(open_page: OpenPage, world: World) -> None:
    page = open_page(f"/do/requeue?node={node_id(HEALTHY[2])}", OPERATOR)
    before = count(world, Stage.REQUEUED)
    page.get_by_label("Why").fill(WHY)
    page.locator("main button").dblclick(no_wait_after=True)
    expect_row(page, WHY)
    assert count(world, Stage.REQUEUED) == before + 1


def test_a_reason_is_needed(open_page: OpenPage, chrome: Chrome, world: World) -> None:
    chrome.complaints.expected.append("status of 422")
    page = open_page(f"/do/requeue?node={NODE}", OPERATOR)
    before = count(world, Stage.REQUEUED)
    say_why(page, " ")
    expect(page.get_by_role("alert")).to_contain_text("reason: is missing")
    assert count(world, Stage.REQUEUED) == before


class TestRoles:
    """What a role may not do is not offered, and refused where tried."""

    @pytest.mark.parametrize("path", ["/nodes/NODE", "/networks/shop", "/safety", "/explain"])
    def test_a_reader_is_offered_nothing(self, path: str, open_page: OpenPage) -> None:
        page = open_page(path.replace("NODE", NODE), READER)
        assert page.locator("a[href^='/do/']").count() == 0

    def test_a_reader_is_refused(
        self, open_page: OpenPage, chrome: Chrome, dashboard: Dashboard
    ) -> None:
        chrome.complaints.expected.append("status of 403")
        page = open_page(f"/do/pause?node={NODE}", READER)
        expect(page.locator("h1")).to_contain_text("403")
        expect(page.get_by_role("alert")).to_contain_text("operate")
        name, value = dashboard.cookie(READER)
        form = {"node": NODE, "once": "x", "reason": WHY}
        answer = httpx.post(f"{dashboard.url}/do/pause", data=form, cookies={name: value})
        assert answer.status_code == 403
        assert node(dashboard.world).paused_at is None

    def test_a_page_of_another_site_can_send_no_form(self, dashboard: Dashboard) -> None:
        name, value = dashboard.cookie(OPERATOR)
        answer = httpx.post(
            f"{dashboard.url}/do/pause",
            data={"node": NODE, "once": "x", "reason": WHY},
            cookies={name: value},
            headers={"Origin": "https://evil.example"},
        )
        assert answer.status_code == 403


def test_a_session_that_ended_meanwhile_loses_nothing_that_was_typed(
    open_page: OpenPage, chrome: Chrome, world: World, dashboard: Dashboard
) -> None:
    chrome.complaints.expected.append("status of 401")
    why = "ü" * 250 + "中" * 250  # The longest in an address.
    before = count(world, Stage.PAUSED)
    page = open_page("/login?next=" + quote(f"/do/pause?node={NODE}"), None)
    page.get_by_label("Token").fill(SHORT.text)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("For how long").fill("3h")
    page.get_by_label("Why").fill(why)
    page.context.clear_cookies()
    page.locator("main button").click()
    expect(page.locator("main")).to_contain_text("What you typed is kept")
    assert count(world, Stage.PAUSED) == before
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("Token").fill(SHORT.text)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_label("For how long")).to_have_value("3h")
    expect(page.get_by_label("Why")).to_have_value(why)
    page.locator("main button").click()
    expect_row(page, "not paused -> paused until", "sven")
    assert count(world, Stage.PAUSED) == before + 1
    page.goto(f"/do/resume?node={NODE}")
    say_why(page)
    expect_row(page, "-> not paused", "sven")


def test_a_token_that_was_revoked_ends_the_session(
    open_page: OpenPage, chrome: Chrome, world: World
) -> None:
    chrome.complaints.expected.append("status of 401")
    page = open_page(f"/do/requeue?node={NODE}", SHORT)
    before = count(world, Stage.REQUEUED)
    which = ApiToken.id == SHORT.id
    with world.database.write() as session:
        session.execute(update(ApiToken).where(which).values(revoked_at=datetime.now(UTC)))
    try:
        say_why(page)
        expect(page.locator("main")).to_contain_text("What you typed is kept")
        assert count(world, Stage.REQUEUED) == before
    finally:
        with world.database.write() as session:
            session.execute(update(ApiToken).where(which).values(revoked_at=None))
