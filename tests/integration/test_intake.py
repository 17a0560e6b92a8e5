"""Taking in reports and drift: once, whole, and never shaken by what a worker (or somebody else) sends."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from contract.messages import MAX_ENTRIES, Drift, JournalEntry, ReconcileReport
from contract.queues import DRIFT_TASK, REPORT_TASK
from contract.runtime.refusals import Refusals
from contract.signing.envelope import CONTROLLERS, Signer, node_address
from contract.signing.refusals import Reason
from contract.verdicts import Outcome, Stage, Urgency, Verdict
from controller.db.engine import Database
from controller.db.states import RunState
from controller.db.types import Base
from controller.runs.hints import HintIntake
from controller.runs.reports import ReportIntake
from controller.trust.reception import Reception
from controller.workqueue import under_way
from controller.workqueue.priorities import Priority
from tests.bell import Bell
from tests.fake_clock import START, Clock
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, snapshot, swarm_id, task
from tests.reports import believed, device, drift, entry, report
from tests.signed import key_of, keyring, pin
from tests.stored import (
    RESYNC,
    ask,
    audit,
    claim,
    contents,
    devices,
    due_row,
    node_row,
    put,
    run_row,
)

LAST = 2**63 - 1
"""The greatest number that an entry may have."""

ONE, TWO = swarm_id("one"), swarm_id("two")


@pytest.fixture
def bell() -> Bell:
    """The dispatcher's doorbell."""
    return Bell()


@pytest.fixture
def intake(database: Database, bell: Bell, clock: Clock) -> ReportIntake:
    """The tasks of queue `controller`, over a database that has not seen any Swarm yet."""
    return ReportIntake(database, resync=RESYNC, notify=bell, utcnow=clock)


@pytest.fixture
def runs(database: Database) -> dict[str, UUID]:
    """Runs under way, by node: the Swarm has `one`, with a task of `shop`, and `two`."""
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    return {node_id: each.run_id for node_id, each in claim(database).items()}


@pytest.fixture
def hints(database: Database, bell: Bell, clock: Clock) -> HintIntake:
    return HintIntake(database, notify=bell, utcnow=clock)


def take_in(intake: ReportIntake, told: ReconcileReport) -> None:
    """Hand over a report as it comes from the queue."""
    intake.reports([believed(told)])


def test_a_report_closes_its_run(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], bell: Bell
) -> None:
    told = report(
        runs[ONE],
        devices=[
            device(1),
            device(2, Verdict.ORPHAN, removed=True),
            device(3, Verdict.ORPHAN),
        ],
        limitations=("cannot see nsid 4",),
    )
    take_in(intake, told)

    run = run_row(database, runs[ONE])
    assert (run.state, run.closed_at, run.error) == (RunState.SUCCEEDED, START, None)
    assert (run.started_at, run.finished_at) == (told.started_at, told.finished_at)
    assert (run.devices, run.orphans, run.removed) == (3, 2, 1)
    node = node_row(database)
    assert (node.attempted_generation, node.converged_generation) == (2, 2)
    assert (node.worker_version, node.worker_seen_at) == ("1.2.3", START)
    assert (node.limitations, node.last_error) == (["cannot see nsid 4"], None)
    assert due_row(database).run_id is None
    assert due_row(database, "two").run_id == runs[TWO]
    assert bell.rung == 0, "the next resync is far"


@pytest.mark.parametrize(
    ("outcome", "state", "converged", "limitations"),
    [
        (Outcome.DONE, RunState.SUCCEEDED, 2, ["limit"]),
        (Outcome.FAILED, RunState.FAILED, 0, ["limit"]),
        (Outcome.REFUSED, RunState.REFUSED, 0, []),
    ],
)
def test_each_outcome(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    outcome: Outcome,
    state: RunState,
    converged: int,
    limitations: list[str],
) -> None:
    take_in(intake, report(runs[ONE], outcome=outcome, error="reason", limitations=("limit",)))
    assert run_row(database, runs[ONE]).state is state
    node = node_row(database)
    assert (node.attempted_generation, node.converged_generation) == (2, converged)
    assert (node.last_error, node.limitations) == ("reason", limitations)
    assert due_row(database).failures == (outcome is not Outcome.DONE)


def test_devices_are_those_of_the_newest_report_without_those_removed(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], clock: Clock
) -> None:
    take_in(intake, report(runs[ONE], devices=[device(1), device(2, Verdict.SETTLING)]))
    clock.advance(100)
    again = claim(database, now=clock.now)[ONE].run_id
    told = [device(2, Verdict.ORPHAN), device(3), device(4, Verdict.ORPHAN, removed=True)]
    take_in(intake, report(again, devices=told))

    assert [(each.ifindex, each.verdict, each.urgency) for each in devices(database)] == [
        (2, Verdict.ORPHAN, Urgency.BLOCKING),
        (3, Verdict.IN_USE, None),
    ]
    assert [each.first_seen_at for each in devices(database)] == [START, clock.now]
    assert {each.judged_at for each in devices(database)} == {clock.now}


def test_another_device_with_the_same_number_is_seen_for_the_first_time(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], clock: Clock
) -> None:
    take_in(intake, report(runs[ONE], devices=[device(1)]))
    clock.advance(100)
    again = claim(database, now=clock.now)[ONE].run_id
    take_in(intake, report(again, devices=[device(1, vni=4098)]))
    (row,) = devices(database)
    assert row.first_seen_at == clock.now


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        pytest.param({"outcome": Outcome.REFUSED}, True, id="refused: it has not looked"),
        pytest.param({"outcome": Outcome.FAILED}, True, id="failed before it could look"),
        pytest.param({"outcome": Outcome.FAILED, "devices": [device(9)]}, False, id="failed after"),
        pytest.param({"outcome": Outcome.DONE}, False, id="done, and there is nothing"),
    ],
)
def test_devices_stay_when_the_node_was_not_looked_at(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    clock: Clock,
    told: dict[str, Any],
    kept: bool,
) -> None:
    take_in(intake, report(runs[ONE], devices=[device(1), device(2)]))
    again = claim(database, now=clock.advance(100))[ONE].run_id
    take_in(intake, report(again, **told))
    assert ([each.ifindex for each in devices(database)] == [1, 2]) is kept


def test_a_report_that_comes_again_changes_nothing_at_all(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    told = report(runs[ONE], devices=[device(1)], entries=[entry(1), entry(2)], journal_id=uuid4())
    take_in(intake, told)
    before = contents(database)
    for _ in range(3):
        take_in(intake, told)
    assert contents(database) == before


def test_the_same_entries_in_several_reports_make_one_row_each(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    entries, journal = [entry(number) for number in range(1, 6)], uuid4()
    for through in range(1, 6):
        take_in(intake, report(entries=entries[:through], journal_id=journal))
    assert [row.entry_id for row in audit(database)] == [each.id for each in entries]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_reports_taken_in_by_several_controllers_at_once_make_one_row_an_entry(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    told = report(
        runs[ONE],
        devices=[device(1)],
        entries=[entry(number) for number in range(1, 50)],
        journal_id=uuid4(),
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: take_in(intake, told), range(12)))
    assert len(audit(database)) == 49
    assert run_row(database, runs[ONE]).state is RunState.SUCCEEDED
    assert len(devices(database)) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_dispatcher_need_not_wait_for_a_report_of_the_node_that_it_claims(
    database: Database, intake: ReportIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would hold what the other waits for, when the report comes at its run's very deadline."""
    put(database)
    claimed: list[str] = []
    monkeypatch.setattr(
        "controller.runs.reports._acknowledge", lambda *_, **__: claimed.extend(claim(database))
    )
    take_in(intake, report())
    assert ONE in claimed


def test_an_audit_row_says_everything(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], clock: Clock
) -> None:
    told = entry(1, stage=Stage.PLANNED, at=START - timedelta(hours=1))
    clock.advance(5)
    take_in(intake, report(entries=[told], journal_id=uuid4()))
    (row,) = audit(database)
    assert (row.entry_id, row.stage, row.at) == (told.id, Stage.PLANNED, told.at)
    assert row.stored_at == clock.now
    assert (row.node_id, row.node_name) == (ONE, "one")
    assert (row.network_id, row.network_name) == (SHOP.id, "shop")
    assert (row.netns, row.ifindex, row.name) == ("host", 7, "vx-001001-shopz")
    assert (row.vni, row.port, row.urgency) == (4097, 4789, Urgency.BLOCKING)
    assert (row.reason, row.evidence) == ("reason", "what")
    assert (row.run_id, row.worker_version) == (told.run_id, "1.2.3")


@pytest.mark.parametrize(
    ("after", "named", "shown"),
    [
        pytest.param([SHOP], "shop", ("shop", "shop"), id="it is there"),
        pytest.param([SHOP], None, ("shop", "shop"), id="by its VNI"),
        pytest.param([], "shop", ("shop", "shop"), id="gone since"),
        pytest.param([], None, ("shop", "shop"), id="gone since, by its VNI"),
        pytest.param(
            [network("new", 4097)], "shop", ("shop", "shop"), id="gone, and its VNI is another's"
        ),
        pytest.param([network("new", 4097)], None, ("new", "new"), id="whose the VNI is now"),
        pytest.param([SHOP], "nosuch", ("nosuch", None), id="a network that was never seen"),
    ],
)
def test_the_network_keeps_its_name_after_it_is_gone(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    after: list[Any],
    named: str | None,
    shown: tuple[str, str | None],
) -> None:
    put(database, snapshot(networks=[INGRESS, MAIL, *after]))
    take_in(intake, report(entries=[entry(1, network=named)], journal_id=uuid4()))
    (row,) = audit(database)
    assert (row.network_id, row.network_name) == (swarm_id(shown[0]), shown[1])


@pytest.mark.parametrize("going", ["abc", "cba", "bca"])
def test_of_networks_that_are_gone_the_last_to_have_the_vni_is_named(
    database: Database, intake: ReportIntake, going: str
) -> None:
    left = sorted(going)
    put(database, snapshot(networks=[network(each, 4097) for each in left]))
    for day, name in enumerate(going):
        left.remove(name)
        state = snapshot(networks=[network(each, 4097) for each in left])
        put(database, state, START + timedelta(days=day))
    take_in(intake, report(entries=[entry(1, network=None)], journal_id=uuid4()))
    assert audit(database)[0].network_name == going[-1]


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        pytest.param(None, (None, None), id="no network is named"),
        pytest.param("shop", (SHOP.id, "shop"), id="a network that does not have it any more"),
    ],
)
def test_an_entry_about_a_vni_that_no_network_has(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    named: str | None,
    shown: tuple[str | None, str | None],
) -> None:
    take_in(intake, report(entries=[entry(1, vni=9999, network=named)], journal_id=uuid4()))
    (row,) = audit(database)
    assert (row.network_id, row.network_name) == shown


@pytest.mark.parametrize(
    ("batches", "through"),
    [
        pytest.param([[1, 2, 3]], 3, id="from the beginning"),
        pytest.param([[1, 2], [3, 4]], 4, id="in pieces"),
        pytest.param([[1, 2, 3], [2, 3, 4]], 4, id="overlapping"),
        pytest.param([[1, 2, 3], [1, 2]], 2, id="an old one late: what it repeats is stored once"),
        pytest.param([[1, 2, 3], [1, 2], [4]], 4, id="and the next one after that"),
        pytest.param(
            [[1, 2], [4, 5]], 5, id="after what was trimmed: the first is the oldest left"
        ),
        pytest.param([[17, 18]], 18, id="a database that was restored from a backup"),
        pytest.param([[1, 2, 4, 5]], 2, id="with a gap inside"),
        pytest.param([[1, 2, 2, 3]], 2, id="with a repeat inside"),
        pytest.param([[1, 2, LAST]], 2, id="with the greatest number at the end"),
        pytest.param([[1, 2], [LAST]], LAST, id="forged: by whoever knows the run"),
        pytest.param([[1, 2], [LAST], [3, 4]], 4, id="forged, and then a genuine one"),
        pytest.param([[1], []], 1, id="nothing new"),
    ],
)
def test_the_journal_is_acknowledged_without_gaps(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    batches: list[list[int]],
    through: int,
) -> None:
    journal, run = uuid4(), runs[ONE]
    for numbers in batches:
        take_in(intake, report(run, entries=[entry(each) for each in numbers], journal_id=journal))
        ask(database, priority=Priority.MANUAL)
        run = claim(database)[ONE].run_id
    node = node_row(database)
    assert (node.journal_id, node.journal_through) == (journal, through)


@pytest.mark.parametrize(
    ("numbers", "through"),
    [
        pytest.param([LAST], 2, id="forged"),
        pytest.param([4, 5], 2, id="after a gap"),
        pytest.param([3, 4], 4, id="what comes next"),
        pytest.param([1, 2, 3], 3, id="overlapping"),
    ],
)
def test_a_report_that_was_not_asked_for_acknowledges_nothing_beyond_a_gap(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    numbers: list[int],
    through: int,
) -> None:
    journal = uuid4()
    take_in(intake, report(runs[ONE], entries=[entry(1), entry(2)], journal_id=journal))
    take_in(intake, report(entries=[entry(each) for each in numbers], journal_id=journal))
    assert node_row(database).journal_through == through
    assert len(audit(database)) == 2 + len(numbers), "which are stored all the same"


def test_what_a_worker_forgets_is_stored_whatever_becomes_of_its_reports(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    chance = random.Random(7)  # noqa: S311 -- always the same
    journal = uuid4()
    kept: list[JournalEntry] = []
    forgotten: set[UUID] = set()
    on_their_way: list[ReconcileReport] = []
    run = runs[ONE]
    for number in range(1, 61):
        kept.append(entry(number))
        # A report has room for so many.
        on_their_way.append(report(run, entries=kept[:5], journal_id=journal))
        fate = chance.choice(["lost", "late", "in time", "in time", "twice"])
        if fate == "lost":
            on_their_way.pop()
        elif fate != "late":
            chance.shuffle(on_their_way)
            for told in on_their_way:
                take_in(intake, told)
            on_their_way = on_their_way[:1] if fate == "twice" else []
        with database.write() as session:
            under_way.expire(session, now=START + timedelta(hours=1), resync=RESYNC)
        ask(database, priority=Priority.MANUAL)
        run = claim(database)[ONE].run_id
        through = node_row(database).journal_through
        forgotten |= {each.id for each in kept if each.sequence <= through}
        kept = [each for each in kept if each.sequence > through]
    assert len(forgotten) > 40
    assert forgotten <= {row.entry_id for row in audit(database)}


def test_a_new_journal_is_acknowledged_from_its_beginning(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    take_in(intake, report(entries=[entry(number) for number in (1, 2, 3)], journal_id=uuid4()))
    new = uuid4()
    before = node_row(database).journal_id
    take_in(intake, report(entries=[entry(1)], journal_id=new))
    assert node_row(database).journal_id == before, "a late report may be one of long ago"
    take_in(intake, report(runs[ONE], entries=[entry(1)], journal_id=new))
    node = node_row(database)
    assert (node.journal_id, node.journal_through) == (new, 1)


def test_a_report_of_an_unknown_node_changes_nothing(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    before = contents(database)
    take_in(intake, report(runs[ONE], node="nosuch", entries=[entry(1)], devices=[device(1)]))
    assert contents(database) == before


def test_a_report_of_an_unknown_run_still_stores_its_audit_rows(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    before = contents(database)
    journal = uuid4()
    take_in(intake, report(devices=[device(1)], entries=[entry(1)], journal_id=journal))
    after = contents(database)
    assert len(audit(database)) == 1
    assert node_row(database).journal_through == 1
    for table in ("devices", "runs", "due_nodes"):
        assert after[table] == before[table]


def test_a_report_cannot_close_the_run_of_another_node(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    before = contents(database)
    take_in(intake, report(runs[TWO], devices=[device(1)], entries=[entry(1)], journal_id=uuid4()))
    after = contents(database)
    assert len(audit(database)) == 1
    for table in ("devices", "runs", "due_nodes"):
        assert after[table] == before[table]

    take_in(intake, report(runs[TWO], node="two"))
    assert run_row(database, runs[TWO]).state is RunState.SUCCEEDED


def give_up(database: Database, clock: Clock) -> None:
    """Let the runs under way pass their deadline."""
    clock.advance(31)
    with database.write() as session:
        assert under_way.expire(session, now=clock.now, resync=RESYNC)


def test_a_report_that_comes_after_its_run_was_given_up_is_taken_all_the_same(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], clock: Clock
) -> None:
    """A node that is slower than the run timeout each time would otherwise never be known."""
    give_up(database, clock)
    retry = due_row(database).due_at
    clock.advance(50)
    with capture_logs() as logs:
        take_in(intake, report(runs[ONE], devices=[device(1)], entries=[entry(1)]))
    run, node, due = run_row(database, runs[ONE]), node_row(database), due_row(database)
    assert (run.state, run.closed_at, run.error) == (RunState.SUCCEEDED, clock.now, None)
    assert (node.last_run_state, node.converged_generation) == (RunState.SUCCEEDED, 2)
    assert (len(devices(database)), len(audit(database))) == (1, 1)
    assert (due.run_id, due.due_at, due.failures) == (None, retry, 1), "it is tried again as before"
    (told,) = [each for each in logs if each["log_level"] == "warning"]
    assert (told["seconds"], "RUN_TIMEOUT_SECONDS" in told["hint"]) == (81, True)


def test_a_report_that_comes_late_does_not_end_the_run_that_is_under_way_by_then(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], clock: Clock
) -> None:
    give_up(database, clock)
    ask(database, at=clock.now, priority=Priority.MANUAL)
    again = claim(database, now=clock.now)[ONE].run_id
    take_in(intake, report(runs[ONE], devices=[device(1)]))
    assert run_row(database, runs[ONE]).state is RunState.SUCCEEDED
    assert (due_row(database).run_id, run_row(database, again).state) == (again, RunState.RUNNING)
    take_in(intake, report(again, devices=[device(2)]))
    assert run_row(database, again).state is RunState.SUCCEEDED
    assert [each.ifindex for each in devices(database)] == [2]


@pytest.mark.parametrize("newer", [False, True], ids=["too late", "a newer run has ended"])
def test_a_report_that_says_nothing_of_now_stores_its_audit_rows_and_leaves_the_run_lost(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], clock: Clock, newer: bool
) -> None:
    give_up(database, clock)
    if newer:
        ask(database, at=clock.now, priority=Priority.MANUAL)
        take_in(intake, report(claim(database, now=clock.now)[ONE].run_id))
    else:
        clock.advance(60)
    take_in(intake, report(runs[ONE], devices=[device(1)], entries=[entry(1)]))
    assert run_row(database, runs[ONE]).state is RunState.LOST
    assert devices(database) == []
    assert len(audit(database)) == 1
    assert node_row(database).worker_seen_at == clock.now


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_the_node_is_due_again_when_the_worker_asks(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], seconds: float
) -> None:
    take_in(intake, report(runs[ONE], recheck_after=seconds))
    assert due_row(database).due_at == START + timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [300.0, 1e9, float("inf")])
def test_no_worker_puts_the_resync_off(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], seconds: float
) -> None:
    take_in(intake, report(runs[ONE], recheck_after=seconds))
    at = due_row(database).due_at
    assert at is not None
    assert at <= START + RESYNC * 1.1


def test_drift_makes_its_node_due_at_once(
    database: Database, hints: HintIntake, runs: dict[str, UUID], bell: Bell
) -> None:
    hints.drift(believed(drift(7, 8, 9)))
    row = due_row(database)
    assert (row.due_at, row.priority) == (START, Priority.DRIFT)
    assert row.reasons == ["drift: vx-001001-shopz in host and 2 more is idle"]
    assert due_row(database, "two").due_at is None
    assert bell.priorities == [Priority.DRIFT]


def test_drift_adds_the_devices_that_are_new_and_leaves_the_others(
    database: Database, intake: ReportIntake, hints: HintIntake, runs: dict[str, UUID]
) -> None:
    take_in(intake, report(runs[ONE], devices=[device(7)]))
    (known,) = devices(database)
    for _ in range(2):
        hints.drift(believed(drift(7, 8, 8)))
    first, second = devices(database)
    assert (first.ifindex, first.verdict, first.reason) == (7, Verdict.IN_USE, known.reason)
    assert (second.ifindex, second.verdict, second.vni) == (8, Verdict.SETTLING, 4097)


def test_drift_of_an_unknown_node_changes_nothing(
    database: Database, hints: HintIntake, runs: dict[str, UUID]
) -> None:
    before = contents(database)
    hints.drift(believed(drift(7, node="nosuch")))
    assert contents(database) == before


def good() -> dict[str, Any]:
    """A report as JSON, to be spoilt."""
    told = report(devices=[device(1)], entries=[entry(1)], journal_id=uuid4())
    raw: dict[str, Any] = json.loads(told.model_dump_json())
    return raw


def spoilt(*path: str | int, value: Any) -> str:
    """A report as JSON in which what is at this path is something else."""
    whole = good()
    inner: Any = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(whole)


HOSTILE = {
    "empty": "",
    "no JSON": "}{",
    "null": "null",
    "a list": "[]",
    "nothing": "{}",
    "deep": "[" * 100_000,
    "another version": spoilt("version", value=99),
    "SQL for a node": spoilt("node_id", value="'; DROP TABLE nodes; --"),
    "a short node id": spoilt("node_id", value="one"),
    "no run id": spoilt("run_id", value="1"),
    "NUL in the error": spoilt("error", value="a\0b"),
    "NUL in a limit": spoilt("limitations", value=["a\0b"]),
    "NUL in a version": spoilt("worker_version", value="\0"),
    "NUL in a device's name": spoilt("devices", 0, "identity", "name", value="vx\0"),
    "NUL in a reason": spoilt("entries", 0, "reason", value="\0"),
    "NUL in evidence": spoilt("devices", 0, "evidence", value="\0"),
    "half a character": spoilt("error", value="\ud800"),
    "an endless reason": spoilt("entries", 0, "reason", value="x" * 100_000),
    "a huge generation": spoilt("generation", value=2**31),
    "an endless generation": spoilt("generation", value=10**40),
    "a negative generation": spoilt("generation", value=-1),
    "a huge sequence": spoilt("entries", 0, "sequence", value=2**63),
    "a negative sequence": spoilt("entries", 0, "sequence", value=-1),
    "a huge ifindex": spoilt("devices", 0, "identity", "ifindex", value=2**31),
    "a huge VNI": spoilt("devices", 0, "identity", "vni", value=2**24),
    "another place": spoilt("devices", 0, "identity", "netns", value="../../etc"),
    "a place that ends a line": spoilt("devices", 0, "identity", "netns", value="host\n"),
    "a node id that ends a line": spoilt("node_id", value=ONE + "\n"),
    "the year one, far east": spoilt("entries", 0, "at", value="0001-01-01T00:00:00+14:00"),
    "the year 9999, far west": spoilt("started_at", value="9999-12-31T23:59:59-14:00"),
    "a time without a zone": spoilt("entries", 0, "at", value="2030-01-01T00:00:00"),
    "not a number": spoilt("recheck_after", value=float("nan")),
    "an unknown stage": spoilt("entries", 0, "stage", value="boom"),
    "an urgency without an orphan": spoilt("devices", 0, "urgency", value="blocking"),
    "too many entries": spoilt("entries", value=good()["entries"] * 2001),
    "a number for an error": spoilt("error", value=1),
}


@pytest.fixture
def refused() -> Refusals:
    return Refusals()


@pytest.fixture
def reception(database: Database, clock: Clock, refused: Refusals) -> Reception:
    """What opens messages, and believes the worker of node `one`."""
    pin(database, ONE)
    return Reception(database, keyring(database), refused=refused, utcnow=clock)


def sealed(payload: str, task: str, clock: Clock) -> str:
    """Anything, signed by the worker of node `one`."""
    signer = Signer(key_of(ONE), node_address(ONE), now=clock)
    return signer.seal(payload, audience=CONTROLLERS, task=task)


@pytest.mark.parametrize("payload", [pytest.param(HOSTILE[name], id=name) for name in HOSTILE])
def test_a_signed_report_that_is_not_one_is_counted_and_does_nothing(
    intake: ReportIntake,
    runs: dict[str, UUID],
    clock: Clock,
    reception: Reception,
    refused: Refusals,
    payload: str,
) -> None:
    take = reception.handler(REPORT_TASK, ReconcileReport, lambda _: pytest.fail("it was believed"))
    take(sealed(payload, REPORT_TASK, clock))
    assert sum(refused.counts.values()) == 1
    assert refused.counts.keys() <= {Reason.MALFORMED, Reason.WRONG_SENDER}


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param(json.dumps({"node_id": ONE}), id="not whole"),
        pytest.param(
            drift(7).model_dump_json().replace("vx-001001-shopz", "\\u0000"), id="NUL in a name"
        ),
        pytest.param(
            json.dumps(json.loads(drift(7).model_dump_json()) | {"devices": []}), id="no device"
        ),
    ],
)
def test_a_signed_hint_that_is_not_one_is_counted_and_does_nothing(
    clock: Clock, reception: Reception, refused: Refusals, payload: str
) -> None:
    take = reception.handler(DRIFT_TASK, Drift, lambda _: pytest.fail("it was believed"))
    take(sealed(payload, DRIFT_TASK, clock))
    assert refused.counts == {Reason.MALFORMED: 1}


def test_a_newer_workers_additions_are_ignored(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    told = json.dumps(good() | {"run_id": str(runs[ONE]), "weather": "fine"})
    take_in(intake, ReconcileReport.model_validate_json(told))
    assert run_row(database, runs[ONE]).state is RunState.SUCCEEDED


def test_a_device_that_is_told_twice_is_stored_once(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    take_in(intake, report(runs[ONE], devices=[device(1), device(1, Verdict.SETTLING)]))
    assert [each.ifindex for each in devices(database)] == [1]


def test_an_entry_that_is_told_twice_is_stored_once(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    twice: JournalEntry = entry(1)
    take_in(intake, report(entries=[twice, twice], journal_id=uuid4()))
    assert len(audit(database)) == 1


def test_as_much_as_a_message_may_carry_is_taken_in(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    entries = [entry(number, vni=number) for number in range(1, MAX_ENTRIES + 1)]
    told = [device(number) for number in range(1, 2001)]
    take_in(intake, report(runs[ONE], devices=told, entries=entries, journal_id=uuid4()))
    assert len(audit(database)) == node_row(database).journal_through == MAX_ENTRIES
    assert len(devices(database)) == 2000


def test_an_error_halfway_leaves_everything_as_it_was(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(database)
    monkeypatch.setattr("controller.runs.reports.devices.store", lambda *_: 1 / 0)
    take_in(
        intake,
        report(runs[ONE], devices=[device(1)], entries=[entry(1)], journal_id=uuid4()),
    )
    assert contents(database) == before
    assert set(before) == set(Base.metadata.tables)
