"""`vxctl events`, `tree`, `diff`, `plan`, `wait`, `version` on the real API, with names that mean harm."""

import csv
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvicorn
import yaml
from fastapi import Request
from sqlalchemy import update

from contract import VERSION
from contract.messages import ORPHANS_LEFT
from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Mode, Verdict
from controller.api import IDENTITY_HEADER
from controller.api.cursor import question
from controller.api.routes.events import _CURSORS
from controller.cli.output.folding import fold
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Cluster, Event, Network, Node, Rejection, Run
from controller.db.states import RunState
from controller.runs.reports import ReportIntake
from controller.safety import decisions
from controller.safety.decisions import Decision
from controller.views.events import EventKey
from controller.workqueue.queue import Claim
from controller.workqueue.retention import RunRetention
from tests.answering import answering
from tests.api_client import TestClient, assert_problem, shared_app
from tests.controller_process import assert_clear_error, free_port, vxctl
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, node, snapshot, swarm_id, task
from tests.reports import believed, device, report
from tests.servers import await_true
from tests.stored import RESYNC, ask, claim, put

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp.exe[red]=1+1"
SWARM = snapshot(
    "one",
    "two",
    replace(node("evil"), hostname=HOSTILE),
    replace(node("long"), hostname="x" * 255),
    networks=[INGRESS, SHOP, MAIL, replace(network("evilnet", 5003), name=HOSTILE)],
    tasks=[task("t1", "one", "shop"), task("t2", "evil", "evilnet")],
)


class Operator:
    """A database with a Swarm, its API, and workers whose part is played."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = datetime.now(UTC)
        self.app = shared_app(database)
        self.client = TestClient(self.app)
        self.url = ""
        self.runs: dict[str, Claim] = {}

    def run(self, name: str, **told: Any) -> None:
        """Run a node once."""
        ask(self.database, name, at=self.now)
        self.runs |= claim(self.database, now=self.now + timedelta(seconds=1))
        intake = ReportIntake(
            self.database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: self.now
        )
        run = self.runs.pop(swarm_id(name)).run_id
        intake.reports([believed(report(run, node=name, **told))])

    def judge(self) -> None:
        """Derive the conditions."""
        ConditionStore(
            self.database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: self.now
        ).step()
        with self.database.write() as session:
            # No controller derives them again here, however long a busy machine takes for the rest.
            tomorrow = self.now + timedelta(days=1)
            session.execute(update(Cluster).values(conditions_until=tomorrow))

    def get(self, path: str, **parameters: Any) -> Any:
        """GET an answer."""
        answer = self.client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def kinds(self, **parameters: Any) -> list[str]:
        """The kinds of the events, the oldest first."""
        return [row["kind"] for row in self.get("events", **parameters)["items"]][::-1]

    def says(self, *arguments: str, status: int = 0) -> str:
        """What `vxctl` prints."""
        done = vxctl(*arguments, url=self.url)
        assert done.returncode == status, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        assert all(char.isprintable() or char == "\n" for char in done.stdout + done.stderr)
        return done.stdout


@pytest.fixture
def operator(database: Database) -> Iterator[Operator]:
    """One node as desired, the others never seen."""
    operator = Operator(database)
    put(database, SWARM, operator.now)
    with operator.client:
        operator.run("one", devices=[device(1)])
        yield operator


@pytest.fixture
def listening(operator: Operator) -> Iterator[Operator]:
    """The same, reached by `vxctl`."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            operator.app,
            port=port,
            headers=[(IDENTITY_HEADER, VERSION)],
            log_level="error",
            lifespan="off",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    await_true(lambda: server.started, "the API is served")
    operator.url = f"http://127.0.0.1:{port}"
    yield operator
    server.should_exit = True
    thread.join(60)


def test_events_tell_findings_decisions_rejections_and_lost_runs(operator: Operator) -> None:
    operator.judge()
    operator.run("one", devices=[device(1), device(2, Verdict.ORPHAN)])
    operator.judge()
    with operator.database.write() as session:
        one = session.get_one(Node, swarm_id("one"))
        decisions.pause(session, one, Decision("ann", "new disk", operator.now))
        decisions.pause(session, session.get_one(Cluster, 1), Decision("bob", None, operator.now))
        shop = session.get_one(Network, swarm_id("shop"))
        decisions.set_mode(session, shop, Decision("eve", None, operator.now), mode=Mode.OBSERVE)
        session.add(
            Rejection(
                task_id=swarm_id("t9"),
                node_id=swarm_id("one"),
                at=operator.now,
                seen_at=operator.now,
                network_id=swarm_id("shop"),
                vni=4097,
                error="file exists",
            )
        )
        session.execute(
            update(Run)
            .where(Run.id == operator.runs.pop(swarm_id("two")).run_id)
            .values(state=RunState.LOST, closed_at=operator.now)
        )
    common = {"paused", "mode_changed"}
    found = {"OrphansLeft", "task_rejected"}
    everything = set(operator.kinds())
    assert common | found | {"NeverSeen", "run_lost"} <= everything
    of_one = operator.get("events", node="one")["items"]
    assert common | found <= {row["kind"] for row in of_one}
    assert {row["node_id"] for row in of_one} == {None, swarm_id("one")}
    assert [row["actor"] for row in of_one if row["kind"] == "paused"] == ["bob", "ann"]
    of_two = operator.get("events", node="two")["items"]
    assert {row["kind"] for row in of_two} == {"NeverSeen", "run_lost", "paused"}
    of_shop = operator.get("events", network="shop")["items"]
    assert common | {"OrphansLeft", "task_rejected"} <= {row["kind"] for row in of_shop}
    assert {row["node_id"] for row in of_shop} == {None, swarm_id("one")}
    of_mail = operator.get("events", network="mail")["items"]
    assert {row["kind"] for row in of_mail} == {"paused"}
    warnings = {row["kind"] for row in of_one if row["type"] == "Warning"}
    assert {"OrphansLeft", "task_rejected"} <= warnings
    assert not warnings & common


def test_pages_of_events_have_every_event_once(operator: Operator) -> None:
    operator.judge()
    with operator.database.write() as session:
        for name in ("one", "two"):
            row = session.get_one(Node, swarm_id(name))
            decisions.pause(session, row, Decision("ann", None, operator.now))
        for number in range(5):  # All of one time: the number decides.
            session.add(
                Event(
                    at=operator.now,
                    type="Ready",
                    status="True",
                    reason="Converged",
                    message=f"{number}",
                )
            )
    whole = operator.get("events")["items"]
    assert len(whole) >= 9
    for limit in (1, 2, 3):
        paged, cursor = [], None
        while True:
            page = operator.get("events", limit=limit, **({"cursor": cursor} if cursor else {}))
            assert len(page["items"]) <= limit
            paged += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
        assert paged == whole


def test_events_are_kept_as_long_as_runs(operator: Operator) -> None:
    with operator.database.write() as session:
        for age in (6, 8):
            session.add(
                Event(
                    at=operator.now - timedelta(days=age),
                    type="Ready",
                    status="True",
                    reason="Converged",
                    message=f"{age}",
                )
            )
    RunRetention(operator.database, retention=timedelta(days=7), utcnow=lambda: operator.now).step()
    assert [row["message"][-1] for row in operator.get("events")["items"]] == ["6"]
    assert operator.get("events", since="1h")["items"] == []


@pytest.mark.parametrize("source", [-1, 0, 1, 2, 3, 4])
def test_a_forged_cursor_of_events_is_refused_or_finds_nothing(
    operator: Operator, source: int
) -> None:
    for id_ in ("", "x", "9" * 40, "-1", "a" * 36, "\0"):
        key = EventKey(operator.now, source, id_)
        path = "/api/v1/events"
        scope = {"type": "http", "path": path, "query_string": b"", "headers": []}
        cursor = _CURSORS.encode(key, question(Request(scope)))
        answer = operator.client.get(path, params={"cursor": cursor})
        assert answer.status_code in (200, 404), answer.text


def test_repeats_are_folded() -> None:
    def event(seconds: int, message: str, node: str | None = "n") -> dict[str, Any]:
        at = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        return {
            "kind": "k",
            "node_id": node,
            "network_id": None,
            "message": message,
            "at": at.isoformat(),
        }

    found = fold(
        [
            event(60, "since 2030-01-01 00:00:59 UTC for 7 s"),
            event(50, "another"),
            event(40, "since 2030-01-01 00:00:39 UTC for 9 s", "other"),
            event(0, "since 2030-01-01 00:00:00 UTC for 8 s"),
        ]
    )
    assert [(row["count"], row["message"][:5], row["first_at"][17:19]) for row in found] == [
        (1, "since", "40"),
        (1, "anoth", "50"),
        (2, "since", "00"),
    ]


def diff_of(operator: Operator, name: str = "one") -> Any:
    """The differences of a node."""
    (found,) = operator.get("diff", node=name)["items"]
    return found


def test_a_node_that_is_as_desired(operator: Operator) -> None:
    found = diff_of(operator)
    assert (found["state"], found["differences"], found["why_unknown"]) == ("same", [], [])
    assert found["looked_at"] is not None


def test_each_kind_of_difference(operator: Operator) -> None:
    operator.run(
        "one",
        devices=[
            device(2, Verdict.ORPHAN),
            device(3, Verdict.SETTLING),
            device(4, Verdict.FOREIGN),
            device(5, Verdict.FOREIGN, vni=9999),
            device(6, vni=9999),
        ],
    )
    found = diff_of(operator)
    assert found["state"] == "differs"
    assert [(row["kind"], row["vni"]) for row in found["differences"]] == [
        ("orphan", 4097),
        ("settling", 4097),
        ("conflict", 4097),
        ("unwanted", 9999),
        ("missing", 4097),
    ]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"looked_at": None}, "no run has looked"),
        ({"looked_at": datetime(2020, 1, 1, tzinfo=UTC)}, "last looked at 2020"),
        ({"state": "down"}, "down"),
        ({"paused_at": datetime(2020, 1, 1, tzinfo=UTC), "paused_by": "ann"}, "paused by ann"),
        ({"label_ignore": True}, "vxlan-operator.ignore"),
        ({"last_run_state": RunState.LOST}, "lost"),
        ({"last_run_state": RunState.FAILED, "last_error": "no netlink"}, "no netlink"),
        ({"generation": 99}, "desired state has changed"),
        ({"limitations": ["no namespaces"]}, "no namespaces"),
    ],
)
def test_nothing_is_the_same_that_is_not_known(
    operator: Operator, values: dict[str, Any], why: str
) -> None:
    with operator.database.write() as session:
        session.execute(update(Node).where(Node.id == swarm_id("one")).values(values))
    found = diff_of(operator)
    assert found["state"] == "unknown"
    assert any(why in text for text in found["why_unknown"])


@pytest.mark.parametrize(
    "values",
    [{"synced_at": datetime(2020, 1, 1, tzinfo=UTC)}, {"sync_error": "x", "sync_reason": "y"}],
)
def test_nothing_is_the_same_while_the_swarm_cannot_be_read(
    operator: Operator, values: dict[str, Any]
) -> None:
    with operator.database.write() as session:
        session.execute(update(Cluster).values(values))
    assert diff_of(operator)["state"] == "unknown"


def test_an_orphan_that_is_left_alone_is_seen_all_the_same(operator: Operator) -> None:
    found = diff_of(operator)
    with operator.database.write() as session:
        node = session.get_one(Node, swarm_id("one"))
        node.limitations = [f"1 {ORPHANS_LEFT} alone: the request's mode is observe"]
    assert diff_of(operator)["state"] == found["state"]
    with operator.database.write() as session:
        node = session.get_one(Node, swarm_id("one"))
        node.limitations = [*node.limitations, "cannot see nsid 4"]
    assert diff_of(operator)["why_unknown"][-1] == (
        "its worker cannot see everything: cannot see nsid 4"
    )


def test_a_plan_says_what_goes_what_waits_and_what_is_in_the_way(operator: Operator) -> None:
    operator.run(
        "one",
        devices=[
            device(1),
            device(2, Verdict.ORPHAN),
            device(3, Verdict.SETTLING),
            device(4, Verdict.CONFLICT),
        ],
    )
    found = operator.get("nodes/one/plan")
    assert [(row["ifindex"], row["action"]) for row in found["steps"]] == [
        (2, "remove"),
        (3, "wait"),
        (4, "leave"),
    ]
    assert found["steps"][1]["missing"] == "reason"
    assert (found["holds"], found["stale"]) == ([], False)
    operator.client.post("/api/v1/networks/shop/mode", json={"mode": "observe", "reason": "4711"})
    operator.client.post("/api/v1/nodes/one/pause", json={"reason": "disk"})
    held = operator.get("nodes/one/plan")
    assert held["next_run_at"] is None, "nobody asks for one while it is paused"
    assert [hold["reason"] for hold in held["holds"]] == ["pause"]
    assert "vxctl resume one" in held["holds"][0]["until"]
    step = held["steps"][0]
    assert step["action"] == "hold"
    assert [(hold["reason"], hold["why"]) for hold in step["holds"]] == [
        ("pause", "disk"),
        ("mode", "4711"),
    ]


def test_a_plan_of_a_node_that_nobody_looked_at_is_stale(operator: Operator) -> None:
    found = operator.get("nodes/two/plan")
    assert (found["stale"], found["looked_at"], found["steps"]) == (True, None, [])


def test_unknown_and_ambiguous_names(operator: Operator) -> None:
    for path in ("diff?node=nosuch", "events?node=nosuch", "nodes/nosuch/plan"):
        assert_problem(operator.client.get(f"/api/v1/{path}"), 404, "nosuch")
    both = operator.client.get("/api/v1/events?node=one&network=shop")
    assert_problem(both, 409, "cannot be combined")


def test_the_verbs_print_what_a_person_needs(listening: Operator) -> None:
    operator = listening
    operator.judge()
    # At once: no worker gives a sign of life here, so that the node is not ready for long.
    assert operator.says("wait", "node", "one").startswith("one: Ready True, ")
    assert "1 of 1 nodes are as desired" in operator.says("diff", "one")
    operator.run("two", devices=[device(2, Verdict.ORPHAN)])
    operator.judge()
    said = operator.says("wait", "node", "two", "--timeout", "1", status=ExitStatus.NO)
    assert said.startswith("two: Ready False, OrphansLeft")
    assert operator.says("wait", "node", "two", "--for", "ready=false")
    tree = operator.says("tree", "network", "shop").splitlines()
    assert tree[0] == f"network shop ({swarm_id('shop')}), VNI 4097"
    assert re.fullmatch(
        r"├── node one, Ready True, last run succeeded .* ago, wanted for .*", tree[1]
    )
    assert tree[2] == "│   └── vx-001001-shopz#1 in host, VNI 4097: in_use"
    assert tree[3].endswith("not wanted here")
    assert "vx-001001-shopz#2 in host, VNI 4097: orphan/blocking: reason" in tree[4]
    assert "not wanted here" in operator.says("tree", "node", "two")
    assert "no device, although" not in operator.says("tree", "node", "one")
    assert "unknown: no run has looked" in operator.says("diff", status=ExitStatus.NO)
    assert "remove  vx-001001-shopz#2 in host" in operator.says("plan", "two")
    assert "judges again" in operator.says("plan", "two")
    assert "which it has not reported" in operator.says("plan", "two")
    operator.run("two", devices=[device(2, Verdict.ORPHAN)], max_removals=7)
    assert "at most 7 devices (MAX_REMOVALS_PER_RUN)" in operator.says("plan", "two")
    assert "nothing to remove" in operator.says("plan", "one")
    assert "nothing to remove" not in operator.says("plan", swarm_id("long"))
    assert "OrphansLeft" in operator.says("events", "for", "node", "two")
    assert "NeverSeen" in operator.says("events")
    operator.says("wait", "node", "two", "--for", "Nice", status=ExitStatus.USAGE)
    operator.says("wait", "node", "two", "--for", "Ready=x", status=ExitStatus.USAGE)
    operator.says("wait", "node", "nosuch", status=ExitStatus.ERROR)
    run = operator.get("runs", node="two")["items"][0]["id"]
    assert "succeeded" in operator.says("wait", "run", run[:13])
    operator.says("events", "one", status=ExitStatus.USAGE)
    version = operator.says("version").splitlines()
    assert version[0] == f"vxctl {VERSION}"
    assert version[1].startswith(f"controller {VERSION}, ")
    assert operator.says("version", "--client") == f"vxctl {VERSION}\n"
    operator.client.post("/api/v1/nodes/two/pause", json={"actor": "ann"})
    described = operator.says("describe", "node", "two")
    assert "OrphansLeft" in described.partition("Last events")[2].partition("Last audit rows")[0]
    assert "paused" in described.partition("Last audit rows")[2]
    operator.client.post("/api/v1/networks/shop/mode", json={"mode": "observe"})
    assert (
        "mode_changed" in operator.says("describe", "network", "shop").partition("Last events")[2]
    )


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        (["events"], r"event/(condition|audit)/\d+"),
        (["diff"], r"node/\w+"),
        (["plan", "two"], r"device/vx-001001-shopz#2"),
        (["tree", "network", "shop"], r"node/\w+"),
        (["tree", "node", "one"], r"network/\w+"),
        (["wait", "node", "one"], "node/one"),
        (["suppressed"], r"device/vx-001001-shopz#2"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_every_format(listening: Operator, verb: list[str], names: str) -> None:
    operator = listening
    operator.run("two", devices=[device(2, Verdict.ORPHAN)])
    operator.judge()
    operator.client.post("/api/v1/nodes/two/mode", json={"mode": "observe"})
    status = ExitStatus.NO if verb == ["diff"] else ExitStatus.DONE
    said = {
        form: operator.says(*verb, "-o", form, status=status)
        for form in ("table", "wide", "json", "jsonl", "yaml", "name", "csv")
    }
    whole = json.loads(said["json"])
    assert yaml.safe_load(said["yaml"]).__class__ is whole.__class__
    lines = [json.loads(line) for line in said["jsonl"].splitlines()]
    found = said["name"].splitlines()
    assert len(lines) == len(found) == len(list(csv.reader(said["csv"].splitlines()))) - 1
    assert all(re.fullmatch(names, name) for name in found), found
    assert said["table"]
    assert said["wide"]


def test_what_is_held_back_is_listed_with_what_ends_it(listening: Operator) -> None:
    operator = listening
    assert operator.says("suppressed") == "nothing is held back\n"
    for name in ("one", "two"):
        operator.run(name, devices=[device(2, Verdict.ORPHAN)])
    for path, body in (
        ("nodes/one/pause", {"actor": "ann", "reason": "disk"}),
        ("networks/shop/mode", {"mode": "observe"}),
    ):
        assert operator.client.post(f"/api/v1/{path}", json=body).status_code == 200
    lines = operator.says("suppressed").splitlines()
    assert [line.split()[:5] for line in lines[1:3]] == [
        ["one", "vx-001001-shopz#2", "host", "shop", "pause,"],
        ["two", "vx-001001-shopz#2", "host", "shop", "mode"],
    ]
    # What holds both back is told once.
    told = "\n".join(lines[3:])
    assert "disk; `vxctl resume one` ends the pause" in told
    assert told.count("`vxctl mode enforce --network shop` ends it") == 1

    def nodes(*filters: str) -> list[str]:
        found = json.loads(operator.says("suppressed", *filters, "-o", "json"))
        return [row["node_name"] for row in found]

    assert nodes("--node", "node/one") == ["one"]
    assert nodes("--reason", "pause") == ["one"]
    assert nodes("--network", "shop") == ["one", "two"]
    assert nodes("--network", "mail") == []
    assert nodes("--limit", "1") == ["one"]
    operator.says("suppressed", "--node", "nosuch", status=ExitStatus.ERROR)
    operator.says("suppressed", "--reason", "nosuch", status=ExitStatus.USAGE)


VERBS = [
    ["events"],
    ["suppressed"],
    ["tree", "network", "shop"],
    ["tree", "node", "one"],
    ["diff"],
    ["plan", "one"],
    ["wait", "node", "one", "--timeout", "1s"],
    ["wait", "run", "0", "--timeout", "1s"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_no_controller_is_one_clear_error(verb: list[str]) -> None:
    assert_clear_error(vxctl(*verb, url=f"http://127.0.0.1:{free_port()}"), "no controller answers")


@pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>", b'{"items": 1}'])
def test_another_server_is_one_clear_error(body: bytes) -> None:
    with answering(lambda _: (200, body)) as address:
        for verb in VERBS:
            assert_clear_error(
                vxctl(*verb, url=f"http://{address}"), "not a vxlan-operator controller"
            )


def test_a_version_is_told_without_a_controller() -> None:
    done = vxctl("version", url=f"http://127.0.0.1:{free_port()}")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (0, f"vxctl {VERSION}")
    assert lines[1].startswith("controller: unknown: no controller answers")
