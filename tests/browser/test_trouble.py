"""A dashboard whose controller lost its database, its leader or its Swarm says so where a person looks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import delete, func, select, update

from controller.db.audit_models import AuditRow
from controller.db.models import Cluster, Lease
from controller.swarm.store import note_failure
from tests.browser.chromium import Chrome
from tests.browser.dashboard import Dashboard, database_away
from tests.browser.world import HEALTHY, OPERATOR, READER, node_id

WHY = "ticket 4713"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the database that goes away."""
    return tmp_path_factory.mktemp("troubled") / "database"


@pytest.fixture(scope="module")
def troubled(folder: Path) -> Iterator[Dashboard]:
    """A dashboard of a controller that does not lead; nobody does."""
    folder.mkdir()
    with Dashboard(folder, leading=lambda: False) as dashboard:
        dashboard.world.fill()
        with dashboard.database.write() as session:
            session.execute(delete(Lease))
        yield dashboard


@pytest.fixture
def its(troubled: Dashboard, browser: Browser) -> Iterator[Chrome]:
    """Opens its pages, which complain of nothing but the database."""
    chrome = Chrome(browser, troubled)
    chrome.complaints.expected.append("status of 503")
    yield chrome
    assert chrome.complaints.unexpected() == []


@pytest.mark.parametrize("path", ["/", "/safety", "/audit", f"/nodes/{node_id(HEALTHY[0])}"])
def test_a_database_that_is_away_is_told_on_every_page(
    path: str, its: Chrome, troubled: Dashboard, folder: Path
) -> None:
    with its.page(READER) as page, database_away(troubled, folder):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 503
        expect(page.get_by_role("alert")).to_contain_text("database cannot be used: unable to open")


def test_what_was_typed_outlives_a_database_that_is_away(
    its: Chrome, troubled: Dashboard, folder: Path
) -> None:
    with its.page(OPERATOR) as page:
        page.goto(f"/do/pause?node={node_id(HEALTHY[0])}")
        page.get_by_label("For how long").fill("2h")
        page.get_by_label("Why").fill(WHY)
        with database_away(troubled, folder):
            page.locator("main button").click()
            expect(page.get_by_role("alert")).to_contain_text("database cannot be used")
            expect(page.locator("main")).to_contain_text("Nothing was done")
        page.get_by_role("button", name="Send it again").click()
        expect(page.locator("h1")).to_contain_text("done")
        expect(page.locator("tbody tr")).to_contain_text(WHY)
    with troubled.database.read() as session:
        paused = select(func.count()).where(AuditRow.reason.endswith(WHY))
        assert session.scalar(paused) == 1


def test_a_request_that_no_leader_sends_says_so(its: Chrome) -> None:
    with its.page(OPERATOR) as page:
        page.goto(f"/do/requeue?node={node_id(HEALTHY[1])}")
        page.get_by_label("Why").fill(WHY)
        page.locator("main button").click()
        expect(page.locator("main")).to_contain_text(
            "no controller leads; it is sent when one does"
        )


def test_no_leader_is_on_the_first_page(its: Chrome, troubled: Dashboard) -> None:
    # Nobody derives the conditions again, so they hold for some seconds only.
    over = datetime.now(UTC) - timedelta(seconds=1)
    with troubled.database.write() as session:
        session.execute(update(Cluster).values(conditions_at=over, conditions_until=over))
    try:
        with its.page(READER) as page:
            page.goto("/")
            expect(page.locator("main")).to_contain_text("no controller leads")
            expect(page.locator("dd", has_text="none at the moment")).to_be_visible()
    finally:
        troubled.world.conclude()


def test_a_swarm_that_cannot_be_read_is_on_the_first_page(its: Chrome, troubled: Dashboard) -> None:
    with troubled.database.write() as session:
        note_failure(session, "connection refused: the manager's dockerd", datetime.now(UTC))
    troubled.world.conclude()
    with its.page(READER) as page:
        page.goto("/")
        expect(page.locator("main")).to_contain_text("connection refused: the manager's dockerd")
