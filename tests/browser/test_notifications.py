"""The page about notification targets: who is told, how that goes, and to test and mute one."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect
from sqlalchemy import delete, func, select

from contract.verdicts import Stage
from controller.access.store import By
from controller.db.audit_models import AuditRow
from controller.db.notification_models import NotificationTarget
from controller.db.states import TargetKind
from controller.notifications import targets
from controller.notifications.targets import New
from tests.browser.chromium import Chrome
from tests.browser.conftest import OpenPage
from tests.browser.dashboard import Dashboard
from tests.browser.world import LONG, MARKUP, OPERATOR, READER, RTL, World
from tests.receivers import HttpReceiver, http_receiver

WHY = "ticket 4713: is anybody there?"


@pytest.fixture
def receiver(world: World) -> Iterator[HttpReceiver]:
    """What takes notifications of the target `here`."""
    with http_receiver() as receiver:
        by = By("admin", None, datetime.now(UTC))
        with world.database.write() as session:
            targets.add(session, New("here", TargetKind.WEBHOOK, receiver.url), by)
        yield receiver
        with world.database.write() as session:
            session.execute(delete(NotificationTarget).where(NotificationTarget.name == "here"))


def count(world: World) -> int:
    with world.database.read() as session:
        return (
            session.scalar(select(func.count()).where(AuditRow.stage == Stage.NOTIFY_CHANGED)) or 0
        )


def target(world: World, name: str) -> NotificationTarget:
    with world.database.read() as session:
        return session.scalars(
            select(NotificationTarget).where(NotificationTarget.name == name)
        ).one()


def test_a_reader_sees_how_it_goes_without_secrets_and_is_offered_nothing(
    open_page: OpenPage, chrome: Chrome
) -> None:
    page = open_page("/notifications", READER)
    chat = page.locator("tbody tr", has_text="chat.example.com")
    for words in (
        "slack",
        "Fails since",
        f"answered 500: {MARKUP}",
    ):
        expect(chat).to_contain_text(words)
    expect(chat).to_contain_text(re.compile(r"2, the oldest since \d+ min ago"))
    mail = page.locator("tbody tr", has_text="night@example.com")
    expect(mail).to_contain_text(f"by otto: exercise {MARKUP} {LONG}")
    assert "SECRET" not in page.content()
    assert RTL[3] not in page.content()
    assert page.locator("img[src=x]").count() == 0
    expect(page.locator("a[href^='/do/']")).to_have_count(0)
    chrome.complaints.expected.append("status of 403")
    page.goto("/do/notify/test?target=chat")
    expect(page.locator("h1")).to_contain_text("403")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_test_says_what_it_will_do_and_shows_the_answer(
    scripts: bool, open_page: OpenPage, receiver: HttpReceiver
) -> None:
    receiver.text = f"thanks {MARKUP}"
    page = open_page("/notifications", OPERATOR, scripts=scripts)
    page.get_by_role("link", name="Send a test to here").click()
    expect(page.locator("main")).to_contain_text("No other target is told")
    page.get_by_label("Why").fill(WHY)
    page.locator("main button").dblclick(no_wait_after=True)
    expect(page.locator("h1")).to_contain_text("notification target here: taken")
    expect(page.locator("pre")).to_contain_text(f"thanks {MARKUP}")
    expect(page.locator("tbody tr")).to_contain_text(WHY)
    assert len(receiver.wait(1)) == 1


def test_what_is_sent_twice_is_done_once(
    dashboard: Dashboard, receiver: HttpReceiver, world: World
) -> None:
    name, value = dashboard.cookie(OPERATOR)
    form = {"target": "here", "reason": WHY, "once": str(uuid4())}
    before = count(world)
    with httpx.Client(base_url=dashboard.url, cookies={name: value}) as client:
        tests = [client.post("/do/notify/test", data=form).text for _ in range(2)]
        assert all("notification target here</bdi>: taken" in text for text in tests)
        assert len(receiver.received) == 1
        mute = form | {"end": "1h"}
        assert client.post("/do/notify/mute", data=mute).status_code == 303
        assert client.post("/do/notify/unmute", data=form).status_code == 303
        # A form of long ago, sent again by the browser's history.
        assert client.post("/do/notify/mute", data=mute).status_code == 303
    assert target(world, "here").muted_until is None
    assert count(world) == before + 3


def test_a_test_that_is_not_taken_says_why(open_page: OpenPage, receiver: HttpReceiver) -> None:
    receiver.status, receiver.text = 500, "no room"
    page = open_page("/do/notify/test?target=here", OPERATOR)
    page.get_by_label("Why").fill(WHY)
    page.locator("main button").click()
    expect(page.locator("h1")).to_contain_text("not taken")
    expect(page.get_by_role("alert")).to_contain_text("500")
    expect(page.locator("pre")).to_contain_text("no room")


def test_a_target_is_muted_and_unmuted_and_each_has_its_row(
    open_page: OpenPage, chrome: Chrome, world: World
) -> None:
    chrome.complaints.expected.append("status of 422")
    page = open_page("/notifications", OPERATOR)
    before = count(world)
    page.get_by_role("link", name="Mute ops").click()
    expect(page.locator("main")).to_contain_text("Problems that are still there are told then.")
    page.get_by_label("For how long").fill("31d")
    page.get_by_label("Why").fill(WHY)
    page.locator("main button").click()
    expect(page.get_by_role("alert")).to_contain_text("a mute lasts up to 30 days")
    assert target(world, "ops").muted_until is None
    page.get_by_label("For how long").fill("2h")
    page.locator("main button").dblclick(no_wait_after=True)
    expect(page.locator("h1")).to_contain_text("Mute notification target ops: done")
    expect(page.locator("tbody tr")).to_contain_text(WHY)
    until = target(world, "ops").muted_until
    assert until is not None
    assert 7100 < (until - datetime.now(UTC)).total_seconds() < 7300
    page.get_by_role("link", name="Go on").click()
    page.get_by_role("link", name="Unmute ops").click()
    page.get_by_label("Why").fill(WHY)
    page.locator("main button").click()
    expect(page.locator("h1")).to_contain_text("Unmute notification target ops: done")
    assert target(world, "ops").muted_until is None
    assert count(world) == before + 2


def test_what_cannot_be_is_told(open_page: OpenPage, chrome: Chrome) -> None:
    chrome.complaints.expected += ["status of 422", "status of 404"]
    page = open_page("/do/notify/mute?target=pulse", OPERATOR)
    page.get_by_label("For how long").fill("1h")
    page.get_by_label("Why").fill(WHY)
    page.locator("main button").click()
    expect(page.get_by_role("alert")).to_contain_text("a heartbeat cannot be muted")
    page.goto("/do/notify/test?target=nobody")
    expect(page.get_by_role("alert")).to_contain_text("no notification target 'nobody'")
