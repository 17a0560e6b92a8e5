"""What a controller believes of a node: of itself, within what can be; each attack was tried before."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError
from sqlalchemy import event

from contract.messages import MAX_LIMITATIONS, Hello, ReconcileReport
from contract.verdicts import Mode, Stage, Verdict
from controller.db.engine import Database
from controller.db.models import Cluster
from controller.db.states import RunState
from controller.runs import requests
from controller.runs.hints import HintIntake
from controller.runs.reports import ReportIntake
from controller.runs.requests import Terms
from controller.safety.breaker import DEFAULTS
from controller.swarm.readings import Readings
from controller.workqueue import queue
from tests.bell import Bell
from tests.fake_clock import START, Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.reports import believed, device, drift, entry, removal, report
from tests.signed import keyring
from tests.stored import RESYNC, TIMEOUT, audit, devices, due_row, node_row, put, run_row

ONE, TWO = swarm_id("one"), swarm_id("two")
SIX = ("one", "two", "three", "four", "five", "six")
LIMIT = DEFAULTS.node_removals


class Swarm:
    """Nodes with runs under way, whose requests were built as the dispatcher builds them."""

    def __init__(self, database: Database, clock: Clock, mode: Mode = Mode.ENFORCE) -> None:
        self.database = database
        put(database, snapshot(*SIX))
        self.intake = ReportIntake(database, resync=RESYNC, notify=Bell(), utcnow=clock)
        terms = Terms(
            mode=mode,
            limits=DEFAULTS,
            keys=keyring(database),
            fence=lambda: 0,
            reading=Readings().newest,
            next_within=RESYNC,
        )
        with database.write() as session:
            claims = queue.claim(session, now=START, limit=10, timeout=TIMEOUT)
            requests.build(session, claims, terms, START)
        self.runs = {each.node_id: each.run_id for each in claims}

    def tell(self, told: ReconcileReport) -> None:
        """Let a report come."""
        self.intake.reports([believed(told)])

    def breakers(self) -> tuple[bool, bool]:
        """Whether that of node `one`, and that of the cluster, has tripped."""
        with self.database.read() as session:
            cluster = session.get_one(Cluster, 1)
        node = node_row(self.database)
        return node.breaker_tripped_at is not None, cluster.breaker_tripped_at is not None


@pytest.fixture
def swarm(database: Database, clock: Clock) -> Swarm:
    return Swarm(database, clock)


@pytest.fixture
def hints(database: Database, clock: Clock) -> HintIntake:
    return HintIntake(database, notify=Bell(), utcnow=clock)


def flagged(run_id: UUID, count: int, node: str = "one") -> ReconcileReport:
    """A report of so many devices as removed, with a journal that does not know of them."""
    told = [device(number, Verdict.ORPHAN, removed=True) for number in range(1, count + 1)]
    return report(run_id, node=node, devices=told, entries=[entry(1)])


def recorded(run_id: UUID, count: int, node: str = "one") -> ReconcileReport:
    """The same with a journal entry of each."""
    told = [device(number, Verdict.ORPHAN, removed=True) for number in range(1, count + 1)]
    return report(run_id, node=node, devices=told, journal_id=uuid4())


def test_devices_called_removed_trip_no_breaker(swarm: Swarm) -> None:
    swarm.tell(flagged(swarm.runs[ONE], 2 * LIMIT))
    for name in SIX[1:]:
        swarm.tell(flagged(swarm.runs[swarm_id(name)], 1, name))
    assert swarm.breakers() == (False, False)
    assert run_row(swarm.database, swarm.runs[ONE]).removed == 0


def test_removals_of_a_run_that_only_observed_trip_no_breaker(
    database: Database, clock: Clock
) -> None:
    swarm = Swarm(database, clock, Mode.OBSERVE)
    for name in SIX:
        swarm.tell(recorded(swarm.runs[swarm_id(name)], 1 if name != "one" else LIMIT, name))
    assert swarm.breakers() == (False, False)


def test_removals_that_were_allowed_and_recorded_trip_it(swarm: Swarm) -> None:
    swarm.tell(recorded(swarm.runs[ONE], LIMIT))
    assert swarm.breakers() == (True, False)
    for name in SIX[1:]:
        swarm.tell(recorded(swarm.runs[swarm_id(name)], 1, name))
    assert swarm.breakers() == (True, True)


def test_no_more_removals_count_than_a_run_was_allowed(swarm: Swarm) -> None:
    swarm.tell(recorded(swarm.runs[ONE], 5 * LIMIT))
    assert run_row(swarm.database, swarm.runs[ONE]).removed == LIMIT


@pytest.mark.parametrize("late", [False, True])
def test_entries_about_the_run_of_another_node_count_for_neither(swarm: Swarm, late: bool) -> None:
    others = [removal(swarm.runs[TWO], number, device(number).identity) for number in range(1, 300)]
    told = report(None if late else swarm.runs[ONE], entries=others, journal_id=uuid4())
    swarm.tell(told)
    assert run_row(swarm.database, swarm.runs[TWO]).removed == 0
    assert swarm.breakers() == (False, False)


def test_removals_whose_entries_come_in_later_reports_count_once(
    swarm: Swarm, clock: Clock
) -> None:
    """A report has room for so many entries, and a worker may have died before it told of a removal."""
    run_id, journal = swarm.runs[ONE], uuid4()
    entries = [removal(run_id, number, device(number).identity) for number in range(1, 6)]
    swarm.tell(report(run_id, entries=entries[:2], journal_id=journal))
    swarm.tell(report(entries=entries[1:4], journal_id=journal))
    swarm.tell(report(entries=entries[3:], journal_id=journal))
    assert run_row(swarm.database, run_id).removed == 5


def test_a_removal_that_a_later_look_showed_counts(swarm: Swarm) -> None:
    of_it = removal(swarm.runs[ONE], 1, device(1).identity)
    stages = (Stage.PLANNED, Stage.UNCERTAIN, Stage.VERIFIED)
    told = [
        of_it.model_copy(update={"id": uuid4(), "sequence": number, "stage": stage})
        for number, stage in enumerate(stages, start=1)
    ]
    swarm.tell(report(swarm.runs[ONE], entries=told[:2], journal_id=uuid4()))
    assert run_row(swarm.database, swarm.runs[ONE]).removed == 0
    swarm.tell(report(entries=told, journal_id=uuid4()))
    assert run_row(swarm.database, swarm.runs[ONE]).removed == 1


def test_no_generation_beyond_that_of_the_run_is_converged(swarm: Swarm) -> None:
    swarm.tell(report(swarm.runs[ONE], generation=2**31 - 1))
    node = node_row(swarm.database)
    assert (node.attempted_generation, node.converged_generation) == (node.generation,) * 2


@pytest.mark.parametrize("year", [1970, 8999])
def test_times_that_cannot_be_are_held_to_what_can(swarm: Swarm, year: int) -> None:
    told = datetime(year, 5, 5, tzinfo=UTC)
    tale = report(swarm.runs[ONE], entries=[entry(1, at=told)], journal_id=uuid4())
    swarm.tell(tale.model_copy(update={"started_at": told, "finished_at": told}))
    run, slack = run_row(swarm.database, swarm.runs[ONE]), timedelta(minutes=5)
    assert {run.started_at, run.finished_at} <= {START - slack, START + slack}
    (row,) = [row for row in audit(swarm.database) if row.stage is Stage.APPLIED]
    earliest = datetime(2020, 1, 1, tzinfo=UTC) - slack
    assert row.at == (earliest if year == 1970 else START + slack)
    assert row.evidence == f"what (its node dated this {year}-05-05 00:00:00 UTC)"


def test_a_verdict_is_not_dated_by_a_node_alone(swarm: Swarm) -> None:
    told = report(swarm.runs[ONE], devices=[device(1, Verdict.FOREIGN)])
    swarm.tell(told.model_copy(update={"started_at": datetime(8999, 1, 1, tzinfo=UTC)}))
    assert max(row.at for row in audit(swarm.database)) == START + timedelta(minutes=5)


def test_limits_and_missing_networks_are_few(swarm: Swarm) -> None:
    with pytest.raises(ValidationError, match="limitations"):
        report(limitations=("x" * 2_000,) * (MAX_LIMITATIONS + 1))
    swarm.tell(
        report(swarm.runs[ONE], missing=[swarm_id("shop"), *(swarm_id(f"x{n}") for n in range(99))])
    )
    assert node_row(swarm.database).missing == ["shop"]


@pytest.mark.parametrize("run", ["of no node", "of another node", "reported already"])
def test_a_report_of_a_run_that_is_not_its_own_is_no_sign_of_life(
    swarm: Swarm, clock: Clock, run: str
) -> None:
    run_id = swarm.runs[TWO] if run == "of another node" else uuid4()
    if run == "reported already":
        run_id = swarm.runs[ONE]
        swarm.tell(report(run_id))
    before = node_row(swarm.database).worker_seen_at
    clock.advance(60)
    swarm.tell(report(run_id))
    assert node_row(swarm.database).worker_seen_at == before
    assert run_row(swarm.database, swarm.runs[TWO]).state is RunState.RUNNING


@pytest.mark.parametrize("together", [True, False])
def test_no_node_keeps_the_audit_rows_of_another_out(swarm: Swarm, together: bool) -> None:
    """With entries of the same ids, which it may have seen in the broker."""
    genuine = report(swarm.runs[TWO], node="two", entries=[entry(1), entry(2)], journal_id=uuid4())
    forged = report(
        swarm.runs[ONE],
        entries=[each.model_copy(update={"reason": "x"}) for each in genuine.entries],
        journal_id=uuid4(),
    )
    batches = [[forged, genuine]] if together else [[forged], [genuine]]
    for batch in [*batches, *batches, [genuine], [forged]]:
        swarm.intake.reports([believed(each) for each in batch])
    rows = [row for row in audit(swarm.database) if row.stage is Stage.APPLIED]
    assert sorted((row.node_name, row.reason) for row in rows) == [
        *[("one", "x")] * 2, *[("two", "reason")] * 2,
    ]  # fmt: skip


def test_a_flood_of_hints_writes_nothing_while_the_node_is_due(
    database: Database, hints: HintIntake, clock: Clock
) -> None:
    put(database)
    hints.drift(believed(drift(1)))
    told = Hello(node_id=ONE, worker_version="1", at=START, reason="x", changed=True)
    hints.hello(believed(told))
    written: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.lstrip().startswith(("SELECT", "BEGIN", "PRAGMA")):
            written.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        for number in range(2, 50):
            hints.drift(believed(drift(number)))
            hints.hello(believed(told.model_copy(update={"reason": f"{number}"})))
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert written == []
    assert len(devices(database)) == 1
    assert due_row(database).reasons[-1] == "its worker says: x"
