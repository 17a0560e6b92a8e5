"""What holds removals back stands where the orphan is shown: who, since when, why, and what ends it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from contract.verdicts import HELD_BY_WORKER, HeldBack, Mode, Urgency, Verdict
from controller.api.app import build
from controller.api.context import Context
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Cluster, Device, Network, Node
from controller.runs.reports import ReportIntake
from controller.safety.suppressed import SuppressedCount, totals
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from tests.api_client import TestClient, shared_app
from tests.fake_clock import Clock
from tests.fake_swarm import SHOP, node, snapshot, swarm_id, task
from tests.reports import believed, device, report
from tests.stored import RESYNC, claim, node_row, put

ONE = swarm_id("one")


class Api:
    """The API over a database with two nodes, whose workers report what a test says."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self._clock = database, clock
        self._claims: dict[str, queue.Claim] = {}
        self.client = TestClient(shared_app(database))
        self.conditions = ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=clock)
        self.count = SuppressedCount(database, mode=Mode.ENFORCE, utcnow=clock)

    def look(self, *devices: Any, name: str = "one", **told: Any) -> None:
        """Let a node be claimed, and its worker report these devices."""
        with self.database.write() as session:
            at = self._clock.now
            queue.request(session, [swarm_id(name)], at=at, priority=Priority.MANUAL, reason="test")
        self._claims |= claim(self.database, now=self._clock.now)
        run = self._claims.pop(swarm_id(name))
        intake = ReportIntake(
            self.database, resync=RESYNC, notify=lambda *_: None, utcnow=self._clock
        )
        intake.reports([believed(report(run.run_id, node=name, devices=devices, **told))])

    def get(self, path: str, **parameters: str) -> Any:
        """GET."""
        answer = self.client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def decide(self, path: str, **body: Any) -> None:
        """POST a decision."""
        answer = self.client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text

    def held(self, **parameters: str) -> list[tuple[str, str, str | None, str | None, str | None]]:
        """Reason, place, person, words and command of what holds back, by the list of suppressed."""
        return [
            (hold["reason"], hold["where"], hold["by"], hold["why"], hold["command"])
            for each in self.get("suppressed", **parameters)["items"]
            for hold in each["held_back"]
        ]

    def message(self) -> str:
        """What the condition Degraded of node one says."""
        self.conditions.step()
        conditions = {each["type"]: each for each in self.get("nodes/one")["conditions"]}
        return f"{conditions['Degraded']['reason']}: {conditions['Degraded']['message']}"

    def total(self, reason: HeldBack) -> int:
        """How many the reason has held back, ever."""
        self.count.step()
        with self.database.read() as session:
            return totals(session)[reason]


@pytest.fixture
def api(database: Database, clock: Clock) -> Iterator[Api]:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    api = Api(database, clock)
    yield api
    api.client.close()


ANN = "admin (as ann)"
"""The name of the token, and the claimed one."""
ORPHAN = device(7, Verdict.ORPHAN)
FAULT = 'subnet sandbox join failed for "10.0.1.0/24": error creating vxlan interface: file exists'

DECISIONS: list[tuple[str, str, dict[str, str], tuple[str, str, str, str, str], str]] = [
    (
        "nodes/one/pause", "resume", {},
        ("pause", "node one", ANN, "leak 4711", "vxctl resume one"), "Paused",
    ),
    (
        "cluster/pause", "resume", {},
        ("pause", "the cluster", ANN, "leak 4711", "vxctl resume --cluster"), "ClusterPaused",
    ),
    (
        "networks/shop/pause", "resume", {},
        ("pause", "network shop", ANN, "leak 4711", "vxctl resume --network shop"), "OrphansLeft",
    ),
    (
        "nodes/one/mode", "mode", {"mode": "observe"},
        ("mode", "node one", ANN, "leak 4711", "vxctl mode enforce one"), "ObserveMode",
    ),
    (
        "cluster/mode", "mode", {"mode": "observe"},
        ("mode", "the cluster", ANN, "leak 4711", "vxctl mode enforce --cluster"), "ObserveMode",
    ),
    (
        "networks/shop/mode", "mode", {"mode": "observe"},
        ("mode", "network shop", ANN, "leak 4711", "vxctl mode enforce --network shop"),
        "OrphansLeft",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "undo", "body", "hold", "reason"), DECISIONS, ids=[each[0] for each in DECISIONS]
)
def test_who_holds_an_orphan_back_when_and_why(
    api: Api, path: str, undo: str, body: dict[str, str], hold: tuple[str, ...], reason: str
) -> None:
    api.look(ORPHAN)
    assert api.held() == [], "nothing forbids it"
    assert api.message().startswith("OrphansLeft: not removed: 1 orphan (1 blocking): nothing")
    api.decide(path, actor="ann", reason="leak 4711", **body)
    assert api.held() == [hold]
    (shown,) = api.get("devices")["items"]
    assert [each["command"] for each in shown["held_back"]] == [hold[4]]
    assert shown["held_back"][0]["set_at"] <= shown["held_back"][0]["since"]
    for detail in ("nodes/one", "networks/shop"):
        assert api.get(detail)["seen"] == [shown]
    message = api.message()
    assert message.startswith((f"{reason}: ", "OrphansLeft: ")), message
    for words in (hold[1], "by admin (as ann)", "leak 4711", f"`{hold[4]}`", " UTC"):
        assert words in message, message
    api.conditions.step()
    conditions = {each["type"]: each for each in api.get("nodes/one")["conditions"]}
    assert conditions["Ready"]["reason"] == reason
    assert "nothing to do" not in conditions["Ready"]["message"]

    api.decide(f"{path.rpartition('/')[0]}/{undo}", actor="bob", **(body and {"mode": "enforce"}))
    assert api.held() == []


def test_labels_breakers_and_workers_hold_back_too(api: Api, clock: Clock) -> None:
    left = ORPHAN.model_copy(update={"held_back": HeldBack.LIMIT})
    api.look(left)
    with api.database.write() as session:
        session.execute(
            update(Node)
            .where(Node.id == ONE)
            .values(label_mode=Mode.OBSERVE, label_ignore=True, breaker_tripped_at=clock.now)
        )
        session.execute(update(Network).where(Network.id == SHOP.id).values(label_ignore=True))
    commands = [(reason, command) for reason, _, _, _, command in api.held()]
    assert commands == [
        ("pause", "docker node update --label-rm vxlan-operator.ignore one"),
        ("pause", None),
        ("breaker", "vxctl breaker reset one"),
        ("mode", "docker node update --label-rm vxlan-operator.mode one"),
        ("limit", None),
    ]
    assert [each[0] for each in api.held(reason="limit")] == [each[0] for each in commands]
    assert api.held(reason="journal") == []
    assert api.held(node="two") == []


@pytest.mark.parametrize("reason", list(HeldBack))
def test_every_reason_says_what_ends_it(api: Api, clock: Clock, reason: HeldBack) -> None:
    if reason is HeldBack.PROOF:
        api.look(device(7, Verdict.SETTLING))
        with api.database.write() as session:  # The API goes by the time of day.
            session.execute(update(Device).values(verdict_at=clock.now.replace(year=2000)))
    elif reason in HELD_BY_WORKER:
        api.look(ORPHAN.model_copy(update={"held_back": reason}))
    else:
        api.look(ORPHAN)
        with api.database.write() as session:
            session.get_one(Node, ONE).mode = Mode.OBSERVE
        api.decide("nodes/one/pause")
    (item,) = api.get("suppressed", reason=reason)["items"]
    hold = next(each for each in item["held_back"] if each["reason"] == reason)
    assert hold["until"]
    assert hold["text"]


def test_a_hostname_is_typed_as_it_is_or_the_id_takes_its_place(api: Api) -> None:
    api.look(ORPHAN)
    api.decide("nodes/one/mode", mode="observe")

    def command(**names: str) -> str | None:
        with api.database.write() as session:
            for name, hostname in names.items():
                session.get_one(Node, swarm_id(name)).hostname = hostname
        (hold,) = api.held()
        assert f"`{hold[4]}`" in api.message()
        return hold[4]

    assert command(one="node3.example.org") == "vxctl mode enforce node3.example.org"
    for hostile in (
        "a b",
        "$(reboot)",
        "-x",
        "--cluster",
        "x;y",
        "a`b",
        "\u202egnp",
        "x" * 300 + " ",
    ):
        with api.database.write() as session:
            session.get_one(Node, ONE).hostname = hostile
        assert api.held()[0][4] == f"vxctl mode enforce {ONE}"
    assert command(one="same", two="same") == f"vxctl mode enforce {ONE}"
    assert command(one="two", two="other") == f"vxctl mode enforce {ONE}", "it begins another's id"


def test_the_list_the_plan_and_the_explanation_say_the_same(api: Api, clock: Clock) -> None:
    left = ORPHAN.model_copy(update={"held_back": HeldBack.LIMIT})
    api.look(left)
    clock.advance(60)
    api.look(left, device(8, vni=9999))
    api.decide("cluster/mode", mode="observe", reason="a look first")
    api.decide("nodes/one/pause", reason="leak 4711")
    api.decide("networks/shop/mode", mode="observe")
    with api.database.write() as session:
        session.get_one(Node, swarm_id("two")).hostname = "one"
        session.get_one(Node, ONE).breaker_tripped_at = clock.now

    def told(found: list[dict[str, Any]], since: str) -> list[Any]:
        return [(each["reason"], each["where"], each[since], each["until"]) for each in found]

    (listed,) = api.get("suppressed")["items"]
    (step,) = api.get(f"nodes/{ONE}/plan")["steps"]
    answer = api.client.post("/api/v1/explain", json={"text": f"node {ONE}: {FAULT}"})
    assert answer.status_code == 200, answer.text
    (on_node,) = answer.json()["findings"][0]["on_nodes"]
    said = [line for line in on_node["outlook"] if " is not removed" in line]
    held = told(listed["held_back"], "set_at")
    assert [each[0] for each in held] == ["pause", "breaker", "mode", "mode", "limit"]
    assert f"`vxctl resume {ONE}`" in held[0][3], "two nodes have this name"
    assert told(step["holds"], "since") == held
    assert len(said) == len(held)
    for hold, line in zip(listed["held_back"], said, strict=True):
        assert line.endswith(f": {hold['text']} ({hold['until']}).")


def test_a_holding_is_counted_once_until_it_ends(api: Api, clock: Clock) -> None:
    api.look(ORPHAN)
    assert api.total(HeldBack.MODE) == 0
    api.decide("cluster/mode", mode="observe")
    for _ in range(3):
        assert api.total(HeldBack.MODE) == 1
        api.look(ORPHAN)
        clock.advance(60)
    # Another process, after a restart.
    api.count = SuppressedCount(api.database, mode=Mode.ENFORCE, utcnow=clock)
    assert api.total(HeldBack.MODE) == 1
    api.decide("nodes/one/mode", mode="observe")
    assert api.total(HeldBack.MODE) == 1, "the same reason, twice"
    api.decide("cluster/pause")
    assert (api.total(HeldBack.PAUSE), api.total(HeldBack.MODE)) == (1, 1)
    api.decide("cluster/resume")
    api.decide("cluster/mode", mode="enforce")
    api.decide("nodes/one/mode", mode="enforce")
    assert api.total(HeldBack.MODE) == 1
    api.decide("cluster/mode", mode="observe")
    assert api.total(HeldBack.MODE) == 2, "it had ended, and began again"
    api.look(ORPHAN, device(8, Verdict.ORPHAN))
    assert api.total(HeldBack.MODE) == 3
    told = api.client.get("/metrics").text
    assert 'vxlan_operator_suppressed_total{reason="mode"} 3.0' in told
    assert 'vxlan_operator_suppressed_total{reason="proof"} 0.0' in told


def test_a_page_of_what_is_held_back_goes_on_where_it_ended(api: Api) -> None:
    api.look(*(device(number, Verdict.ORPHAN) for number in range(1, 6)), device(9))
    api.decide("cluster/mode", mode="observe")
    page = api.get("suppressed", limit="2")
    found = page["items"]
    while page["next"]:
        page = api.get("suppressed", limit="2", cursor=page["next"])
        found += page["items"]
    assert [each["ifindex"] for each in found] == [1, 2, 3, 4, 5]


def test_a_node_that_is_gone_is_in_no_list(api: Api, clock: Clock) -> None:
    for name in ("one", "two"):
        api.look(ORPHAN, name=name)
    api.decide("cluster/mode", mode="observe")
    put(api.database, replace(snapshot(), nodes=(node("two"),)), clock.now)
    for path in ("devices", "suppressed", "runs"):
        assert {each["node_name"] for each in api.get(path)["items"]} == {"two"}, path
    detail = api.get("networks/shop")
    assert {each["node_name"] for each in (*detail["seen"], *detail["carriers"])} <= {"two"}
    assert {each["hostname"] for each in api.get("breaker")["nodes"]} <= {"two"}
    assert api.total(HeldBack.MODE) == 1
    # Of its own: metrics are counted once in a while.
    fresh = TestClient(build(Context(api.database, mode=Mode.ENFORCE, notify=lambda *_: None)))
    assert 'vxlan_operator_devices{proof="",urgency="blocking",verdict="orphan"} 1.0' in (
        fresh.get("/metrics").text
    )


def test_an_item_says_how_old_it_is(api: Api, clock: Clock) -> None:
    api.look(device(7))
    first = clock.now
    clock.advance(60)
    api.look(device(7))
    (item,) = api.get("devices")["items"]
    assert item["looked_at"] == clock.now.isoformat().replace("+00:00", "Z")
    assert item["verdict_at"] == first.isoformat().replace("+00:00", "Z")
    stale = ORPHAN.model_copy(update={"urgency": Urgency.STALE})
    api.look(stale)
    verdict_at = clock.now
    clock.now += timedelta(seconds=5)
    api.look(ORPHAN)
    (item,) = api.get("devices")["items"]
    assert item["verdict_at"] == verdict_at.isoformat().replace("+00:00", "Z")
    assert node_row(api.database).looked_at == clock.now


def test_the_cluster_in_the_settings_observe_is_what_the_advice_names(
    database: Database, clock: Clock
) -> None:
    put(database)
    api = Api(database, clock)
    api.look(ORPHAN)
    conditions = ConditionStore(database, mode=Mode.OBSERVE, resync=RESYNC, utcnow=clock)
    conditions.step()
    message = node_row(database).conditions["Ready"]["message"]
    assert "VXLAN_OPERATOR_MODE in the controller's settings" in message
    assert message.endswith("settings (`vxctl mode enforce --cluster` ends it)")
    with database.write() as session:
        session.execute(update(Cluster).values(mode=Mode.ENFORCE))
        session.execute(update(Device).values(urgency=Urgency.STALE))
    conditions.step()
    assert node_row(database).conditions["Ready"]["reason"] == "OrphansLeft"
