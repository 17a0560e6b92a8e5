"""What an error text means, with what the controller knows: names, holders of VNIs, and what will be done."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

from contract.messages import DeviceReport, JournalEntry
from contract.verdicts import Mode, Stage, Verdict
from controller.api.answers.explain import ExplanationAnswer, FindingAnswer, NodeOutlookAnswer
from controller.api.routes.explain import MAX_LINE
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Node, Rejection, Run
from controller.db.states import RunState
from controller.explain.text import MAX_TEXT
from controller.runs.reports import ReportIntake
from controller.safety import decisions
from controller.safety.decisions import Decision
from controller.swarm.rejections import Rejections
from controller.views.directory import Directory
from controller.views.explain import explain
from controller.views.outlook import Situation, State
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from tests.api_client import TestClient, shared_app
from tests.fake_clock import START
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, node, snapshot, swarm_id, task
from tests.reports import believed, device, entry, report
from tests.stored import RESYNC, claim, plans, put

CREATING = "error creating vxlan interface: file exists"
FAULT = f'network sandbox join failed: subnet sandbox join failed for "10.0.1.0/24": {CREATING}'
"""About network shop, whose VNI is 4097."""
LATER = START + timedelta(seconds=30)


def look(
    database: Database,
    devices: Sequence[DeviceReport] = (),
    *,
    at: datetime = START,
    on: str = "one",
    entries: Sequence[JournalEntry] = (),
) -> None:
    """Let a node be looked at, by both clocks at this time."""
    with database.write() as session:
        queue.request(session, [swarm_id(on)], at=at, priority=Priority.MANUAL, reason="x")
    run = claim(database, now=at)[swarm_id(on)]
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: at)
    told = report(run.run_id, node=on, devices=devices, entries=entries, journal_id=uuid4())
    told = told.model_copy(update={"started_at": at, "finished_at": at})
    intake.reports([believed(told)])
    judge(database, at)


def judge(database: Database, at: datetime = START) -> None:
    """Derive the conditions."""
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: at).step()


def reject(database: Database, *nodes: str, at: datetime = START, error: str = FAULT) -> None:
    """Let a task of network shop be rejected on each of these nodes, and the Swarm be read."""
    tasks = [
        task(f"t{index}{on}", on, "shop", live=False, wanted=True, error=error, since=at)
        for index, on in enumerate(nodes)
    ]
    Rejections(database, lambda *_: None, lambda: at).record(
        tasks, {each.id: each for each in (INGRESS, SHOP, MAIL)}
    )


def ask(
    database: Database, text: str, *, now: datetime = LATER, mode: Mode = Mode.ENFORCE
) -> ExplanationAnswer:
    """What it means."""
    with database.read() as session:
        situation = Situation(now, mode, timedelta(minutes=3))
        return ExplanationAnswer.of(explain(session, text, situation))


def only(answer: ExplanationAnswer) -> FindingAnswer:
    (found,) = answer.findings
    return found


def there(answer: ExplanationAnswer) -> NodeOutlookAnswer:
    (found,) = only(answer).on_nodes
    return found


def names(subjects: Sequence[object]) -> list[str]:
    return [each.name for each in subjects]  # type: ignore[attr-defined]


BIG = [
    node("one"),
    node("two"),
    node("server"),
    node("ALPHA-Box1"),
    node("ip-10-4.eu.example"),
]


@pytest.mark.parametrize(
    ("text", "node_name"),
    [
        ("{} on node two", "two"),
        ("web.1 two Rejected {}", "two"),
        ("abc web.1 nginx two Ready Rejected 3 seconds ago {}", "two"),
        ("{} node.id=" + swarm_id("two"), "two"),
        ("{} on node " + swarm_id("alpha-box1")[:12], "ALPHA-Box1"),
        ("{} " + swarm_id("server")[:12] + "1", None),
        ("alpha-box1: {}", "ALPHA-Box1"),
        ("ip-10-4: {}", "ip-10-4.eu.example"),
        ("{} on ip-10-4", "ip-10-4.eu.example"),
        ("alpha-box1.lan.example dockerd: {}", "ALPHA-Box1"),
        ("Nov 26 10:00:01 two dockerd[7]: {}", "two"),
        ("connection closed by server; {}", None),
        ("connection closed by server; {} on two", "two"),
        ("{} on server", "server"),
        ('{{"MESSAGE": "{}", "_HOSTNAME": "server"}}', "server"),
        ("{}", None),
        ("one: all is well\n\n{} on two", "two"),
    ],
)
def test_which_node_is_named(database: Database, text: str, node_name: str | None) -> None:
    put(database, snapshot(*BIG))
    found = only(ask(database, text.format(CREATING)))
    assert names(found.nodes) == ([] if node_name is None else [node_name])
    if node_name is None:
        assert "does not say which node" in found.missing[-1]


@pytest.mark.parametrize(
    ("text", "network_name"),
    [
        ("{} shop", "shop"),
        ('{} network "mail"', "mail"),
        ("{} nid=" + swarm_id("mail"), "mail"),
        ("{} vni 4098", "mail"),
        ("{} ifc=vx-001002-mailz", "mail"),
        ("{} ifc=vx-001002-other", None),
        ("Failed creating ingress network: {}", "ingress"),
        ("subnet sandbox join failed for 10.0.2.0/24: {}", "mail"),
        ("subnet sandbox join failed for \u201d10.0.2.7/24\u201d: {}", "mail"),
        ("{}", None),
    ],
)
def test_which_network_is_named(database: Database, text: str, network_name: str | None) -> None:
    put(database, snapshot(*BIG))
    found = only(ask(database, text.format(CREATING)))
    assert names(found.networks) == ([] if network_name is None else [network_name])


def test_a_name_that_several_have_means_none(database: Database) -> None:
    twins = [node("one"), node("b1.example"), node("b1.test")]
    put(database, snapshot(*twins))
    assert only(ask(database, f"b1: {CREATING}")).nodes == []
    assert names(only(ask(database, f"b1.test: {CREATING}")).nodes) == ["b1.test"]


def test_the_network_is_found_by_its_subnet_also_when_it_is_gone(database: Database) -> None:
    put(database)
    put(database, snapshot(networks=[INGRESS, MAIL]))
    found = only(ask(database, f"{FAULT} on one"))
    assert names(found.networks) == ["shop"]
    assert found.vnis == [4097]
    again = network("shop2", 4097)
    put(database, snapshot(networks=[INGRESS, MAIL, again]))
    assert names(only(ask(database, f"{FAULT} on one")).networks) == ["shop2"]


def test_a_rejected_task_leads_from_the_subnet_to_node_and_network(database: Database) -> None:
    put(database, snapshot(tasks=[task("t", "one", "shop"), task("t2", "two", "mail")]))
    reject(database, "one")
    found = only(ask(database, FAULT))
    assert names(found.nodes) == ["one"]
    assert names(found.networks) == ["shop"]
    assert found.look_for[0].startswith("vx-001001-shopz in the host namespace")
    assert "/run/docker/netns/1-shopzzzzzz" in found.look_for[0]
    assert ask(database, FAULT.replace("10.0.1", "10.9.9")).nodes == []


def test_a_task_id_leads_to_its_node(database: Database) -> None:
    put(database)
    reject(database, "two")
    for id_ in (swarm_id("t0two"), swarm_id("t0two")[:12]):
        found = only(ask(database, f"{CREATING} task.id={id_}"))
        assert names(found.nodes) == ["two"]
        assert names(found.networks) == ["shop"]


def test_a_text_that_names_a_node_is_about_no_other_that_rejected_the_same(
    database: Database,
) -> None:
    put(database)
    reject(database, "one", "two")
    assert names(ask(database, f"web.1 two Rejected {FAULT}").nodes) == ["two"]
    assert sorted(names(ask(database, FAULT).nodes)) == ["one", "two"]


def test_the_link_from_subnet_to_node_outlasts_thousands_of_runs_and_rejections_of_others(
    database: Database,
) -> None:
    put(database, snapshot(*BIG))
    reject(database, "one")
    others = [swarm_id(each.hostname) for each in BIG[1:]]
    with database.write() as session:
        runs = [
            {
                "id": uuid4(), "node_id": others[index % 4], "state": RunState.SUCCEEDED, "priority": 0,
                "reasons": [], "generation": 1, "requested_at": LATER + timedelta(seconds=index),
                "deadline": LATER,
            }
            for index in range(3_000)
        ]  # fmt: skip
        session.execute(insert(Run), runs)
        rows = [
            {
                "task_id": f"r{index:024}", "node_id": others[0], "at": LATER, "seen_at": LATER,
                "network_id": swarm_id("shop"), "vni": 4097, "error": FAULT,
                "cidr": f"10.{index % 200}.1.0/24",
            }
            for index in range(3_000)
        ]  # fmt: skip
        session.execute(insert(Rejection), rows)
    assert names(only(ask(database, FAULT)).nodes) == ["two", "one"]
    shown = plans(database, lambda session: explain(session, FAULT, SITUATION))
    assert "ix_rejections_cidr" in shown
    if database.engine.dialect.name == "sqlite":  # PostgreSQL reads so small a table whole.
        assert "ix_network_vnis_cidr" in shown


SITUATION = Situation(LATER, Mode.ENFORCE, timedelta(minutes=3))


def test_an_orphan_that_nothing_holds_back_is_removed_next(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.ORPHAN)])
    reject(database, "one")
    found = there(ask(database, FAULT))
    assert found.state is State.HELD
    assert "vx-001001-shopz (ifindex 7) in host has VNI 4097, orphan: reason" in found.verdict
    assert found.by_hand == ["ip link delete vx-001001-shopz"]
    assert "is proved dead: the next run removes it" in found.outlook[0]
    assert "`vxctl requeue one --wait`" in found.outlook[0]


def decide(database: Database, act: object, *arguments: object, **named: object) -> None:
    with database.write() as session:
        act(session, *arguments, Decision("ann", "a test", START), **named)  # type: ignore[operator]


def test_what_holds_an_orphan_back_is_told_instead(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.ORPHAN)])
    observed = there(ask(database, f"{FAULT} on one", mode=Mode.OBSERVE))
    assert "mode observe of the cluster" in observed.outlook[0]
    assert "`vxctl mode enforce --cluster` ends it" in observed.outlook[-1]
    with database.write() as session:
        node_row = session.get_one(Node, swarm_id("one"))
        decisions.pause(session, node_row, Decision("ann", "disk swap", START))
    with database.write() as session:
        session.execute(
            update(Node).values(breaker_tripped_at=START, breaker_reason="228 devices removed")
        )
    found = there(ask(database, f"{FAULT} on one"))
    assert "node one is paused by ann" in found.outlook[0]
    assert "disk swap" in found.outlook[0]
    assert "the breaker of node one" in found.outlook[1]
    assert not any("next run" in each for each in found.outlook)
    assert found.by_hand == ["ip link delete vx-001001-shopz"]


def test_a_worker_that_is_silent_removes_nothing(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.ORPHAN)])
    found = there(ask(database, f"{FAULT} on one", now=START + timedelta(minutes=10)))
    assert "has reported nothing since" in found.outlook[0]
    assert not any("next run" in each for each in found.outlook)


def removal(at: datetime) -> list[JournalEntry]:
    return [entry(1, stage=Stage.DETECTED, at=at), entry(2, stage=Stage.APPLIED, at=at)]


def test_it_is_gone_only_if_a_look_after_the_error_shows_it(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, entries=removal(START))
    reject(database, "one", at=START + timedelta(seconds=5))
    before = there(ask(database, FAULT))
    assert before.state is State.UNSEEN
    assert "was before the error" in before.verdict
    assert "gone" not in before.verdict
    assert "requeue one --wait" in before.outlook[0]
    assert [row.model_dump()["stage"] for row in before.done] == [Stage.APPLIED]
    assert before.by_hand == ["vxlan-worker scan"]

    look(database, at=START + timedelta(seconds=10))
    after = there(ask(database, FAULT))
    assert after.state is State.FREE
    assert "No device had VNI 4097" in after.verdict
    assert "it is gone" in after.verdict
    assert after.by_hand == []

    # The same line again, newer than that look: no rejection of it was read yet.
    newer = f"2030-01-01T12:00:20Z one dockerd[7]: {FAULT}"
    assert there(ask(database, newer)).state is State.UNSEEN
    older = f"2030-01-01T12:00:02Z one dockerd[7]: {FAULT}"
    assert there(ask(database, older)).state is State.FREE


def test_the_time_of_another_line_is_not_the_error_s(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, at=START + timedelta(seconds=10))
    older = "2030-01-01T12:00:02Z one dockerd[7]: API listen on /run/docker.sock"
    assert there(ask(database, f"{older}\n\n{FAULT}")).state is State.UNSEEN
    created = (
        '{{"NodeID": "{}", "CreatedAt": "2029-01-01T00:00:00Z", "Timestamp": "{}", "Err": "{}"}}'
    )
    at = created.format(swarm_id("one"), "2030-01-01T12:00:20Z", FAULT)
    assert there(ask(database, at)).state is State.UNSEEN
    at = created.format(swarm_id("one"), "2030-01-01T12:00:02Z", FAULT)
    assert there(ask(database, at)).state is State.FREE


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(begin=st.integers(0, 300), length=st.integers(1, 400), width=st.integers(10, 400))
def test_a_text_that_is_cut_is_never_reassured(
    database: Database, begin: int, length: int, width: int
) -> None:
    """The error is newer than the look: wherever it is cut and wrapped, nothing may be called gone."""
    if not database_has_a_look(database):
        put(database, snapshot(tasks=[task("t1", "one", "shop")]))
        look(database, at=START + timedelta(seconds=10))
    said = FAULT.replace('"', '\\"')
    line = (
        f'Jan  1 12:00:20 one dockerd[7]: time="2030-01-01T12:00:20.5Z" level=error msg="fatal task error" '
        f'error="{said}" module=node/agent node.id={swarm_id("one")} task.id={swarm_id("t0one")}'
    )
    text = line[begin : begin + length]
    wrapped = "\n".join(text[start : start + width] for start in range(0, len(text), width))
    for each in ask(database, wrapped).findings:
        assert all(found.state not in (State.FREE, State.IN_USE) for found in each.on_nodes)


def database_has_a_look(database: Database) -> bool:
    with database.read() as session:
        node_row = session.get(Node, swarm_id("one"))
        return node_row is not None and node_row.looked_at is not None


@pytest.mark.parametrize(
    "text", ["vxlan0 VNI 4097 on one", "1: vxlan0: <UP> vxlan id 4097 node one"]
)
def test_a_device_s_vni_is_looked_for_whatever_its_name(database: Database, text: str) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.ORPHAN)], at=START + timedelta(seconds=10))
    found = there(ask(database, f"2030-01-01T12:00:02Z {text}"))
    assert found.state is State.HELD
    assert found.by_hand == ["ip link delete vx-001001-shopz"]


def test_a_device_without_a_vni_that_was_not_seen(database: Database) -> None:
    put(database)
    look(database, [device(7, Verdict.ORPHAN)])
    found = there(ask(database, "what is vxlan3 on node one?"))
    assert found.state is State.UNKNOWN
    assert "has no device vxlan3" in found.verdict


def test_a_command_names_the_sandbox_of_the_network_by_its_id(database: Database) -> None:
    put(database)
    found = only(ask(database, "could not add fdb entry ifc=vx-001001-shopz node=one"))
    assert any(
        "nsenter --net=/run/docker/netns/1-shopzzzzzz bridge fdb show" in each
        for each in found.cure
    )


def test_no_cure_repeats_the_subnet_that_is_in_the_way(database: Database) -> None:
    put(database)
    text = "overlay subnet 10.0.1.0/24 failed check: requested network overlaps with nameserver"
    found = only(ask(database, text))
    assert found.id == "host-route-overlap"
    assert not any("10.0.1.0/24" in each for each in found.cure)
    assert any("docker network rm shop" in each for each in found.cure)


def test_removals_of_another_network_say_nothing(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop", "mail")]))
    look(database, entries=removal(START))
    found = there(ask(database, f"{CREATING} on one, network mail"))
    assert found.state is State.UNSEEN
    assert found.done == []
    assert "The line has no time" in found.verdict


def test_a_living_device_after_the_error_is_docker_s_own(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    reject(database, "one")
    look(database, [device(7)], at=START + timedelta(seconds=10))
    found = there(ask(database, FAULT))
    assert found.state is State.IN_USE
    assert "Docker had made the device again" in found.verdict


def test_a_device_without_proof_is_not_removed_yet(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.SETTLING)])
    found = there(ask(database, f"{FAULT} on one"))
    assert found.state is State.HELD
    assert "removed only once it is proved dead" in found.outlook[0]


def test_a_conflict_is_not_called_a_leak(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.CONFLICT)])
    found = only(ask(database, f"{FAULT} on one"))
    assert "other software" in found.title
    assert "leaked" not in found.cause
    assert "never removes" in found.cause
    assert found.on_nodes[0].by_hand == ["ip -d link show vx-001001-shopz"]


def test_a_device_in_a_named_netns_has_a_command_with_its_path(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    told = device(7, Verdict.ORPHAN)
    inside = told.model_copy(
        update={
            "identity": told.identity.model_copy(update={"netns": "nsid:3", "name": "vxlan0"}),
            "netns_file": "/run/docker/netns/1-shop",
        }
    )
    look(database, [inside])
    assert there(ask(database, f"{FAULT} on one")).by_hand == [
        "nsenter --net=/run/docker/netns/1-shop ip link delete vxlan0"
    ]
    look(database, [inside.model_copy(update={"netns_file": None})], at=LATER)
    assert there(ask(database, f"{FAULT} on one")).by_hand == [
        "vxlan-worker scan --remove nsid:3#7"
    ]


def test_a_node_that_left_is_not_looked_at(database: Database) -> None:
    put(database, snapshot("one", "two"))
    look(database, [device(7, Verdict.ORPHAN)])
    put(database, snapshot("two"))
    found = there(ask(database, f"{FAULT} on one"))
    assert "left the Swarm" in found.outlook[0]


@pytest.mark.parametrize(
    "text",
    [
        "5659: vx-001001-shopz: <BROADCAST,MULTICAST> mtu 1450 qdisc noop state DOWN mode DEFAULT",
        "vx-001001-shopz",
        "what is vx-001001-shopz?",
    ],
)
def test_a_pasted_device_is_what_the_text_asks_about(database: Database, text: str) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.ORPHAN)])
    found = only(ask(database, text))
    assert (found.id, found.kind, found.device) == ("docker-device", "device", "vx-001001-shopz")
    assert names(found.networks) == ["shop"]
    assert names(found.nodes) == ["one"]
    assert "orphan" in found.on_nodes[0].verdict
    unknown = only(ask(database, text.replace("001001-shopz", "00ffff-xxxxx")))
    assert unknown.nodes == []
    assert "No node's last report has this device" in unknown.missing[0]


def test_a_message_that_was_cut_asks_for_the_whole(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.ORPHAN)])
    row = 'web.1   nginx   one   Ready   Rejected 3 seconds ago   "network sandbox join failed: s\u2026"'
    found = only(ask(database, row))
    assert not found.certain
    assert names(found.nodes) == ["one"]
    assert "`docker service ps --no-trunc web`" in found.missing[0]
    assert found.on_nodes[0].state is State.HELD


def test_a_leak_that_begins_names_its_device(database: Database) -> None:
    put(database)
    found = only(
        ask(database, "could not delete vxlan interface, vx-001001-shopz, error x node=one")
    )
    assert found.id == "leak-begins"
    assert names(found.nodes) == ["one"]
    assert found.vnis == [4097]


def test_a_log_of_many_nodes_is_told_per_node_and_network(database: Database) -> None:
    put(database, snapshot(*BIG))
    lines = [
        f"2030-01-01T12:00:{second:02}Z {name} dockerd[{second}]: {FAULT.replace('.1.', subnet)}"
        for second in range(20)
        for name, subnet in (("one", ".1."), ("two", ".1."), ("two", ".2."))
    ]
    found = ask(database, "\n".join(["2030-01-01T12:00:00Z one kernel: eth0 up", *lines])).findings
    assert [(names(each.nodes), names(each.networks), each.count) for each in found] == [
        (["one"], ["shop"], 20), (["two"], ["shop"], 20), (["two"], ["mail"], 20),
    ]  # fmt: skip
    assert found[0].first_at == START
    assert found[0].last_at == START + timedelta(seconds=19)


def test_a_relative_has_cause_and_cure_and_no_devices(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, [device(7, Verdict.ORPHAN)])
    found = only(
        ask(database, f"{CREATING.replace('file exists', 'operation not supported')} on one")
    )
    assert found.id == "no-vxlan"
    assert found.on_nodes == []
    assert "modprobe vxlan" in found.cure[0]
    assert names(found.nodes) == ["one"]


def test_another_error(database: Database) -> None:
    put(database)
    judge(database)
    answer = ask(database, "no such image: shop; node one")
    assert not answer.recognised
    assert "not the error of a leaked VXLAN device" in answer.meaning
    assert names(answer.nodes) == ["one"]
    assert any("no worker has ever reported" in each for each in answer.advice)


def test_a_network_with_the_name_of_dockers_words_is_not_meant_by_them(database: Database) -> None:
    put(database, snapshot(networks=[INGRESS, SHOP, MAIL, network("subnet", 5001)]))
    assert names(ask(database, FAULT).networks) == ["shop"]


def client_of(database: Database) -> TestClient:
    return TestClient(shared_app(database))


@pytest.mark.parametrize(
    ("given", "status"),
    [("", 422), ("x" * (MAX_LINE + 1), 422), ("x" * MAX_LINE, 200), ("\0", 200), ("\x1b[2J", 200)],
)
def test_a_line_over_the_api(database: Database, given: str, status: int) -> None:
    put(database)
    with client_of(database) as client:
        answer = client.get("/api/v1/explain", params={"error": given})
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["recognised"] is False


def test_a_text_over_the_api(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    text = "noise\n" * 20_000 + f"\n{FAULT} on one\n"
    with client_of(database) as client:
        answer = client.post("/api/v1/explain", json={"text": text})
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["findings"]
        assert found["nodes"] == [{"id": swarm_id("one"), "name": "one"}]
        assert found["line"] == 20_002
        assert client.post("/api/v1/explain", json={"text": ""}).status_code == 422
        assert (
            client.post("/api/v1/explain", json={"text": "x" * (MAX_TEXT + 1)}).status_code == 422
        )
        long = client.post("/api/v1/explain", json={"text": "x" * (5 * MAX_TEXT)})
        assert long.status_code == 413
        # JSON can say half of a character, which UTF-8 cannot.
        half, kind = b'{"text": "\\ud83d"}', {"content-type": "application/json"}
        answer = client.post("/api/v1/explain", content=half, headers=kind)
        assert answer.status_code == 422


def test_names_are_read_once_however_many_lines(database: Database) -> None:
    put(database, snapshot(*BIG))
    with database.read() as session:
        directory = Directory(session)
        assert directory.nodes.strong("two") is not None
        assert directory.nodes.strong("nobody") is None


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    text=st.one_of(
        st.text(max_size=500),
        st.lists(
            st.sampled_from(
                [
                    FAULT,
                    CREATING,
                    " on one",
                    "vx-001001-shopz",
                    "\n",
                    "two",
                    "\x00",
                    "vni 4097",
                    "'",
                ]
            ),
            max_size=12,
        ).map("".join),
    )
)
def test_any_text_gets_an_answer(database: Database, text: str) -> None:
    put(database)
    assert ask(database, text).meaning
