"""Forms of the dashboard: what is the same act, and what is refused before anything is done."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from contract.verdicts import Mode, Stage
from controller.api.context import Context
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from controller.db.models import Node
from controller.web.app import Served
from tests.fake_swarm import SHOP, node, snapshot, swarm_id
from tests.stored import put
from tests.tokens import ADMIN, give_token

ONE = swarm_id("one")


@pytest.fixture
def browser(sqlite: Database) -> Iterator[TestClient]:
    """Logged in as an admin; the Swarm has the node `one` and the network `shop`."""
    put(sqlite, snapshot(node("one"), networks=[SHOP]))
    give_token(sqlite)
    served = Served(Context(sqlite, mode=Mode.ENFORCE, notify=lambda *_: None))
    with TestClient(
        served,
        base_url="http://127.0.0.1:8479",
        headers={"Accept": "text/html"},
        follow_redirects=False,
    ) as client:
        client.post("/login", data={"token": ADMIN.text})
        yield client


def of_node(database: Database) -> Node:
    with database.read() as session:
        return session.get_one(Node, ONE)


def recorded(database: Database, stage: Stage) -> int:
    query = select(func.count()).select_from(AuditRow).where(AuditRow.stage == stage)
    with database.read() as session:
        return session.scalar(query) or 0


def test_a_form_that_was_corrected_is_another_act(browser: TestClient, sqlite: Database) -> None:
    form = {"node": ONE, "once": str(uuid4()), "reason": "a try", "mode": "enforce"}
    first = browser.post("/do/mode", data=form)
    corrected = browser.post("/do/mode", data=form | {"mode": "observe"})
    assert of_node(sqlite).mode is Mode.OBSERVE
    assert recorded(sqlite, Stage.MODE_CHANGED) == 2
    again = browser.post("/do/mode", data=form | {"mode": "observe"})
    assert again.headers["location"] == corrected.headers["location"]
    assert recorded(sqlite, Stage.MODE_CHANGED) == 2
    for answer, change in ((first, "default -&gt; enforce"), (corrected, "enforce -&gt; observe")):
        page = browser.get(answer.headers["location"]).text
        assert ": done" in page
        assert f"mode {change}" in page


def test_another_end_of_a_pause_is_another_act(browser: TestClient, sqlite: Database) -> None:
    form = {"node": ONE, "once": str(uuid4()), "reason": "a try"}
    ends = []
    for end in ("1h", "1h", "3d", ""):
        browser.post("/do/pause", data=form | {"end": end})
        ends.append(of_node(sqlite).paused_until)
    assert ends[0] == ends[1]
    assert ends[3] is None
    assert recorded(sqlite, Stage.PAUSED) == 3


def test_a_link_does_not_choose_what_is_the_same_act(browser: TestClient) -> None:
    once = str(uuid4())
    page = browser.get("/do/pause", params={"node": ONE, "once": once, "reason": "why not"})
    assert once not in page.text
    assert "why not" in page.text


@pytest.mark.parametrize("target", [{"network": "shop"}, {"network": "shop", "node": "one"}])
def test_no_breaker_is_reset_for_a_network(
    browser: TestClient, sqlite: Database, target: dict[str, str]
) -> None:
    with sqlite.write() as session:
        session.execute(update(Node).values(breaker_tripped_at=datetime.now(UTC)))
    form = target | {"once": str(uuid4()), "reason": "a try"}
    assert browser.post("/do/breaker-reset", data=form).status_code == 422
    assert of_node(sqlite).breaker_tripped_at is not None
    assert browser.post("/do/requeue", data=form).status_code == 422
