"""The HTTP API: every route on an empty and on a filled database, and whatever is thrown at it."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import psycopg
import pytest
from httpx import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DataError,
    InterfaceError,
    InternalError,
    NoResultFound,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from contract import VERSION
from contract.verdicts import Mode, Outcome, Stage, Verdict
from controller.api.app import build
from controller.api.context import Context
from controller.conditions.store import ConditionStore
from controller.conditions.summary import wrong
from controller.db.engine import Database, open_database
from controller.db.models import Device, Network, Node, Run
from controller.db.states import RunState
from controller.db.types import Base
from controller.runs.reports import ReportIntake
from controller.swarm.store import note_failure
from controller.workqueue import queue, under_way
from controller.workqueue.priorities import Priority
from tests.api_client import TestClient, assert_problem, shared_app
from tests.audit_rows import add, row
from tests.fake_clock import START
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, node, snapshot, swarm_id, task
from tests.reports import believed, device, entry, report
from tests.stored import RESYNC, claim, contents, due_row, put
from tests.tokens import give_token

ONE, TWO, OTHER = swarm_id("one"), swarm_id("two"), swarm_id("twofold")
LISTS = ["nodes", "networks", "devices", "runs"]


class Api:
    """A client of the API, and how often the dispatcher's bell was rung."""

    def __init__(self, database: Database) -> None:
        self.rung = 0
        self.client = TestClient(shared_app(database, Mode.OBSERVE, notify=self._notify))

    def get(self, path: str, **parameters: Any) -> Any:
        """GET what is there."""
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self, path: str, **parameters: Any) -> list[Any]:
        """GET the rows of a list's first page."""
        items: list[Any] = self.get(path, **parameters)["items"]
        return items

    def _notify(self, _priority: Priority | None = None, /) -> None:
        self.rung += 1


@pytest.fixture
def api(database: Database) -> Iterator[Api]:
    """The API over an empty database."""
    api = Api(database)
    yield api
    api.client.close()


@pytest.fixture
def filled(database: Database, api: Api) -> Api:
    """The API over a database with three nodes, of which one has been looked at."""
    fill(database)
    return api


def fill(database: Database) -> None:
    """Store three nodes, and what the worker of one of them says."""
    put(
        database,
        snapshot("one", "two", node("twofold"), tasks=[task("t1", "one", "shop")]),
    )
    run = claim(database, limit=1)
    (claimed,) = run.values()
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)
    name = next(each for each in ("one", "two", "twofold") if swarm_id(each) == claimed.node_id)
    told = report(
        claimed.run_id,
        node=name,
        devices=[device(1), device(2, Verdict.ORPHAN)],
        entries=[entry(1, stage=Stage.DETECTED), entry(2, stage=Stage.PLANNED)],
        journal_id=uuid4(),
        limitations=("cannot see nsid 4",),
    )
    intake.reports([believed(told)])


def looked_at(api: Api) -> str:
    """The id of the node that has been looked at."""
    found: str = api.rows("/api/v1/runs")[0]["node_id"]
    return found


@pytest.mark.parametrize("what", LISTS)
def test_lists_are_empty_before_anything_is_known(api: Api, what: str) -> None:
    assert api.get(f"/api/v1/{what}") == {"items": [], "next": None}


def test_the_audit_trail_is_empty_before_anything_happened(api: Api) -> None:
    assert api.get("/api/v1/audit") == {
        "items": [],
        "next": None,
        "searched_to": None,
        "after": 0,
        "notes": [],
    }


def test_status_before_anything_is_known(api: Api) -> None:
    answer = api.get("/api/v1/status")
    own = answer.pop("conditions")
    assert [(each["type"], each["reason"], each["looked_at"]) for each in own] == [
        ("BrokerReachable", "NotProbed", None),
        ("DatabaseWritable", "NotProbed", None),
        ("AuditKept", "NotProbed", None),
    ]
    assert answer == {
        "conditions_at": None,
        "version": VERSION,
        "mode": "observe",
        "effective_mode": "observe",
        "mode_reasons": [],
        "paused": False,
        "leader": None,
        "leading": True,
        "cluster": None,
        "readiness": {},
        "left_on_ready": {},
        "oldest_look_at": None,
        "nodes": [],
    }


def test_health_does_not_wait_for_the_swarm(api: Api) -> None:
    assert api.get("/healthz") == {"status": "ok"}


def test_ready_only_while_the_swarm_can_be_read(api: Api, database: Database) -> None:
    assert_problem(api.client.get("/readyz"), 503, "not been read yet")
    put(database)
    assert api.get("/readyz") == {"status": "ok"}
    with database.write() as session:
        note_failure(session, "no leader", START)
    assert_problem(api.client.get("/readyz"), 503, "SwarmUnreadable: no leader")
    put(database)
    assert api.get("/readyz") == {"status": "ok"}


def test_status(filled: Api) -> None:
    answer = filled.get("/api/v1/status")
    assert answer["cluster"].pop("conditions") == answer["conditions"]
    assert answer["cluster"] == {
        "swarm_id": swarm_id("swarm"),
        "data_path_port": 4789,
        "synced_at": "2030-01-01T12:00:00Z",
        "sync_error": None,
        "sync_error_at": None,
        "sync_reason": None,
        "sync_seconds": None,
        "sync_share": None,
        "sync_manager": None,
        "managers_away": None,
        "mode": None,
        "mode_at": None,
        "mode_by": None,
        "mode_reason": None,
        "paused_at": None,
        "paused_by": None,
        "paused_reason": None,
        "paused_until": None,
        "breaker_tripped_at": None,
        "breaker_reason": None,
    }
    assert answer["readiness"] == {"Unknown": {"NotJudgedYet": 3}}
    assert [each["hostname"] for each in answer["nodes"]] == ["one", "two", "twofold"]
    assert answer["nodes"] == filled.rows("/api/v1/nodes")


def test_nodes_that_share_a_hostname_say_so(api: Api, database: Database) -> None:
    put(database, snapshot("one", "two", replace(node("again"), hostname="one")))
    shared = {each["id"]: each["hostname_is_shared"] for each in api.rows("/api/v1/nodes")}
    assert shared == {swarm_id("one"): True, swarm_id("again"): True, swarm_id("two"): False}


def judge(database: Database) -> None:
    """Work the conditions out."""
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: START).step()


def test_status_shows_the_nodes_that_are_not_ready_first(filled: Api, database: Database) -> None:
    judge(database)
    answer = filled.get("/api/v1/status")
    assert answer["readiness"] == {"False": {"OrphansLeft": 1}, "Unknown": {"NeverSeen": 2}}
    assert [each["type"] for each in answer["cluster"]["conditions"]] == [
        "DesiredStateKnown",
        "RemovalsAllowed",
        "WorkersPresent",
        "MessagesBelieved",
        "NotificationsTaken",
        "BrokerReachable",
        "DatabaseWritable",
        "AuditKept",
    ]
    name = answer["nodes"][0]["hostname"]
    run = claim_again(database, name)
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)
    intake.reports([believed(report(run, node=name, devices=[device(1)]))])
    judge(database)
    answer = filled.get("/api/v1/status")
    assert answer["readiness"] == {"True": {"Converged": 1}, "Unknown": {"NeverSeen": 2}}
    assert answer["nodes"][-1]["hostname"] == name
    looks = [each["worker_seen_at"] for each in answer["nodes"] if each["worker_seen_at"]]
    assert answer["oldest_look_at"] == min(looks)
    with database.write() as session:
        session.execute(update(Node).where(Node.hostname == name).values(paused_at=START))
    answer = filled.get("/api/v1/status")
    assert answer["oldest_look_at"] is None, "nobody expects a paused node to be looked at"
    assert len(filled.get("/api/v1/status", limit=2)["nodes"]) == 2
    assert [each["hostname"] for each in filled.rows("/api/v1/nodes", ready="True")] == [name]
    assert len(filled.rows("/api/v1/nodes", ready="Unknown")) == 2


def test_status_counts_what_is_left_on_ready_nodes_that_it_does_not_list(
    api: Api, database: Database
) -> None:
    names = [f"node{number:03d}" for number in range(130)]
    put(database, snapshot(*names))
    judge(database)
    ready = {"status": "True", "reason": "Converged", "message": "m", "since": START.isoformat()}
    good = {
        "Ready": ready,
        **{each: {**ready, "status": "False"} for each in ("Degraded", "Stalled", "Paused")},
    }
    found = {
        "node127": good | {"Degraded": {**ready, "reason": "WorkerLimited"}},
        "node128": good
        | {"Degraded": {**ready, "reason": "LooksDead"}, "Paused": {**ready, "reason": "Paused"}},
        "node129": good | {"Stalled": {**ready, "reason": "BreakerTripped"}},
        # Not ready: it is in `readiness`, and not here.
        "node126": good | {"Ready": {**ready, "status": "False", "reason": "OrphansLeft"}}
        | {"Degraded": {**ready, "reason": "OrphansLeft"}},
    }  # fmt: skip
    with database.write() as session:
        for node in session.scalars(select(Node)):
            node.conditions = found.get(node.hostname, good)
    answer = api.get("/api/v1/status", limit=2)
    assert answer["readiness"] == {"False": {"OrphansLeft": 1}, "True": {"Converged": 129}}
    assert answer["left_on_ready"] == {"WorkerLimited": 1, "LooksDead": 1, "BreakerTripped": 1}
    assert [each["hostname"] for each in answer["nodes"]] == ["node126", "node127"]
    told = "; ".join(wrong(answer))
    assert (
        "something is left on 3 nodes that are ready (1 BreakerTripped, 1 LooksDead, 1 Wo" in told
    )
    with database.write() as session:
        for node in session.scalars(select(Node)):
            node.conditions = good
    assert api.get("/api/v1/status", limit=2)["left_on_ready"] == {}


def claim_again(database: Database, name: str) -> UUID:
    """Start another run of a node."""
    with database.write() as session:
        queue.request(session, [swarm_id(name)], at=START, priority=Priority.MANUAL, reason="again")
    return claim(database)[swarm_id(name)].run_id


def test_a_node_that_was_looked_at(filled: Api, database: Database) -> None:
    found = filled.get(f"/api/v1/nodes/{looked_at(filled)}")
    with database.read():
        row = due_row(database, found["hostname"])
    assert row.due_at is not None
    assert found == {
        "id": swarm_id(found["hostname"]),
        "hostname": found["hostname"],
        "hostname_is_shared": False,
        "role": "worker",
        "availability": "active",
        "state": "ready",
        "address": "192.0.2.1",
        "generation": 2,
        "attempted_generation": 2,
        "converged_generation": 2,
        "worker_version": "1.2.3",
        "worker_seen_at": "2030-01-01T12:00:00Z",
        "last_error": None,
        "last_run": {
            "id": filled.rows("/api/v1/runs")[0]["id"],
            "state": "succeeded",
            "at": "2030-01-01T12:00:00Z",
            "error": None,
        },
        "limitations": ["cannot see nsid 4"],
        "failures": 0,
        "running": None,
        "due_at": row.due_at.isoformat().replace("+00:00", "Z"),
        "due_reasons": ["resync"],
        "devices": {"in_use": 1, "orphan": 1},
        "missing": [],
        "label_mode": None,
        "label_ignore": False,
        "mode": None,
        "mode_at": None,
        "mode_by": None,
        "mode_reason": None,
        "paused_at": None,
        "paused_by": None,
        "paused_reason": None,
        "paused_until": None,
        "breaker_tripped_at": None,
        "breaker_reason": None,
        "conditions": [],
        "attachments": found["attachments"],
        "seen": filled.rows("/api/v1/devices"),
    }
    assert found["attachments"][0]["network_name"] == "ingress"


def test_a_node_with_what_it_should_carry(filled: Api) -> None:
    assert filled.get("/api/v1/nodes/one")["attachments"] == [
        {
            "network_id": INGRESS.id,
            "network_name": "ingress",
            "reasons": ["ingress"],
            "running": False,
        },
        {
            "network_id": SHOP.id,
            "network_name": "shop",
            "reasons": [f"task {swarm_id('t1')}"],
            "running": True,
        },
    ]


def test_a_network_with_who_should_carry_it(filled: Api) -> None:
    found = filled.get("/api/v1/networks/shop")
    assert (found["id"], found["vnis"], found["nodes"], found["mode"]) == (SHOP.id, [4097], 1, None)
    assert found["carriers"] == [
        {
            "node_id": ONE,
            "node_name": "one",
            "reasons": [f"task {swarm_id('t1')}"],
            "running": True,
        }
    ]
    assert found["seen"] == filled.rows("/api/v1/devices")
    assert filled.get("/api/v1/networks/mail")["seen"] == []
    assert filled.get("/api/v1/networks/ingr")["id"] == INGRESS.id


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("nosuch", 404),
        ("%00", 404),
        ("%25", 404),
        ("SHOP", 404),
        ("%ED%A0%80", 404),
        ("x" * 255, 404),
        ("x" * 256, 422),
        ("twin", 409),
    ],
)
def test_a_name_of_no_network_or_several(
    filled: Api, database: Database, name: str, status: int
) -> None:
    twins = [network("twin", 5001), replace(network("other", 5002), name="twin")]
    put(database, snapshot(networks=[INGRESS, SHOP, MAIL, *twins]))
    if name == "twin":
        # An id that is meant exactly goes before names.
        assert filled.get(f"/api/v1/networks/{twins[0].id}")["name"] == "twin"
    for route in ("/api/v1/networks/{}", "/api/v1/devices?network={}"):
        assert_problem(filled.client.get(route.format(name)), status, "")


def test_a_run_that_failed_is_told_with_its_error(filled: Api, database: Database) -> None:
    run = claim_again(database, "one")
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)
    told = report(run, outcome=Outcome.FAILED, error="no capability")
    intake.reports([believed(told)])
    last = filled.get("/api/v1/nodes/one")["last_run"]
    assert (last["state"], last["error"]) == ("failed", "no capability")


def pages(api: Api, path: str, **parameters: Any) -> list[Any]:
    """All rows, in pages of one row."""
    rows: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get(path, limit=1, **parameters, **cursor)
        assert len(page["items"]) == 1
        rows += page["items"]
        if page["next"] is None:
            return rows
        cursor = {"cursor": page["next"]}


PAGED = ["/api/v1/nodes", "/api/v1/networks", "/api/v1/devices", "/api/v1/runs"]


@pytest.fixture
def many(filled: Api, database: Database) -> Api:
    """The API over several rows of each list."""
    for _ in range(3):
        claim_again(database, "one")
        with database.write() as session:
            under_way.expire(session, now=START + timedelta(hours=1), resync=RESYNC)
    # Several of one name, of several ids: then the id decides.
    put(database, snapshot(*(replace(node(f"same{n}"), hostname="same") for n in range(3)), "one"))
    return filled


@pytest.mark.parametrize("path", PAGED)
def test_lists_are_paged_without_a_gap_or_a_repeat(many: Api, path: str) -> None:
    whole = many.rows(path)
    assert len(whole) > 1
    assert pages(many, path) == whole


@pytest.mark.parametrize(("path", "table"), zip(PAGED, (Node, Network, Device, Run), strict=True))
def test_a_cursor_outlives_its_row(
    many: Api, database: Database, path: str, table: type[Base]
) -> None:
    first = many.get(path, limit=1)
    second = many.rows(path)[1]
    row = first["items"][0]
    with database.write() as session:
        if table is Device:
            gone = (Device.node_id == row["node_id"]) & (Device.ifindex == row["ifindex"])
            session.execute(delete(Device).where(gone))
        else:
            key = UUID(row["id"]) if table is Run else row["id"]
            session.delete(session.get_one(table, key))
    assert many.rows(path, limit=1, cursor=first["next"]) == [second]


@pytest.mark.parametrize("path", PAGED)
def test_a_cursor_is_good_for_its_list_and_parameters(many: Api, path: str) -> None:
    cursor = many.get(path, limit=1)["next"]
    for other in PAGED:
        answer = many.client.get(other, params={"cursor": cursor})
        if other != path:
            assert_problem(answer, 404, "cursor: ")
    parameters = {
        "/api/v1/nodes": {"ready": "Unknown"},
        "/api/v1/devices": {"node": "one"},
        "/api/v1/runs": {"node": "one"},
    }
    if path in parameters:
        answer = many.client.get(path, params=parameters[path] | {"cursor": cursor})
        assert_problem(
            answer, 404, "cursor: belongs to a request with other parameters", hint="repeat"
        )


def test_pages_of_a_filtered_list(many: Api) -> None:
    whole = many.rows("/api/v1/runs", node="one")
    assert len(whole) > 1
    assert pages(many, "/api/v1/runs", node="one") == whole


def test_devices_and_runs_of_a_kind(filled: Api) -> None:
    assert [each["ifindex"] for each in filled.rows("/api/v1/devices", verdict="orphan")] == [2]
    assert filled.rows("/api/v1/devices", verdict="conflict") == []
    assert len(filled.rows("/api/v1/runs", state="succeeded")) == 1
    assert filled.rows("/api/v1/runs", state="lost") == []


def test_networks(filled: Api) -> None:
    assert [
        (each["name"], each["id"], each["ingress"], each["vnis"], each["nodes"])
        for each in filled.rows("/api/v1/networks")
    ] == [
        ("ingress", INGRESS.id, True, [4096], 3),
        ("mail", MAIL.id, False, [4098], 0),
        ("shop", SHOP.id, False, [4097], 1),
    ]


def test_devices(filled: Api) -> None:
    first, second = filled.rows("/api/v1/devices")
    assert (first["ifindex"], first["verdict"], first["urgency"]) == (1, "in_use", None)
    assert (second["ifindex"], second["verdict"], second["urgency"]) == (2, "orphan", "blocking")
    assert first["node_id"] == looked_at(filled)
    assert (first["reason"], first["evidence"]) == ("reason", "what")


def test_runs(filled: Api) -> None:
    (run,) = filled.rows("/api/v1/runs")
    assert (run["state"], run["devices"], run["orphans"], run["removed"]) == ("succeeded", 2, 1, 0)
    assert run["reasons"] == ["new node", "desired state changed"]


@pytest.mark.parametrize("what", ["devices", "runs"])
def test_lists_of_one_node(filled: Api, what: str) -> None:
    mine = looked_at(filled)
    other = next(each for each in (ONE, TWO, OTHER) if each != mine)
    assert filled.rows(f"/api/v1/{what}", node=mine) == filled.rows(f"/api/v1/{what}")
    assert filled.rows(f"/api/v1/{what}", node=other) == []
    assert len(filled.rows(f"/api/v1/{what}", limit=1)) == 1


@pytest.mark.parametrize(
    ("given_as", "found"),
    [
        pytest.param(ONE, ONE, id="an id"),
        pytest.param("on", ONE, id="a prefix"),
        pytest.param("one", ONE, id="a hostname"),
        pytest.param(OTHER, OTHER, id="an id that another begins like"),
        pytest.param("twof", OTHER, id="a prefix of one of two"),
    ],
)
def test_a_node_may_be_given_in_three_ways(filled: Api, given_as: str, found: str) -> None:
    assert filled.get(f"/api/v1/nodes/{given_as}")["id"] == found


NODE_ROUTES: list[tuple[str, str]] = [
    ("GET", "/api/v1/nodes/{}"),
    ("POST", "/api/v1/nodes/{}/requeue"),
    ("GET", "/api/v1/devices?node={}"),
    ("GET", "/api/v1/runs?node={}"),
    ("GET", "/api/v1/audit?node={}"),
]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        pytest.param("nosuch", 404, id="unknown"),
        pytest.param("tw", 409, id="a prefix of two"),
        pytest.param("two", 409, id="a hostname and a prefix"),
        pytest.param("%00", 404, id="NUL"),
        pytest.param("one%00", 404, id="NUL at the end"),
        pytest.param("%25", 404, id="LIKE: any"),
        pytest.param("___", 404, id="LIKE: one"),
        pytest.param("%5C", 404, id="a backslash"),
        pytest.param("ONE", 404, id="capitals"),
        pytest.param("%20one", 404, id="a blank"),
        pytest.param("%F0%9F%92%A5", 404, id="an emoji"),
        pytest.param("%ff%fe", 404, id="not UTF-8"),
        pytest.param("%ED%A0%80", 404, id="half a character"),
        pytest.param("'%20OR%201=1%20--", 404, id="SQL"),
        pytest.param("..%2F..%2Fetc%2Fpasswd", 404, id="a path"),
        pytest.param("x" * 255, 404, id="long"),
        pytest.param("x" * 256, 422, id="too long"),
    ],
)
def test_a_name_of_no_node_or_several(
    filled: Api, database: Database, name: str, status: int
) -> None:
    before = contents(database)
    for method, route in NODE_ROUTES:
        if "audit" in route and name == "two":
            continue  # The trail searches for a name that a node has or had before it tries prefixes of ids.
        assert_problem(filled.client.request(method, route.format(name)), status, "")
    assert contents(database) == before
    assert filled.rung == 0


def test_the_trail_prefers_a_name_to_a_prefix_of_an_id(filled: Api) -> None:
    answer = filled.client.get("/api/v1/audit", params={"node": "two"})
    assert answer.status_code == 200, answer.text
    assert {row["node"] for row in answer.json()["items"]} <= {"two"}


def test_an_ambiguous_name_lists_who_could_be_meant(filled: Api) -> None:
    answer = filled.client.get("/api/v1/nodes/tw")
    assert_problem(answer, 409, f"twofold ({OTHER}), two ({TWO})")


@pytest.mark.parametrize(("method", "route"), NODE_ROUTES[:2])
def test_an_empty_name_is_not_every_node(filled: Api, method: str, route: str) -> None:
    answer = filled.client.request(method, route.format(""), follow_redirects=False)
    assert answer.status_code in (307, 404, 405)


def test_a_node_that_is_gone_is_unknown(filled: Api, database: Database) -> None:
    put(database, snapshot("two"))
    assert_problem(filled.client.get("/api/v1/nodes/one"), 404, "'one'")
    assert [each["id"] for each in filled.rows("/api/v1/nodes")] == [TWO]


@pytest.mark.parametrize(
    "query",
    [
        "runs?limit=0",
        "runs?limit=1001",
        "runs?limit=x",
        "devices?limit=-1",
        "devices?limit=1.5",
        "nodes?limit=1001",
        "nodes?after=x",
        "nodes?ready=maybe",
        "networks?limit=0",
        "networks?after=x",
        "networks?cursor=%00",
        "devices?after=one",
        "devices?cursor=" + "A" * 4097,
        "devices?verdict=dead",
        "runs?before=x",
        "runs?cursor=",
        "runs?node=one&node=two",
        "runs?state=dead",
        "status?limit=0",
    ],
)
def test_a_bad_parameter_is_named(filled: Api, query: str) -> None:
    name = query.partition("?")[2].partition("=")[0]
    assert_problem(filled.client.get(f"/api/v1/{query}"), 422, f"{name}: ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nosuch", 404),
        ("GET", "/api/v1/", 404),
        ("DELETE", "/api/v1/nodes/one", 405),
        ("GET", "/api/v1/nodes/one/requeue", 405),
        ("POST", "/api/v1/status", 405),
    ],
)
def test_other_errors_are_problems_too(filled: Api, method: str, path: str, status: int) -> None:
    assert_problem(filled.client.request(method, path), status, path, hint="/openapi.json")


def test_the_api_describes_itself(api: Api) -> None:
    paths = api.get("/openapi.json")["paths"]
    assert {f"/api/v1/{what}" for what in LISTS} < paths.keys()
    assert "/api/v1/nodes/{node}/requeue" in paths


def test_every_path_reaches_its_own_handler(sqlite: Database) -> None:
    """The first path that matches answers, so the order in which routes are added counts."""
    give_token(sqlite)
    app = build(Context(sqlite, mode=Mode.OBSERVE, notify=lambda *_: None))
    reached: list[str] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        reached.append(scope["endpoint"].__name__)

    client = TestClient(watched)
    expected = []
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            client.request(method, re.sub("{.*?}", "1", path))
            expected.append(operation["operationId"])
    assert reached == expected
    assert len(set(expected)) == len(expected) > 20


def _lose(database_url: str) -> None:
    """Take the database away, as a crash of its machine does."""
    url = make_url(database_url)
    if url.drivername == "sqlite":
        file = Path(str(url.database))
        for each in file.parent.glob(f"{file.name}*"):
            each.unlink()
        file.mkdir()
        return
    maintenance = {"host": url.query["host"], "user": "test", "dbname": "postgres"}
    with psycopg.connect(**maintenance, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(f'DROP DATABASE "{url.database}" WITH (FORCE)'.encode())


def test_without_its_database_it_says_so(database_url: str) -> None:
    database = open_database(database_url)
    fill(database)
    api = Api(database)
    database.engine.dispose()
    _lose(database_url)
    for path in (
        "/readyz",
        "/api/v1/status",
        *(f"/api/v1/{what}" for what in [*LISTS, "audit", "audit/stats"]),
    ):
        assert_problem(api.client.get(path), 503, "database cannot be used")
    answer = api.client.post("/api/v1/nodes/one/requeue")
    assert_problem(answer, 503, "database cannot be used")
    assert api.get("/healthz") == {"status": "ok"}
    assert api.rung == 0
    database.close()


def fail(api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Response:
    """The answer when the database says this."""

    def fails(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("controller.views.queries.runs", fails)
        answer: Response = api.client.get("/api/v1/runs")
    return answer


TOLD = Exception("it is in the way\nLINE 1: SELECT 's3cr3t'")
"""What a driver says."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OperationalError("SELECT 's3cr3t'", {}, TOLD), "it is in the way"),
        (InterfaceError("SELECT 's3cr3t'", {}, TOLD), "it is in the way"),
        (
            InternalError("SELECT 's3cr3t'", {}, TOLD, connection_invalidated=True),
            "it is in the way",
        ),
        (PoolTimeoutError("no connection is free", code="3o7r"), "no connection is free"),
        (OperationalError("SELECT 's3cr3t'", {}, Exception()), "OperationalError"),
    ],
    ids=repr,
)
def test_a_database_that_is_away_is_told_in_its_own_words_and_logged_once_in_a_while(
    database: Database, api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    # Of its own: another has told of it a moment ago.
    api.client = TestClient(build(Context(database, mode=Mode.OBSERVE, notify=lambda *_: None)))
    with capture_logs() as logs:
        answers = [fail(api, monkeypatch, error) for _ in range(3)]
    for answer in answers:
        assert_problem(answer, 503, f"database cannot be used: {words}", hint="try again soon")
    (line,) = logs
    assert (line["log_level"], line["error"], line["path"]) == ("warning", words, "/api/v1/runs")
    assert "exc_info" not in line


@pytest.mark.parametrize(
    "error",
    [
        ProgrammingError("SELECT", {}, Exception("no such column: s3cr3t")),
        DataError("SELECT", {}, Exception("out of range: s3cr3t")),
        NoResultFound("s3cr3t"),
        KeyError("s3cr3t"),
        RuntimeError("s3cr3t"),
        OSError(28, "s3cr3t"),
    ],
    ids=repr,
)
def test_what_no_second_try_can_help_is_an_error_of_the_controller_and_in_its_log(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with capture_logs() as logs:
        answer = fail(api, monkeypatch, error)
    (line,) = logs
    assert (line["log_level"], line["exc_info"]) == ("error", error)
    assert_problem(answer, 500, f"error_id {line['error_id']}")
    assert "s3cr3t" not in answer.text


def test_a_table_that_is_missing_is_not_told_as_a_database_that_is_away(
    database_url: str,
) -> None:
    with closing(open_database(database_url)) as database:
        with database.engine.begin() as connection:
            connection.execute(text("DROP TABLE requeues"))
        answer = Api(database).client.get("/api/v1/requeues/token")
    assert_problem(answer, 500, "error_id")


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path / 'c.db'}")) as database:
        fill(database)
        database.engine.dispose()
        event.listen(database.engine, "connect", leave_no_room)
        client = Api(database).client
        said = ({"reason": f"{number} {'why ' * 100}"} for number in range(100))
        answers = (client.post("/api/v1/nodes/one/requeue", json=body) for body in said)
        full = next(answer for answer in answers if not answer.is_success)
        assert_problem(full, 503, "database or disk is full")


def leave_no_room(connection: sqlite3.Connection, _record: object) -> None:
    """Let the file grow no more."""
    connection.execute("PRAGMA max_page_count = 1")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Response]]:
    """An API that many examples share: method and path to its answer."""
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('api') / 'c.db'}")
    put(database)
    with TestClient(build(Context(database, mode=Mode.ENFORCE, notify=lambda *_: None))) as client:
        yield client.request
    database.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    route=st.sampled_from(
        [
            *NODE_ROUTES,
            ("GET", "/api/v1/audit?cursor={}&limit={}"),
            ("GET", "/api/v1/networks/{}"),
            ("GET", "/api/v1/nodes?cursor={}&ready={}"),
            ("GET", "/api/v1/devices?cursor={}"),
            ("GET", "/api/v1/devices?network={}"),
            ("GET", "/api/v1/runs?cursor={}"),
            ("GET", "/{}"),
        ]
    ),
    text=st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1")), st.integers()),
)
def test_no_request_is_an_internal_error(
    lasting: Callable[[str, str], Response], route: tuple[str, str], text: str | int
) -> None:
    method, template = route
    name = quote(str(text), safe="", errors="surrogatepass")
    answer = lasting(method, template.replace("{}", name))
    assert answer.status_code in (200, 202, 307, 404, 405, 409, 422)


def test_rows_of_nodes_that_share_a_hostname_say_so_even_if_the_other_has_no_row(
    api: Api, database: Database
) -> None:
    put(database, snapshot("one", "two", replace(node("again"), hostname="one")))
    with database.write() as session:
        for number, name in enumerate(("one", "two"), 1):
            session.add(
                Device(
                    node_id=swarm_id(name),
                    netns="host",
                    ifindex=number,
                    name="vx-001001-abcde",
                    vni=1,
                    port=4789,
                    verdict=Verdict.ORPHAN,
                    reason="r",
                    evidence="e",
                    first_seen_at=START,
                    judged_at=START,
                    verdict_at=START,
                )
            )
            session.add(
                Run(
                    id=uuid4(), node_id=swarm_id(name), state=RunState.LOST, priority=0, reasons=[],
                    generation=1, requested_at=START, deadline=START, closed_at=START,
                )
            )  # fmt: skip
    add(database, *(row(START, node=name) for name in ("one", "two")))

    def shared(path: str) -> dict[str, bool]:
        rows = api.rows(f"/api/v1/{path}", limit=100)
        return {each["node_id"]: each["node_name_is_shared"] for each in rows if each["node_id"]}

    for path in ("devices", "suppressed", "runs", "events", "audit"):
        assert shared(path) == {ONE: True, TWO: False}, path
    assert shared("diff") == {ONE: True, TWO: False, swarm_id("again"): True}
    # The record knows of nodes that are gone; a list of what is there does not ask them.
    put(database, snapshot("one", "two"))
    for path, is_history in (("devices", False), ("runs", True), ("events", True), ("audit", True)):
        assert shared(path)[ONE] is is_history, path
