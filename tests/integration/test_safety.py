"""What people decide: over HTTP, on real rows, and in the requests that follow."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from httpx import Response
from sqlalchemy import update
from sqlalchemy.orm import Session

from contract.messages import NetworkRef, ReconcileRequest
from contract.verdicts import Mode, Verdict
from controller.db import lookup
from controller.db.engine import Database
from controller.db.models import (
    Cluster,
    Device,
    DueNode,
    Network,
    Node,
    Run,
)
from controller.db.states import RunState
from controller.runs import requests as told
from controller.runs.dispatch import Dispatcher
from controller.safety import breaker, decisions
from controller.safety.breaker import BreakerLimits
from controller.safety.decisions import Decision, Target
from controller.workqueue.priorities import Priority
from tests.api_client import TestClient, assert_problem, shared_app
from tests.fake_clock import START
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, snapshot, swarm_id, task
from tests.signed import keyring
from tests.stored import RESYNC, TIMEOUT, audit, contents, node_row, put
from tests.tokens import person

ONE, TWO = swarm_id("one"), swarm_id("two")
LIMITS = BreakerLimits(window=timedelta(days=3_650), node_removals=7)

NODE = "/api/v1/nodes/one"
NET = "/api/v1/networks/shop"
CLUSTER = "/api/v1/cluster"
TARGETS = [NODE, NET, CLUSTER]


class Api:
    """A client of the API over a database with two nodes, and how often it rang."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rung = 0
        self.client = TestClient(shared_app(database, notify=self._notify, breaker=LIMITS))

    def _notify(self, _priority: Priority | None = None, /) -> None:
        self.rung += 1

    def post(self, path: str, **body: Any) -> Response:
        """POST a decision."""
        headers = person(self.database, body)
        answer: Response = self.client.post(path, json=body, headers=headers)
        return answer

    def decide(self, path: str, **body: Any) -> Any:
        """POST one that is taken; its answer."""
        answer = self.post(path, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def due(self) -> dict[str, list[str]]:
        """Why nodes are due."""
        with self.database.read() as session:
            return {
                name: session.get_one(DueNode, swarm_id(name)).reasons for name in ("one", "two")
            }


@pytest.fixture
def api(database: Database) -> Iterator[Api]:
    """Two nodes with nothing due; one of them shows a device of network `shop`."""
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    show_device(database, ONE, 4097)
    with database.write() as session:
        session.execute(update(DueNode).values(due_at=None, reasons=[]))
    api = Api(database)
    yield api
    api.client.close()


def show_device(database: Database, node: str, vni: int) -> None:
    """Store an orphan of a node."""
    with database.write() as session:
        session.add(
            Device(
                node_id=node,
                netns="host",
                ifindex=vni,
                name=f"vx-{vni:06x}-shopz",
                vni=vni,
                port=4789,
                verdict=Verdict.IN_USE,
                reason="reason",
                evidence="what",
                first_seen_at=START,
                judged_at=START,
                verdict_at=START,
            )
        )


def removing_run(removed: int, at: datetime = START) -> Run:
    """A run of node `one` that removed so many."""
    return Run(
        id=uuid4(),
        node_id=ONE,
        state=RunState.SUCCEEDED,
        priority=0,
        reasons=[],
        generation=1,
        requested_at=START,
        deadline=START,
        closed_at=at,
        removed=removed,
    )


def row(database: Database, path: str) -> Node | Network | Cluster:
    """What a path is about."""
    with database.read() as session:
        if path == CLUSTER:
            return session.get_one(Cluster, 1)
        return session.get_one(Node, ONE) if path == NODE else session.get_one(Network, SHOP.id)


NAMES = {NODE: "node one", NET: "network shop", CLUSTER: "the cluster"}
LOOKED_AT = {NODE: ["one"], NET: ["one"], CLUSTER: ["one", "two"]}


def looked_at(api: Api) -> list[str]:
    """The nodes that became due."""
    return [name for name, reasons in api.due().items() if reasons]


@pytest.mark.parametrize("path", TARGETS)
def test_pausing_and_resuming(api: Api, path: str) -> None:
    answer = api.decide(f"{path}/pause", actor="alice@desk", reason="a new disk")
    assert answer["changed"] is True
    assert answer["name"] == NAMES[path]
    assert (answer["paused"], answer["effective_mode"]) == (True, "observe")
    assert answer["reasons"] == [f"{NAMES[path]} is paused by alice@desk: a new disk"]
    paused = row(api.database, path)
    assert (paused.paused_by, paused.paused_reason) == ("alice@desk", "a new disk")
    assert paused.paused_at is not None
    assert looked_at(api) == LOOKED_AT[path], "the workers hear of it"

    answer = api.decide(f"{path}/resume", actor="bob")
    assert (answer["changed"], answer["paused"], answer["paused_at"]) == (True, False, None)
    assert answer["effective_mode"] == "enforce"
    resumed = row(api.database, path)
    assert (resumed.paused_at, resumed.paused_by, resumed.paused_reason) == (None, None, None)
    assert looked_at(api) == LOOKED_AT[path]
    assert api.rung == 2

    assert [(each.stage, each.actor, each.reason) for each in audit(api.database)] == [
        ("paused", "alice@desk", f"{NAMES[path]}: not paused -> paused: a new disk"),
        ("resumed", "bob", f"{NAMES[path]}: paused by alice@desk: a new disk -> not paused"),
    ]
    first = audit(api.database)[0]
    assert (first.node_name, first.network_name) == (
        "one" if path == NODE else None,
        "shop" if path == NET else None,
    )


@pytest.mark.parametrize("path", TARGETS)
def test_setting_modes(api: Api, path: str) -> None:
    changes = [("observe", "default"), ("enforce", "observe"), ("default", "enforce")]
    for mode, before in changes:
        answer = api.decide(f"{path}/mode", mode=mode, actor="alice")
        assert answer["mode"] == (None if mode == "default" else mode)
        assert answer["effective_mode"] == ("observe" if mode == "observe" else "enforce")
        assert looked_at(api) == LOOKED_AT[path]
        assert audit(api.database)[-1].reason == f"{NAMES[path]}: mode {before} -> {mode}"
    assert {each.stage for each in audit(api.database)} == {"mode_changed"}


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize(
    ("first", "again"),
    [
        (None, ("resume", {})),
        (("pause", {"reason": "a"}), ("pause", {"reason": "b", "actor": "bob"})),
        (None, ("mode", {"mode": "default"})),
        (("mode", {"mode": "observe"}), ("mode", {"mode": "observe"})),
    ],
)
def test_what_is_so_already_is_neither_changed_nor_recorded(
    api: Api, path: str, first: tuple[str, dict[str, str]] | None, again: tuple[str, dict[str, str]]
) -> None:
    if first is not None:
        api.decide(f"{path}/{first[0]}", **first[1])
    person(api.database, dict(again[1]))  # Else its token would be new.
    before = contents(api.database)
    answer = api.decide(f"{path}/{again[0]}", **again[1])
    assert answer["changed"] is False
    assert contents(api.database) == before


def test_of_people_who_decide_at_once_one_is_recorded(api: Api) -> None:
    def pause(number: int) -> bool:
        with api.database.write() as session:
            node = lookup.find_node(session, "one")
            return decisions.pause(session, node, Decision(f"person {number}", None, START))

    with ThreadPoolExecutor(8) as pool:
        changed = list(pool.map(pause, range(8)))
    assert changed.count(True) == 1
    (row,) = audit(api.database)
    assert row.actor == node_row(api.database).paused_by == f"person {changed.index(True)}"


@pytest.mark.parametrize(
    ("act", "undo"),
    [
        (partial(decisions.pause, until=None), {"resume": {}}),
        (partial(decisions.set_mode, mode=Mode.OBSERVE), {"mode": {"mode": "default"}}),
        (decisions.resume, {"pause": {}}),
    ],
)
def test_a_decision_that_comes_twice_changes_and_records_nothing_more(
    api: Api, act: Callable[[Session, Target, Decision], bool], undo: dict[str, dict[str, str]]
) -> None:
    once = Decision("alice", "leak", START, id=uuid4())
    ((path, body),) = undo.items()

    def decide() -> bool:
        with api.database.write() as session:
            return act(session, lookup.find_node(session, "one"), once)

    def state() -> tuple[object, ...]:
        node = node_row(api.database)
        return node.paused_at, node.mode, [row.entry_id for row in audit(api.database)]

    if path == "pause":
        api.decide(f"{NODE}/pause")
    assert decide()
    api.decide(f"{NODE}/{path}", **body)
    before = state()
    assert not decide()
    assert state() == before
    assert [row.entry_id for row in audit(api.database)].count(once.id or UUID(int=0)) == 1


def test_a_reset_that_comes_twice_resets_nothing_more(api: Api) -> None:
    once = Decision("alice", "leak", START, id=uuid4())

    def trip() -> None:
        with api.database.write() as session:
            session.execute(update(Node).values(breaker_tripped_at=START, breaker_reason="much"))

    def reset() -> list[str]:
        with api.database.write() as session:
            return breaker.reset(session, None, once)

    trip()
    assert reset() == ["node one", "node two"]
    trip()
    assert reset() == []
    assert once.id is not None
    ids = [row.entry_id for row in audit(api.database)]
    assert ids == breaker.rows_of(once.id, 2)


def test_a_body_is_not_needed(api: Api) -> None:
    answer = api.client.post(f"{NODE}/pause")
    assert answer.status_code == 200
    assert answer.json()["paused_by"] == "admin"


def test_what_others_say_is_told_when_a_person_lifts_their_own(api: Api) -> None:
    with api.database.write() as session:
        session.get_one(Node, ONE).label_ignore = True
        session.get_one(Cluster, 1).mode = Mode.OBSERVE
    api.decide(f"{NODE}/pause")
    answer = api.decide(f"{NODE}/resume")
    assert (answer["changed"], answer["paused"], answer["effective_mode"]) == (
        True,
        True,
        "observe",
    )
    assert answer["reasons"] == [
        "Swarm label vxlan-operator.ignore on node one",
        "set manually on the cluster",
    ]


def test_what_the_settings_say_counts_until_a_person_says_otherwise(database: Database) -> None:
    put(database)
    client = TestClient(shared_app(database, Mode.OBSERVE))
    answer = client.post(f"{CLUSTER}/mode", json={"mode": "default"}).json()
    assert answer["reasons"] == ["set in the controller's settings"]
    answer = client.post(f"{CLUSTER}/mode", json={"mode": "enforce"}).json()
    assert answer["effective_mode"] == "enforce"


# What is refused.


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/nodes/nosuch/pause", 404, "no node has the id, id prefix or hostname 'nosuch'"),
        ("/api/v1/networks/nosuch/pause", 404, "no network has the id, id prefix or name 'nosuch'"),
        ("/api/v1/networks/%00/pause", 404, "no network has"),
        ("/api/v1/networks/" + "x" * 256 + "/pause", 422, "network: "),
        ("/api/v1/networks/twin/pause", 409, f"twin ({swarm_id('twin1')}), twin ("),
        ("/api/v1/networks/gone/pause", 404, "no network has"),
        ("/api/v1/breaker/reset?node=nosuch", 404, "no node has"),
    ],
)
def test_targets_that_are_none(api: Api, path: str, status: int, words: str) -> None:
    twins = [network("twin1", 1), network("twin2", 2)]
    put(api.database, snapshot(networks=[INGRESS, SHOP, *twins, network("gone", 3)]))
    put(api.database, snapshot(networks=[INGRESS, SHOP, *twins]))
    with api.database.write() as session:
        session.execute(update(Network).where(Network.name.like("twin%")).values(name="twin"))
    before = contents(api.database)
    answer = api.post(path)
    assert_problem(answer, status, words)
    assert contents(api.database) == before


def test_networks_by_id_and_unique_prefix(api: Api) -> None:
    for given in (SHOP.id, "sho"):
        assert api.decide(f"/api/v1/networks/{given}/pause")["id"] == SHOP.id


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"actor": ""}, "actor"),
        ({"actor": "   "}, "actor"),
        ({"actor": "a" * 101}, "actor"),
        ({"actor": "a\nb"}, "actor"),
        ({"actor": "a\x00b"}, "actor"),
        ({"actor": "a\u202eb"}, "actor"),
        ({"actor": 5}, "actor"),
        ({"reason": "w" * 501}, "reason"),
        ({"reason": "\x1b[2J"}, "reason"),
        ({"reason": "a\u2028b"}, "reason"),
        ({"reason": ["a"]}, "reason"),
        ({"hwy": "a"}, "hwy"),
        ({"mode": "nosuch"}, "mode"),
        ({"mode": None}, "mode"),
    ],
)
@pytest.mark.parametrize("path", [f"{NODE}/mode", f"{NET}/mode", f"{CLUSTER}/mode"])
def test_words_that_nobody_means(api: Api, path: str, body: dict[str, Any], name: str) -> None:
    before = contents(api.database)
    answer = api.post(path, **({"mode": "observe"} | body))
    assert answer.status_code == 422
    assert f"{name}: " in answer.json()["detail"]
    assert contents(api.database) == before


def test_no_claimed_name_may_be_said_by_null(api: Api) -> None:
    assert api.post(f"{NODE}/mode", mode="observe", actor=None).status_code == 200


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff", b'{"reason": "\\ud800"}', b"[" * 100_000]
)
def test_bodies_that_are_none(api: Api, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = api.client.post(f"{NODE}/pause", content=body, headers=headers)
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert node_row(api.database).paused_at is None


def test_nothing_can_be_decided_about_a_swarm_that_was_not_read(database: Database) -> None:
    client = TestClient(shared_app(database))
    answer = client.post(f"{CLUSTER}/pause")
    assert (answer.status_code, answer.json()["title"]) == (409, "Not ready")
    assert client.get("/api/v1/breaker").json()["nodes_removing"] == 0
    assert client.post("/api/v1/breaker/reset").json()["reset"] == []


# The breaker.


def test_the_breaker_over_http(api: Api) -> None:
    now = datetime.now(UTC)
    with api.database.write() as session:
        session.add(removing_run(7, now))
        session.flush()
        breaker.check(session, LIMITS, now)

    shown = api.client.get("/api/v1/breaker").json()
    (node,) = shown["nodes"]
    assert (node["id"], node["hostname"], node["removals"]) == (ONE, "one", 7)
    assert node["reason"].startswith("7 device(s) removed within")
    assert (shown["node_removals"], shown["nodes_allowed"]) == (7, 5)
    assert (shown["nodes_removing"], shown["tripped_at"]) == (1, None)
    assert api.decide("/api/v1/breaker/reset?node=two")["reset"] == []

    answer = api.decide("/api/v1/breaker/reset?node=one", actor="alice", reason="seen")
    assert answer["reset"] == ["node one"]
    assert answer["breaker"]["nodes"] == []
    assert looked_at(api) == ["one"]
    assert [(each.stage, each.actor) for each in audit(api.database)] == [
        ("breaker_tripped", "controller"),
        ("breaker_reset", "alice"),
    ]
    assert api.decide("/api/v1/breaker/reset")["reset"] == []


# The requests that follow.


def requests(
    database: Database, monkeypatch: pytest.MonkeyPatch, mode: Mode = Mode.ENFORCE
) -> dict[str, ReconcileRequest]:
    """What the dispatcher would send to every node now; node id to request."""
    sent: dict[str, ReconcileRequest] = {}
    dispatcher = Dispatcher(
        database,
        Celery(),
        keyring(database),
        mode=mode,
        run_timeout=TIMEOUT,
        resync=RESYNC,
        limits=LIMITS,
        utcnow=lambda: START,
    )

    def send(_claims: object, requests: Sequence[ReconcileRequest], _by: object) -> bool:
        sent.update((each.node_id, each) for each in requests)
        return True

    monkeypatch.setattr(dispatcher, "_send", send)
    with database.write() as session:
        session.execute(update(DueNode).values(due_at=START, run_id=None))
    dispatcher.step()
    return sent


def modes_of(request: ReconcileRequest) -> dict[str, str]:
    """Network name to mode, as a request says it."""
    return {each.name: each.mode.value for each in (*request.desired, *request.known)}


def test_a_request_says_observe_when_somebody_does(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {each.mode for each in requests(api.database, monkeypatch).values()} == {Mode.ENFORCE}
    api.decide(f"{NODE}/mode", mode="observe")
    sent = requests(api.database, monkeypatch)
    assert (sent[ONE].mode, sent[TWO].mode) == (Mode.OBSERVE, Mode.ENFORCE)
    api.decide(f"{CLUSTER}/mode", mode="observe")
    assert requests(api.database, monkeypatch)[TWO].mode is Mode.OBSERVE
    api.decide(f"{CLUSTER}/mode", mode="enforce")
    sent = requests(api.database, monkeypatch, Mode.OBSERVE)
    assert (sent[ONE].mode, sent[TWO].mode) == (Mode.OBSERVE, Mode.ENFORCE)


def test_a_tripped_breaker_is_in_the_requests(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with api.database.write() as session:
        session.get_one(Node, ONE).breaker_tripped_at = START
    sent = requests(api.database, monkeypatch)
    assert (sent[ONE].mode, sent[TWO].mode) == (Mode.OBSERVE, Mode.ENFORCE)
    with api.database.write() as session:
        session.get_one(Cluster, 1).breaker_tripped_at = START
    assert {each.mode for each in requests(api.database, monkeypatch).values()} == {Mode.OBSERVE}


@pytest.mark.parametrize(
    "held",
    [
        {"mode": Mode.OBSERVE},
        {"label_mode": Mode.OBSERVE},
        {"label_ignore": True},
        {"paused_at": START, "paused_by": "alice"},
    ],
)
def test_a_network_that_is_left_alone_is_named_to_every_node(
    api: Api, monkeypatch: pytest.MonkeyPatch, held: dict[str, Any]
) -> None:
    with api.database.write() as session:
        session.execute(update(Network).where(Network.name.in_(["shop", "mail"])).values(held))
    sent = requests(api.database, monkeypatch)
    assert modes_of(sent[ONE]) == {"ingress": "enforce", "shop": "observe", "mail": "observe"}
    assert modes_of(sent[TWO]) == {"ingress": "enforce", "shop": "observe", "mail": "observe"}
    assert MAIL.vnis == next(each.vnis for each in sent[ONE].known if each.name == "mail")
    assert len(sent[ONE].known) == 1, "none is named twice"
    assert sent[ONE].mode is Mode.ENFORCE


def test_a_network_that_is_gone_holds_nothing_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its VNI may be that of a new one by now."""
    api.decide(f"{NET}/mode", mode="observe")
    put(api.database, snapshot(networks=[INGRESS, network("new", 4097)]))
    assert modes_of(requests(api.database, monkeypatch)[ONE]) == {
        "ingress": "enforce",
        "new": "enforce",
    }


def test_more_networks_than_a_request_can_name_mean_observe(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "MAX_NETWORKS", 1)
    show_device(api.database, ONE, 4098)
    api.decide(f"{NET}/mode", mode="observe")
    sent = requests(api.database, monkeypatch)
    assert [each.name for each in sent[TWO].known] == ["shop"]
    assert sent[TWO].mode is Mode.ENFORCE
    api.decide("/api/v1/networks/mail/mode", mode="observe")
    sent = requests(api.database, monkeypatch)
    assert {each.mode for each in sent.values()} == {Mode.OBSERVE}
    assert len(sent[TWO].known) == 1


def test_those_left_alone_go_before_those_that_are_only_explained(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "MAX_NETWORKS", 1)
    show_device(api.database, TWO, 4098)
    api.decide(f"{NET}/mode", mode="observe")
    known: tuple[NetworkRef, ...] = requests(api.database, monkeypatch)[TWO].known
    assert [each.name for each in known] == ["shop"]


def test_a_request_says_how_many_removals_are_left(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api.database.write() as session:
        session.add(removing_run(5))
    sent = requests(api.database, monkeypatch)
    assert (sent[ONE].max_removals, sent[TWO].max_removals) == (2, 7)
