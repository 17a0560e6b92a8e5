"""What a controller believes of a node: of itself, within what can be; each attack was tried before."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest
from pydantic import ValidationError
from sqlalchemy import event
from structlog.testing import capture_logs

from contract.messages import (
    MAX_ENTRIES,
    MAX_LIMITATIONS,
    Hello,
    JournalEntry,
    ReconcileReport,
)
from contract.verdicts import Mode, Stage, Verdict
from controller.audit import budget
from controller.db.engine import Database
from controller.db.models import Cluster
from controller.db.states import RunState
from controller.runs import requests
from controller.runs.hints import HintIntake
from controller.runs.pace import BETWEEN, BURST, Pace
from controller.runs.reports import ReportIntake
from controller.runs.requests import Terms
from controller.safety.breaker import DEFAULTS
from controller.swarm.readings import Readings
from controller.workqueue import queue, under_way
from tests.bell import Bell
from tests.fake_clock import START, Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.reports import SHOP_VNI, believed, device, drift, entry, removal, report
from tests.signed import key_of, keyring
from tests.stored import (
    RESYNC,
    TIMEOUT,
    ask,
    audit,
    contents,
    devices,
    due_row,
    node_row,
    put,
    run_row,
)
from worker.journal import MAX_PENDING

ONE, TWO = swarm_id("one"), swarm_id("two")
SIX = ("one", "two", "three", "four", "five", "six")
LIMIT = DEFAULTS.node_removals


class Swarm:
    """Nodes with runs under way, whose requests were built as the dispatcher builds them."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        mode: Mode = Mode.ENFORCE,
        *,
        pace: Pace | None = None,
    ) -> None:
        self.database = database
        put(database, snapshot(*SIX))
        self.intake = ReportIntake(database, resync=RESYNC, pace=pace, notify=Bell(), utcnow=clock)
        self.clock = clock
        self.terms = Terms(
            mode=mode,
            limits=DEFAULTS,
            keys=keyring(database),
            fence=lambda: 0,
            reading=Readings().newest,
            next_within=RESYNC,
        )
        with database.write() as session:
            claims = queue.claim(session, now=START, limit=10, timeout=TIMEOUT)
            requests.build(session, claims, self.terms, START, issued_at=START)
        self.runs = {each.node_id: each.run_id for each in claims}

    def tell(self, told: ReconcileReport) -> None:
        """Let a report come."""
        self.intake.reports([believed(told)])

    def claim(self) -> UUID:
        """Open the next run of node one; return it."""
        with self.database.write() as session:
            under_way.expire(session, now=self.clock(), resync=RESYNC)
        ask(self.database, "one", at=self.clock())
        with self.database.write() as session:
            claims = queue.claim(session, now=self.clock(), limit=10, timeout=TIMEOUT)
            now = self.clock()
            requests.build(session, claims, self.terms, now, issued_at=now)
        return next(each.run_id for each in claims if each.node_id == ONE)

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


def statements_that_write(database: Database, act: Callable[[], object]) -> list[str]:
    """The statements of what is done in there that are not for reading."""
    written: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.lstrip().startswith(("SELECT", "BEGIN", "PRAGMA")):
            written.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return written


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


def scanned(run_id: UUID, count: int) -> list[JournalEntry]:
    """Entries of removals that say of themselves that a person's scan made them."""
    made = (removal(run_id, number, device(number).identity) for number in range(1, count + 1))
    return [each.model_copy(update={"scanned_by": "alice"}) for each in made]


@pytest.mark.parametrize("late", [False, True])
def test_a_run_cannot_be_called_a_scan(swarm: Swarm, late: bool) -> None:
    entries = scanned(swarm.runs[ONE], LIMIT)
    run_id = None if late else swarm.runs[ONE]
    swarm.tell(report(run_id, entries=entries, journal_id=uuid4()))
    assert run_row(swarm.database, swarm.runs[ONE]).removed == LIMIT
    applied = [row for row in audit(swarm.database) if row.stage is Stage.APPLIED]
    assert {(row.actor, row.claimed_name) for row in applied} == {("controller", None)}


def test_removals_of_scans_are_recorded_and_trip_nothing(swarm: Swarm) -> None:
    swarm.tell(report(swarm.runs[ONE], entries=scanned(uuid4(), 2 * LIMIT), journal_id=uuid4()))
    assert swarm.breakers() == (False, False)
    rows = [row for row in audit(swarm.database) if row.stage is Stage.APPLIED]
    assert len(rows) == 2 * LIMIT
    assert {(row.actor, row.claimed_name, row.node_id) for row in rows} == {("scan", "alice", ONE)}


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


def test_every_row_of_a_report_says_which_key_vouched_for_it(swarm: Swarm) -> None:
    told = [
        report(
            swarm.runs[swarm_id(name)],
            node=name,
            devices=[device(1, Verdict.FOREIGN)],
            entries=[entry(1)],
        )
        for name in ("one", "two")
    ]
    swarm.intake.reports([believed(each) for each in told])
    swarm.tell(report(entries=[entry(2)]))
    rows = [row for row in audit(swarm.database) if row.stage is not Stage.REQUESTED]
    assert Counter((row.node_id, row.key_id) for row in rows) == {
        (ONE, key_of(ONE).public.id): 3,
        (TWO, key_of(TWO).public.id): 2,
    }


def test_a_verdict_is_not_dated_by_a_node_alone(swarm: Swarm) -> None:
    told = report(swarm.runs[ONE], devices=[device(1, Verdict.FOREIGN)])
    swarm.tell(told.model_copy(update={"started_at": datetime(8999, 1, 1, tzinfo=UTC)}))
    assert max(row.at for row in audit(swarm.database)) == START + timedelta(minutes=5)


def storm(swarm: Swarm, clock: Clock, **told: Any) -> None:
    """Let a report of node one's next run come, a minute later."""
    clock.advance(60)
    swarm.tell(report(swarm.claim(), **told))


def test_a_node_that_makes_up_devices_fills_no_database(swarm: Swarm, clock: Clock) -> None:
    """By a signed report each run: new devices that are foreign, or that change."""
    for run in range(2):
        verdict = (Verdict.FOREIGN, Verdict.CONFLICT)[run % 2]
        storm(swarm, clock, devices=[device(n, verdict) for n in range(1, 6_001)])
    rows = audit(swarm.database)
    assert len(rows) < 2_700, "what it may of verdicts, and what flows back"
    (row,) = [row for row in rows if row.stage is Stage.LEFT_OUT]
    assert row.reason.startswith("3501 changed verdicts of this node are not recorded")
    # What it records of dead devices is stored all the same, and the breaker counts it.
    dead = [device(n, Verdict.ORPHAN, removed=True) for n in range(1, LIMIT + 1)]
    storm(swarm, clock, devices=dead, journal_id=uuid4())
    assert sum(row.stage is Stage.APPLIED for row in audit(swarm.database)) == LIMIT
    assert swarm.breakers() == (True, False)
    assert node_row(swarm.database).journal_through == LIMIT
    clock.advance(3600)
    swarm.tell(report())
    later = [row for row in audit(swarm.database) if row.stage is Stage.LEFT_OUT]
    assert len(later) == 2, "one an hour, by whatever report comes"
    assert node_row(swarm.database).audit_left_out == 0


@pytest.mark.parametrize("late", [True, False])
def test_journal_entries_beyond_what_a_node_may_cause_come_later(
    swarm: Swarm, clock: Clock, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_CAPACITY", 500)
    journal = uuid4()
    entries = [entry(number) for number in range(1, 801)]
    for _ in range(8):
        through = node_row(swarm.database).journal_through
        told: dict[str, Any] = {
            "entries": entries[through : through + 200],
            "journal_id": journal,
        }
        if late:
            clock.advance(60)
            swarm.tell(report(**told))
        else:
            storm(swarm, clock, **told)
    rows = [row for row in audit(swarm.database) if row.stage is Stage.APPLIED]
    through = node_row(swarm.database).journal_through
    assert len(rows) == through
    assert 500 <= through <= 500 + 8 * 17, "and what flowed back in eight minutes"
    clock.advance(3600)
    for _ in range(2):
        swarm.tell(report(entries=entries[through : through + 200], journal_id=journal))
        through = node_row(swarm.database).journal_through
    rows = [row for row in audit(swarm.database) if row.stage is Stage.APPLIED]
    assert through == 800
    assert sorted(row.entry_id for row in rows) == sorted(each.id for each in entries)


def test_every_row_that_a_node_causes_costs_it_one(
    swarm: Swarm, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that say why its runs were requested: an entry that is stored may name any of them."""
    monkeypatch.setattr(budget, "_PER_HOUR", 0)
    monkeypatch.setattr(budget, "_FOR_VERDICTS", 20)
    monkeypatch.setattr(budget, "_CAPACITY", 50)
    runs = [swarm.runs[ONE]]
    for _ in range(30):
        swarm.tell(report(runs[-1]))
        runs.append(swarm.claim())
    known, journal = entry(1), uuid4()
    swarm.tell(report(entries=[known], journal_id=journal))
    again = [known.model_copy(update={"run_id": run}) for run in runs[:-1]]
    swarm.tell(report(entries=again, journal_id=journal))
    assert len(audit(swarm.database)) == node_row(swarm.database).audit_spent == 31
    monkeypatch.setattr(budget, "_FOR_VERDICTS", 50)
    for number in range(30):
        verdict = (Verdict.FOREIGN, Verdict.CONFLICT)[number % 2]
        storm(swarm, clock, devices=[device(1, verdict)])
    rows = Counter(row.stage for row in audit(swarm.database))
    assert rows == {
        Stage.REQUESTED: 39,
        Stage.APPLIED: 1,
        Stage.VERDICT_CHANGED: 9,
        Stage.LEFT_OUT: 1,
    }
    assert node_row(swarm.database).audit_spent == 50


def test_what_is_stored_already_costs_nothing(swarm: Swarm, clock: Clock) -> None:
    """As when acknowledgements are lost: the worker repeats what it has."""
    told = report(entries=[entry(n) for n in range(1, 101)], journal_id=uuid4())
    for _ in range(9):
        swarm.tell(told)
    assert node_row(swarm.database).audit_spent == 100
    assert node_row(swarm.database).journal_through == 100


def test_ids_of_entries_that_another_node_stored_cost_as_others(swarm: Swarm) -> None:
    told = [entry(n) for n in range(1, 101)]
    swarm.tell(report(entries=told, journal_id=uuid4()))
    for _ in range(2):
        swarm.tell(report(node="two", entries=told, journal_id=uuid4()))
        assert node_row(swarm.database, "two").audit_spent == 100, "once"


def test_no_journal_entry_keeps_the_row_out_that_says_what_is_left_out(
    swarm: Swarm, clock: Clock
) -> None:
    """Its id was made from the node's id and the hour, and an entry of any node can have any id."""
    namespace = UUID("5d0ef0de-7b0f-4b37-9d2c-1c8a3f2b6e14")
    for node in ("one", "two"):
        ids = [
            uuid5(namespace, f"{ONE} {START + timedelta(hours=hours):%Y-%m-%dT%H}")
            for hours in range(3)
        ]
        told = [entry(n).model_copy(update={"id": id_}) for n, id_ in enumerate(ids, start=1)]
        swarm.tell(report(node=node, entries=told, journal_id=uuid4()))
    for run in range(2):
        verdict = (Verdict.FOREIGN, Verdict.CONFLICT)[run % 2]
        storm(swarm, clock, devices=[device(n, verdict) for n in range(1, 3_001)])
    (row,) = [row for row in audit(swarm.database) if row.stage is Stage.LEFT_OUT]
    assert row.node_id == ONE


def test_a_journal_that_was_filled_is_taken_at_once(swarm: Swarm, clock: Clock) -> None:
    """As after a storm while the controllers were away, beside as many verdicts as are recorded."""
    storm(swarm, clock, devices=[device(n, Verdict.FOREIGN) for n in range(1, 3_001)])
    journal, entries = uuid4(), [entry(number) for number in range(1, MAX_PENDING + 1)]
    for start in range(0, MAX_PENDING, MAX_ENTRIES):
        swarm.tell(report(entries=entries[start : start + MAX_ENTRIES], journal_id=journal))
        assert node_row(swarm.database).journal_through == start + MAX_ENTRIES


def test_a_real_storm_is_recorded_whole(swarm: Swarm, clock: Clock) -> None:
    """Sixty networks whose devices settle, are found dead, and go: two hundred removals, and no word less."""
    journal, count, sequence = uuid4(), 200, 0
    vnis = [SHOP_VNI + number % 60 for number in range(count)]
    for verdict in (Verdict.IN_USE, Verdict.SETTLING, Verdict.ORPHAN, Verdict.SETTLING):
        storm(swarm, clock, devices=[device(n + 1, verdict, vni=vni) for n, vni in enumerate(vnis)])
    entries = []
    for number, vni in enumerate(vnis):
        for stage in (Stage.DETECTED, Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED):
            sequence += 1
            told = {"identity": device(number + 1, vni=vni).identity}
            entries.append(entry(sequence, stage=stage).model_copy(update=told))
    gone = [device(n + 1, Verdict.ORPHAN, removed=True, vni=vni) for n, vni in enumerate(vnis)]
    storm(swarm, clock, devices=gone, entries=entries, journal_id=journal)
    stages = Counter(row.stage for row in audit(swarm.database))
    assert Stage.LEFT_OUT not in stages
    assert stages[Stage.VERDICT_CHANGED] == 4 * count
    assert {stages[each.stage] for each in entries} == {count}
    assert node_row(swarm.database).journal_through == sequence


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


def test_reports_that_come_again_after_a_controllers_restart_change_nothing(
    swarm: Swarm, clock: Clock
) -> None:
    """What a controller opened it remembers while it runs; reports are signed for 75 minutes."""
    journals = uuid4(), uuid4()
    told = []
    for number, journal in enumerate((journals[0], journals[1], journals[1])):
        clock.advance(60)
        entries = [entry(2 * number - 1), entry(2 * number)] if number else [entry(1)]
        devices = [device(number + 7, (Verdict.IN_USE, Verdict.FOREIGN)[number % 2])]
        told.append(report(swarm.claim(), devices=devices, entries=entries, journal_id=journal))
        swarm.tell(told[-1])
    before = contents(swarm.database)
    for each in (*told, *reversed(told)):
        swarm.tell(each)
    assert contents(swarm.database) == before
    assert node_row(swarm.database).journal_through == 4


@pytest.mark.parametrize("lost", [True, False])
def test_a_report_that_was_kept_back_makes_no_dead_worker_live(
    swarm: Swarm, clock: Clock, lost: bool
) -> None:
    """It is signed for 75 minutes; the broker may keep it for as long."""
    if lost:
        clock.advance(TIMEOUT.total_seconds() + 1)
        with swarm.database.write() as session:
            under_way.expire(session, now=clock(), resync=RESYNC)
    signed_at = clock()
    clock.advance(3600)
    old = {"worker_version": "0.0.1", "controller_keys": ("0" * 16,), "max_removals": 77}
    told = believed(report(swarm.runs[ONE]).model_copy(update=old))._replace(issued=signed_at)
    swarm.intake.reports([told])
    node = node_row(swarm.database)
    assert node.worker_seen_at == signed_at
    says = {name: getattr(node, name) for name in old}
    assert (says == {**old, "controller_keys": ["0" * 16]}) is not lost, "nor tells what holds now"
    hello = Hello(node_id=ONE, worker_version="1", at=clock(), reason="x")
    hints = HintIntake(swarm.database, notify=Bell(), utcnow=clock)
    hints.hello(believed(hello)._replace(issued=clock() - timedelta(minutes=9)))
    assert node_row(swarm.database).worker_seen_at == clock() - timedelta(minutes=9)
    hints.hello(believed(hello)._replace(issued=clock() - timedelta(minutes=4)))
    assert node_row(swarm.database).worker_seen_at == clock(), "clocks may differ"


def test_a_hello_that_comes_again_tells_no_former_version(
    swarm: Swarm, hints: HintIntake, clock: Clock
) -> None:
    """As after a change of leader: the one before would know it again."""
    hello = Hello(node_id=ONE, worker_version="1", at=clock(), reason="x")
    for version in ("1", "2"):
        clock.advance(60)
        told = believed(hello.model_copy(update={"worker_version": version}))
        hints.hello(told._replace(issued=clock()))
        assert node_row(swarm.database).worker_version == version
    clock.advance(60)
    hints.hello(believed(hello)._replace(issued=clock() - timedelta(seconds=120)))
    assert node_row(swarm.database).worker_version == "2"
    swarm.tell(report(swarm.runs[ONE]).model_copy(update={"worker_version": "3"}))
    assert node_row(swarm.database).worker_version == "3"


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


def test_a_worker_that_asks_for_run_after_run_gets_one_a_second(
    database: Database, clock: Clock
) -> None:
    pace = Pace(clock.monotonic)
    swarm = Swarm(database, clock, pace=pace)
    for _ in range(BURST - 1):
        pace.ran(ONE)
    for name in SIX[:2]:
        told = report(swarm.runs[swarm_id(name)], node=name)
        swarm.tell(told.model_copy(update={"recheck_after": 0.0}))
    assert (due_row(database).due_at, due_row(database, "two").due_at) == (START, START)
    swarm.tell(report(swarm.claim()).model_copy(update={"recheck_after": 0.0}))
    assert due_row(database).due_at == START + BETWEEN

    hints = HintIntake(database, pace=pace, notify=Bell(), utcnow=clock)
    swarm.tell(report(swarm.claim()))
    hints.drift(believed(drift(1)))
    assert due_row(database).due_at == START + BETWEEN
    assert statements_that_write(database, lambda: hints.drift(believed(drift(2)))) == []
    clock.advance(BURST * BETWEEN.total_seconds())
    assert pace.wait(ONE) == timedelta(0)


def test_a_worker_that_wants_reading_after_reading_gets_one_a_second(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each leads to a run, and to questions to the manager."""
    read = []
    monkeypatch.setattr(Readings, "request", lambda _, node, **__: read.append(node))
    pace = Pace(clock.monotonic)
    swarm = Swarm(database, clock, pace=pace)
    for _ in range(BURST - 1):
        pace.ran(ONE)
    swarm.tell(report(swarm.runs[ONE], wants_reading=True, then_run=True))
    assert read == [ONE]
    swarm.tell(report(swarm.claim(), wants_reading=True, then_run=True))
    assert read == [ONE]
    assert due_row(database).due_at == START + BETWEEN, "and then it may ask again"


def test_reports_of_runs_that_never_were_fill_no_log(swarm: Swarm, hints: HintIntake) -> None:
    gone = swarm_id("gone")
    told = Hello(node_id=gone, worker_version="1", at=START, reason="x")
    with capture_logs() as logs:
        for _ in range(5):
            for name in SIX[:2]:
                swarm.tell(report(uuid4(), node=name))
            swarm.tell(report(uuid4(), node="gone"))
            hints.hello(believed(told))
            hints.drift(believed(drift(1, node="gone")))
    assert Counter(line["event"] for line in logs) == {
        "report of a run that is not under way": 2,
        "report of a node that is not in the Swarm": 1,
        "Hello of a node that is not in the Swarm": 1,
    }


def test_a_flood_of_hints_writes_nothing_while_the_node_is_due(
    database: Database, hints: HintIntake, clock: Clock
) -> None:
    put(database)
    hints.drift(believed(drift(1)))
    told = Hello(node_id=ONE, worker_version="1", at=START, reason="x", changed=True)
    hints.hello(believed(told))

    def flood() -> None:
        for number in range(2, 50):
            hints.drift(believed(drift(number)))
            hints.hello(believed(told.model_copy(update={"reason": f"{number}"})))

    assert statements_that_write(database, flood) == []
    assert len(devices(database)) == 1
    assert due_row(database).reasons[-1] == "its worker says: x"
