"""A healed fault is one trace, whatever its node's clock says; a bad collector costs the intake nothing."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NoReturn
from uuid import UUID, uuid4

import pytest
import structlog

from contract.messages import JournalEntry, ReconcileReport
from contract.verdicts import Outcome, Stage, Verdict
from controller.db.engine import Database
from controller.runs.reports import ReportIntake
from controller.swarm.rejections import Rejections
from controller.traces import recorder
from controller.traces.collector import Address, Collector
from controller.traces.recorder import DROPPED, RECORDS, SENT, Recorder
from controller.workqueue import under_way
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Claim
from tests.fake_clock import START, Clock
from tests.fake_swarm import SHOP, snapshot, swarm_id, task
from tests.reports import believed, device, identity, removal, report
from tests.stored import RESYNC, TIMEOUT, ask, claim, put, run_row
from tests.trace_collector import TraceCollector, as_text, trace_collector

LEAK = 'subnet sandbox join failed for "10.0.1.0/24": error creating vxlan interface: file exists'
ONE = swarm_id("one")
DOCS = Path(__file__).parents[2] / "docs"


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with trace_collector() as running:
        yield running


class Traced:
    """A controller's parts with a recorder; a test plays Swarm and worker, whose clock is off by `skew`."""

    def __init__(
        self, database: Database, clock: Clock, collector: TraceCollector, skew: float = 0
    ) -> None:
        self.database, self.clock, self.skew = database, clock, skew
        self.recorder = Recorder(
            database,
            Collector(Address(collector.url)),
            utcnow=clock,
            monotonic=clock.monotonic,
        )
        self.rejections = Rejections(
            database, lambda *_: None, clock, recovered=self.recorder.recovered
        )
        self.intake = ReportIntake(
            database,
            resync=RESYNC,
            notify=lambda *_: None,
            taken=self.recorder.taken,
            utcnow=clock,
        )
        put(database, snapshot("one", "two"))
        for node in claim(database).values():
            self.intake.reports([believed(report(node.run_id, node=self.name_of(node)))])

    @staticmethod
    def name_of(claimed: Claim) -> str:
        return "one" if claimed.node_id == ONE else "two"

    def by_node(self, seconds: float) -> datetime:
        """What the node's clock shows then."""
        return later(seconds + self.skew)

    def read(self, seconds: float, name: str, *, since: float, runs: bool = False) -> None:
        """The Swarm is read then: a task of service `web` was rejected, or runs, since."""
        self.clock.now = later(seconds)
        found = task(
            name,
            "one",
            "shop",
            service="web",
            since=self.by_node(since),
            slot=1,
            live=runs,
            wanted=True,
            error="" if runs else LEAK,
        )
        self.rejections.record([found], {SHOP.id: SHOP})
        self.rejections.settle([ONE], [found])

    def send(self, seconds: float, broker: float) -> UUID:
        """The node is claimed then, and the broker has the request after that."""
        self.clock.now = later(seconds)
        claimed = claim(self.database, now=self.clock.now)[ONE]
        self.clock.now = later(broker)
        self.recorder.sent([claimed])
        return claimed.run_id

    def entry(self, run: UUID, number: int, stage: Stage, seconds: float) -> JournalEntry:
        """A line of the journal about the orphan."""
        told = {"at": self.by_node(seconds), "stage": stage, "id": uuid4()}
        return removal(run, number, identity(1)).model_copy(update=told)

    def heal(self) -> UUID:
        """From the rejection to the task that runs again, each at its second."""
        self.read(2.5, "t1", since=1)
        run = self.send(3, 3.25)
        stages = (
            (Stage.DETECTED, 4.1),
            (Stage.PLANNED, 4.2),
            (Stage.APPLIED, 4.3),
            (Stage.VERIFIED, 4.4),
        )
        self.report(
            5.5,
            report(
                run,
                devices=[device(1, Verdict.ORPHAN, removed=True)],
                entries=[
                    self.entry(run, number, *stage) for number, stage in enumerate(stages, start=1)
                ],
            ),
            began=4,
            ended=5,
        )
        self.read(8, "t2", since=7, runs=True)
        return run

    def report(self, seconds: float, made: ReconcileReport, *, began: float, ended: float) -> None:
        """A report is stored then."""
        self.clock.now = later(seconds)
        told = {"started_at": self.by_node(began), "finished_at": self.by_node(ended)}
        self.intake.reports([believed(made.model_copy(update=told))])


@pytest.fixture
def traced(database: Database, clock: Clock, collector: TraceCollector) -> Traced:
    return Traced(database, clock, collector)


@pytest.fixture
def counted() -> dict[str, float]:
    """How many records were sent and dropped before the test."""
    return {result: number_of(result) for result in (SENT, DROPPED)}


def number_of(result: str) -> float:
    return float(RECORDS.labels(result)._value.get())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What was logged about traces."""
    lines: list[str] = []

    def note(_logger: object, _method: str, line: structlog.typing.EventDict) -> NoReturn:
        if "traces" in line["event"]:
            lines.append(str(line))
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[note])
    yield lines
    structlog.configure(processors=before)


def test_a_healed_fault_is_one_trace(traced: Traced, collector: TraceCollector) -> None:
    run = traced.heal()
    traced.recorder.step()
    spans = {span.name: span for span in collector.of(run)}
    assert {name: (span.start, span.end) for name, span in spans.items()} == {
        "run": (later(1), later(5.5)),
        "task rejected": (later(1), later(2.5)),
        "due": (later(2.5), later(3)),
        "sent": (later(3), later(4)),
        "look": (later(4), later(5)),
        "removal": (later(4.2), later(4.3)),
        "verified": (later(4.3), later(4.4)),
        "report": (later(5), later(5.5)),
        "task runs again": (later(4.3), later(7)),
    }
    names = {span.id: span.name for span in spans.values()}
    assert {name: names.get(span.parent) for name, span in spans.items()} == {
        "run": None,
        "removal": "look",
        "verified": "look",
    } | dict.fromkeys(("task rejected", "due", "sent", "look", "report", "task runs again"), "run")
    assert [span for span in spans.values() if span.error] == [spans["task rejected"]]
    assert spans["task rejected"].error == LEAK
    assert spans["sent"].events == {"taken by the broker": later(3.25)}
    root = spans["run"].attributes
    assert (root["node.name"], root["run.state"], root["run.removed"]) == ("one", "succeeded", 1)
    assert root["node_clock.shift_seconds"] == 0
    assert any("was rejected" in reason for reason in root["run.reasons"])
    gone = spans["removal"].attributes
    assert (gone["network.name"], gone["vni"], gone["removal.stage"]) == ("shop", 4097, "applied")
    assert spans["task runs again"].attributes["task.id"] == swarm_id("t1")
    assert collector.services == {"vxlan-operator"}


def test_the_text_of_a_trace_is_that_of_the_documents(
    traced: Traced, collector: TraceCollector
) -> None:
    run = traced.heal()
    traced.recorder.step()
    documented = (
        pytest.importorskip("pathlib").Path(__file__).parents[2] / "docs/traces.md"
    ).read_text()
    assert as_text(collector.of(run)) in documented


@pytest.mark.parametrize("skew", [-240, -2, 2, 45])
def test_the_times_of_a_node_whose_clock_is_off_keep_their_order_and_say_so(
    database: Database, clock: Clock, collector: TraceCollector, skew: float
) -> None:
    traced = Traced(database, clock, collector, skew)
    run = traced.heal()
    traced.recorder.step()
    spans = {span.name: span for span in collector.of(run)}
    root, look = spans["run"], spans["look"]
    # It began a second after the claim and ended half a second before the end: shifted into that, no further.
    least = -skew - 1 if skew < 0 else -skew + 0.5
    shift = look.attributes["node_clock.said"], root.attributes["node_clock.shift_seconds"]
    assert shift == (traced.by_node(4).isoformat(), pytest.approx(least))
    assert (look.end - look.start).total_seconds() == 1
    order = ["task rejected", "due", "sent", "look", "removal", "verified", "report"]
    assert all(spans[a].start <= spans[b].start for a, b in pairwise(order))
    assert all(span.start <= span.end for span in spans.values())
    assert all(root.start <= spans[name].start and spans[name].end <= root.end for name in order), (
        as_text(collector.of(run))
    )
    again = spans["task runs again"]
    assert root.start <= again.start <= root.end <= again.end <= later(8)


def test_a_run_longer_than_the_controller_waited_is_cut_to_fit(
    traced: Traced, collector: TraceCollector
) -> None:
    ask(traced.database, priority=Priority.MANUAL)
    run = traced.send(3, 3)
    traced.report(5, report(run), began=-100, ended=900)
    traced.recorder.step()
    spans = {span.name: span for span in collector.of(run)}
    assert (spans["look"].start, spans["look"].end) == (later(3), later(5))
    assert spans["run"].attributes["node_clock.shift_seconds"] == 103


def test_a_lost_run_and_its_late_report_are_one_trace(
    traced: Traced, collector: TraceCollector
) -> None:
    traced.read(2.5, "t1", since=1)
    run = traced.send(3, 3)
    traced.clock.now = later(4) + TIMEOUT
    with traced.database.write() as session:
        lost = under_way.expire(session, now=traced.clock.now, resync=RESYNC)
    traced.recorder.lost(lost)
    traced.recorder.step()
    spans = {span.name: span for span in collector.of(run)}
    assert spans.keys() == {"run", "task rejected", "due", "sent"}
    assert "no report came" in (spans["run"].error or "")
    orphan = device(1, Verdict.ORPHAN, removed=True)
    traced.report(40, report(run, devices=[orphan]), began=4, ended=5)
    traced.recorder.step()
    late = {span.name: span for span in collector.spans[len(spans) :]}
    assert late["removal"].parent == late["look"].id
    assert late["run"].id == spans["run"].id
    assert late["run"].end == later(40)


def test_a_report_that_names_the_run_of_another_node_is_no_part_of_its_trace(
    traced: Traced, collector: TraceCollector
) -> None:
    run = traced.heal()
    traced.recorder.step()
    before = len(collector.spans)
    forged = report(run, node="two", devices=[device(9, Verdict.ORPHAN, removed=True)])
    traced.report(9, forged, began=4, ended=5)
    traced.recorder.step()
    assert len(collector.spans) == before


def test_a_resync_that_finds_nothing_is_no_trace(traced: Traced, collector: TraceCollector) -> None:
    ask(traced.database, priority=Priority.RESYNC)
    run = traced.send(3, 3)
    traced.report(5, report(run), began=4, ended=5)
    ask(traced.database, at=later(6), priority=Priority.CHANGE)
    failed = traced.send(6, 6)
    traced.report(8, report(failed, outcome=Outcome.FAILED, error="broken"), began=7, ended=7)
    traced.recorder.step()
    assert {span.trace_id for span in collector.spans} == {failed.hex}
    assert {span.error for span in collector.of(failed) if not span.parent} == {"broken"}


def test_hostile_texts_and_a_thousand_removals_fit_in_a_trace(
    traced: Traced, collector: TraceCollector
) -> None:
    ask(traced.database, priority=Priority.MANUAL, reason="\x1b[31m\u202e" + "x" * 400)
    run = traced.send(3, 3)
    orphans = [device(number, Verdict.ORPHAN, removed=True) for number in range(1, 1001)]
    traced.report(5, report(run, devices=orphans), began=4, ended=5)
    traced.recorder.step()
    spans = collector.of(run)
    assert sum(span.name == "removal" for span in spans) == 100
    (look,) = (span for span in spans if span.name == "look")
    assert look.attributes["removals_without_span"] == 900


@pytest.mark.parametrize("status", [500, 401, 307])
def test_what_a_collector_refuses_is_dropped_and_told_once_a_minute(
    traced: Traced,
    collector: TraceCollector,
    logged: list[str],
    counted: dict[str, float],
    status: int,
) -> None:
    collector.status = status
    traced.heal()
    for _ in range(5):
        traced.recorder.recovered([swarm_id("t1")])
        assert traced.recorder.step() == 0.0
    assert [f"it answered {status}" in each for each in logged] == [True]
    traced.clock.advance(61)
    traced.recorder.recovered([swarm_id("t1")])
    traced.recorder.step()
    assert len(logged) == 2
    collector.status = 200
    traced.recorder.recovered([swarm_id("t1")])
    traced.recorder.step()
    assert "traces are sent again" in logged[-1]
    assert number_of(DROPPED) == counted[DROPPED] + 8
    assert number_of(SENT) == counted[SENT] + 1
    assert [span.name for span in collector.spans] == ["task runs again"]


def test_what_a_collector_cannot_take_now_comes_later(
    traced: Traced, collector: TraceCollector, counted: dict[str, float]
) -> None:
    collector.status = 503
    run = traced.heal()
    pauses = [traced.recorder.step() for _ in range(7)]
    assert pauses == [2, 4, 8, 16, 30, 30, 30]
    collector.status = 200
    traced.recorder.step()
    assert len(collector.of(run)) == 9
    assert number_of(DROPPED) == counted[DROPPED]


def test_spans_that_a_collector_leaves_out_are_told(
    traced: Traced, collector: TraceCollector, logged: list[str]
) -> None:
    collector.refuses = 3
    traced.heal()
    traced.recorder.step()
    assert "it refused 3 of 9 spans" in logged[0]


@pytest.mark.parametrize("answer", [b"OK", b"\x00" * 200_000])
def test_an_answer_in_other_words_is_an_answer(
    traced: Traced, collector: TraceCollector, counted: dict[str, float], answer: bytes
) -> None:
    collector.answer = answer
    traced.heal()
    traced.recorder.step()
    assert number_of(SENT) == counted[SENT] + 2


def test_while_the_collector_is_away_reports_are_stored_and_the_rest_is_dropped(
    traced: Traced,
    logged: list[str],
    monkeypatch: pytest.MonkeyPatch,
    counted: dict[str, float],
) -> None:
    monkeypatch.setattr(traced.recorder, "_collector", Collector(Address("http://127.0.0.1:9/")))
    run = traced.heal()
    assert traced.recorder.step() == 2
    assert run_row(traced.database, run).removed == 1
    for _ in range(recorder.MAX_WAITING + 7):
        traced.recorder.recovered([swarm_id("t1")])
    assert number_of(DROPPED) == counted[DROPPED] + 7
    assert len(logged) == 1
    traced.recorder.close()
    assert "traces are lost at the end" in logged[-1]
    assert "'records': 1002" in logged[-1]


def test_a_collector_that_hangs_holds_up_neither_the_intake_nor_the_end(
    traced: Traced, collector: TraceCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.traces.collector.SECONDS", 60.0)
    collector.hangs.set()
    began = time.monotonic()
    run = traced.heal()
    assert run_row(traced.database, run).removed == 1
    intake = time.monotonic() - began
    traced.recorder.close()
    ended = time.monotonic() - began - intake
    # Its own bound is 2 s; a send takes the collector's minute.
    assert max(intake, ended) < 30, (intake, ended)


def test_the_end_sends_what_waits(traced: Traced, collector: TraceCollector) -> None:
    run = traced.heal()
    traced.recorder.close()
    assert len(collector.of(run)) == 9


def test_the_collector_gets_the_headers(
    traced: Traced, collector: TraceCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Address(collector.url, {"authorization": "Bearer s3cret"})
    assert "s3cret" not in repr(address)
    monkeypatch.setattr(traced.recorder, "_collector", Collector(address))
    traced.heal()
    traced.recorder.step()
    (headers,) = collector.headers
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["content-type"] == "application/x-protobuf"
