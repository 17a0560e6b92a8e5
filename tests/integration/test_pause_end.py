"""A pause that ends by itself: over HTTP, on real rows, by the clock of the database."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from contract.verdicts import Mode
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Cluster, DueNode, Network, Node
from controller.db.states import RunState
from controller.safety.expiry import PauseExpiry
from tests.api_client import TestClient, assert_problem, shared_app
from tests.fake_swarm import snapshot, swarm_id, task
from tests.stored import RESYNC, audit, claim, finish, node_row, put

NODE = "/api/v1/nodes/one"
TARGETS = [NODE, "/api/v1/networks/shop", "/api/v1/cluster"]
HOUR = timedelta(hours=1)


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    """The API over two nodes with nothing due."""
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    with database.write() as session:
        session.execute(update(DueNode).values(due_at=None, reasons=[]))
    with TestClient(shared_app(database)) as client:
        yield client


def pause(client: TestClient, path: str = NODE, **body: Any) -> Any:
    """Pause, and return the answer."""
    answer = client.post(f"{path}/pause", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def let_pass(database: Database, time: timedelta) -> None:
    """Make all ends of pauses earlier by this time."""
    with database.write() as session:
        rows: list[Cluster | Node | Network] = [
            *session.scalars(select(Cluster)),
            *session.scalars(select(Node)),
            *session.scalars(select(Network)),
        ]
        for row in rows:
            if row.paused_until is not None:
                row.paused_until -= time


def expire(database: Database) -> int:
    """Carry out a step of the leader; return how often it notified."""
    notified: list[object] = []
    PauseExpiry(database, lambda *_: notified.append(1)).step()
    return len(notified)


@pytest.mark.parametrize("path", TARGETS)
def test_a_pause_ends_by_itself_and_the_audit_trail_says_so(
    database: Database, client: TestClient, path: str
) -> None:
    before = datetime.now(UTC)
    answer = pause(client, path, seconds=3600, actor="ann", reason="a new disk")
    end = datetime.fromisoformat(answer["paused_until"])
    assert timedelta(0) <= end - before - HOUR < timedelta(minutes=1)
    assert any(f"until {end:%Y-%m-%d %H:%M:%S} UTC: a new disk" in why for why in answer["reasons"])
    let_pass(database, HOUR - timedelta(seconds=60))
    assert expire(database) == 0
    assert client.post(f"{path}/pause", json={}).json()["paused"]

    pause(client, path, seconds=3600)
    let_pass(database, HOUR)
    assert expire(database) == 1
    assert expire(database) == 0
    row = audit(database)[-1]
    assert (row.stage, row.actor) == ("resumed", "controller")
    assert "its time is over" in row.reason
    assert "paused by admin (as ann) until" in row.reason
    again = client.post(f"{path}/resume", json={}).json()
    assert (again["changed"], again["paused"]) == (False, False)
    if path != TARGETS[1]:  # No device of `shop` is known.
        with database.read() as session:
            assert session.get_one(DueNode, swarm_id("one")).reasons[-1] == "the pause has ended"


def test_a_paused_node_runs_again_after_the_end(database: Database, client: TestClient) -> None:
    pause(client, seconds=60)
    told = claim(database, now=datetime.now(UTC))
    assert set(told) == {swarm_id("one")}
    with database.write() as session:
        run_id = told[swarm_id("one")].run_id
        finish(session, run_id, RunState.SUCCEEDED, now=datetime.now(UTC), resync=RESYNC)
    client.post("/api/v1/cluster/mode", json={"mode": "observe"})  # Makes both due.
    assert set(claim(database, now=datetime.now(UTC))) == {swarm_id("two")}
    let_pass(database, timedelta(seconds=60))
    expire(database)
    assert set(claim(database, now=datetime.now(UTC))) == {swarm_id("one")}


def test_the_end_is_in_the_condition(database: Database, client: TestClient) -> None:
    end = datetime.fromisoformat(pause(client, seconds=60)["paused_until"])
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC).step()
    message = node_row(database).conditions["Paused"]["message"]
    assert f"{end:%Y-%m-%d %H:%M:%S} UTC" in message


def test_another_end_counts_and_is_recorded(database: Database, client: TestClient) -> None:
    end = (datetime.now(UTC) + HOUR).isoformat()
    assert pause(client, until=end, actor="ann")["changed"]
    assert not pause(client, until=end, actor="bob")["changed"]
    answer = pause(client, actor="bob")
    assert (answer["changed"], answer["paused_until"], answer["paused_by"]) == (
        True,
        None,
        "admin (as ann)",
    )
    assert [row.claimed_name for row in audit(database)] == ["ann", "bob"]
    let_pass(database, 2 * HOUR)
    assert expire(database) == 0


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"seconds": 0}, 422, "seconds"),
        ({"seconds": 1e300}, 422, "seconds"),
        ({"seconds": "NaN"}, 422, "seconds"),
        ({"seconds": "60"}, 422, "seconds"),
        ({"until": 4102444800}, 422, "until"),
        ({"until": "2030-01-01T00:00:00"}, 422, "until"),
        ({"until": "2000-01-01T00:00:00Z"}, 409, "must be in the future"),
        ({"until": "9999-12-31T23:59:59-14:00"}, 409, "until"),
        ({"until": "0001-01-01T00:00:00+14:00"}, 409, "until"),
        ({"seconds": 1, "until": "2999-01-01T00:00:00Z"}, 409, "cannot be combined"),
    ],
)
def test_an_impossible_end_is_refused(
    database: Database, client: TestClient, body: dict[str, Any], status: int, detail: str
) -> None:
    assert_problem(client.post(f"{NODE}/pause", json=body), status, detail)
    assert node_row(database).paused_at is None
