"""`vxctl explain`: from an error line to the network, the nodes, what was done and what to do."""

from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.messages import JournalEntry
from contract.verdicts import Mode, Stage, Verdict
from controller.api.app import build
from controller.api.context import Context
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.runs.reports import ReportIntake
from controller.swarm.rejections import Rejections
from controller.views.explain import (
    MAX_LENGTH,
    Explanation,
    clues,
    explain,
)
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from tests.api_client import TestClient
from tests.fake_clock import START
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, snapshot, swarm_id, task
from tests.reports import device, entry, report
from tests.stored import RESYNC, claim, put

FAULT = (
    'network sandbox join failed: subnet sandbox join failed for "10.0.2.0/24": '
    "error creating vxlan interface: file exists"
)


@pytest.mark.parametrize(
    ("line", "vnis", "some_words"),
    [
        (FAULT, set(), {"10.0.2.0"}),
        ("error on vx-001001-abcde: file exists", {4097}, {"vx-001001-abcde"}),
        ("vxlan id 4097, VNI: 4098", {4097, 4098}, {"id"}),
        ("vni 99999999", set(), {"99999999"}),
        ("vx-zzzzzz-abcde", set(), set()),
        ("", set(), set()),
    ],
)
def test_what_a_line_names(line: str, vnis: set[int], some_words: set[str]) -> None:
    found = clues(line)
    assert found.vnis == vnis
    assert some_words <= found.words


def test_words_of_dockers_message_name_nothing() -> None:
    assert {"network", "sandbox", "subnet", "exists"}.isdisjoint(clues(FAULT).words)
    assert clues(FAULT).subnet == "10.0.2.0/24"


def test_a_line_is_read_only_so_far() -> None:
    assert len(clues("word " * 10_000).words) <= 200
    assert clues("x" * MAX_LENGTH + " vni 7").vnis == set()


def look(database: Database, **told: object) -> None:
    """Let node `one` be looked at, and judged."""
    with database.write() as session:
        queue.request(session, [swarm_id("one")], at=START, priority=Priority.MANUAL, reason="x")
    run = claim(database)[swarm_id("one")]
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)
    intake.report(report(run.run_id, **told).model_dump_json())  # type: ignore[arg-type]
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: START).step()


def ask(database: Database, line: str) -> Explanation:
    """What it means."""
    with database.read() as session:
        return explain(session, line, Mode.ENFORCE)


def removed(network_name: str | None = "shop") -> list[JournalEntry]:
    """What a journal says of a removal."""
    return [
        entry(1, stage=Stage.DETECTED, network=network_name),
        entry(2, stage=Stage.APPLIED, network=network_name),
    ]


def test_a_rejected_task_leads_from_the_subnet_to_node_and_network(database: Database) -> None:
    fault = FAULT.replace("10.0.2", "10.0.1")
    rejected = task("t1", "one", "shop", live=False, wanted=True, error=fault)
    put(database, snapshot(tasks=[rejected, task("t2", "two", "mail")]))
    kept = Rejections(database, lambda *_: None, lambda: START)
    kept.record([rejected], {each.id: each for each in (INGRESS, SHOP, MAIL)})
    look(
        database,
        devices=[device(7, Verdict.ORPHAN, removed=True)],
        entries=[entry(2, at=START + timedelta(seconds=1))],
        journal_id=uuid4(),
    )
    found = ask(database, fault)
    assert found.recognised
    assert "rejects each task" in found.meaning
    assert [node.hostname for node in found.nodes] == ["one"]
    assert [network.name for network in found.networks] == ["shop"]
    assert [row.stage for row in found.lately] == [Stage.APPLIED]
    assert "The device was removed at" in found.advice[-1]
    assert ask(database, fault.replace("10.0.1", "10.9.9")).nodes == []


def test_a_line_that_names_a_node_is_about_no_other_that_rejected_the_same(
    database: Database,
) -> None:
    fault = FAULT.replace("10.0.2", "10.0.1")
    rejected = [
        task(name, on, "shop", live=False, wanted=True, error=fault)
        for name, on in (("t1", "one"), ("t2", "two"))
    ]
    put(database, snapshot(tasks=rejected))
    kept = Rejections(database, lambda *_: None, lambda: START)
    kept.record(rejected, {each.id: each for each in (INGRESS, SHOP, MAIL)})
    assert [node.hostname for node in ask(database, f"web.1 two Rejected {fault}").nodes] == ["two"]
    assert len(ask(database, fault).nodes) == 2


def test_what_it_is_pasted_with_leads_further(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, devices=[device(7, Verdict.ORPHAN)])
    for words in (f"web.1 one Rejected {FAULT}", f"{FAULT} {swarm_id('one')} vx-001001-shopz"):
        found = ask(database, words)
        assert [node.hostname for node in found.nodes] == ["one"]
        assert [each.ifindex for each, _ in found.now] == [7]
        assert any("not removed: 1 orphan (1 blocking)" in each for each in found.advice)
    assert [each.name for each in ask(database, "network shop: x").networks] == ["shop"]
    assert [each.name for each in ask(database, "vni 4098").networks] == ["mail"]


def test_a_conflict_is_named(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, devices=[device(7, Verdict.CONFLICT)])
    found = ask(database, f"{FAULT} one")
    assert [each.verdict for each, _ in found.now] == [Verdict.CONFLICT]
    assert any("move that software" in each for each in found.advice)


def test_what_was_done_to_another_network_is_not_told(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    look(database, entries=removed(), journal_id=uuid4())
    assert ask(database, f"{FAULT} one mail").lately == []
    assert len(ask(database, f"{FAULT} one shop").lately) == 1
    assert len(ask(database, f"{FAULT} shop").lately) == 1


def test_a_line_that_names_nothing_says_what_is_missing(database: Database) -> None:
    put(database)
    found = ask(database, FAULT)
    assert (found.nodes, found.networks, found.now, found.lately) == ([], [], [], [])
    assert "does not name its node" in found.advice[0]


def test_another_error(database: Database) -> None:
    put(database)
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: START).step()
    found = ask(database, "no such image: shop; node one")
    assert not found.recognised
    assert "not the error of a leaked VXLAN device" in found.meaning
    assert [node.hostname for node in found.nodes] == ["one"]
    assert any("no worker has ever reported" in each for each in found.advice)


def test_a_network_with_the_name_of_dockers_words_is_not_meant_by_them(database: Database) -> None:
    put(database, snapshot(networks=[INGRESS, SHOP, MAIL, network("subnet", 5001)]))
    assert ask(database, FAULT).networks == []


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("", 422),
        ("x" * (MAX_LENGTH + 1), 422),
        ("x" * MAX_LENGTH, 200),
        ("\0", 200),
        ("\x1b[2J", 200),
    ],
)
def test_over_the_api(database: Database, given: str, status: int) -> None:
    put(database)
    with TestClient(build(Context(database, mode=Mode.ENFORCE, notify=lambda *_: None))) as client:
        answer = client.get("/api/v1/explain", params={"error": given})
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["detail"].startswith("error: ")
    else:
        assert answer.json()["recognised"] is False


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(line=st.text(max_size=5000))
def test_any_line_gets_an_answer(database: Database, line: str) -> None:
    put(database)
    assert ask(database, line).meaning
