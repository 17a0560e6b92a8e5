"""What `/metrics` says, on an empty and a filled database, and while the database is away or hangs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from contract import VERSION
from contract.verdicts import Mode, Outcome, Verdict
from controller.access.tokens import Secret
from controller.api.app import build
from controller.api.context import Context
from controller.api.watch.broadcaster import Broadcaster
from controller.api.watch.sources import NodeSource
from controller.conditions.store import ConditionStore
from controller.db.engine import Database, open_database
from controller.db.models import Cluster, DueNode, HealingTime, Node
from controller.db.notification_models import Delivery, Notice, NotificationTarget
from controller.db.states import DeliveryState, Role, TargetKind
from controller.health.live import Health
from controller.runs.reports import ReportIntake
from controller.views import metrics
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from tests.api_client import TestClient, assert_problem
from tests.fake_clock import START
from tests.fake_swarm import node, snapshot, swarm_id
from tests.promtool import check_metrics
from tests.reports import believed, device, report
from tests.servers import await_true
from tests.stored import RESYNC, claim, put
from tests.tokens import give_token

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
Labels = frozenset[tuple[str, str]]


def scraper(database: Database, *, leading: bool = True) -> TestClient:
    """A client of a controller."""
    context = Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, leading=lambda: leading)
    return TestClient(build(context))


class Scrape:
    """One answer of `/metrics`."""

    def __init__(
        self, database: Database, *, leading: bool = True, client: TestClient | None = None
    ) -> None:
        answer = (client or scraper(database, leading=leading)).get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        self.names: set[str] = set()
        self.values: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    self.names.add(sample.name)
                    its = self.values.setdefault(sample.name, {})
                    its[frozenset(sample.labels.items())] = sample.value

    def one(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        return self.values[f"vxlan_operator_{name}"][frozenset(labels.items())]

    def all(self, name: str) -> dict[Labels, float]:
        """All values of a metric, by labels."""
        return self.values[f"vxlan_operator_{name}"]


def test_before_anything_is_known(database: Database) -> None:
    said = Scrape(database, leading=False)
    assert said.one("info", version=VERSION) == 1
    assert said.one("leading") == 0
    assert said.one("database_up") == 1
    assert said.one("nodes") == 0
    assert said.one("due_nodes") == 0
    assert said.one("due_oldest_seconds") == 0
    assert said.one("audit_position") == 0
    assert said.all("cluster_conditions") == {
        frozenset({"type": type_, "status": "Unknown", "reason": "NotProbed"}.items()): 1
        for type_ in ("BrokerReachable", "DatabaseWritable", "AuditKept")
    }


def fill(database: Database) -> None:
    """Three nodes, of which one was looked at, and one is down."""
    put(database, snapshot("one", "two", node("three", state="down")))
    with database.write() as session:
        session.execute(update(DueNode).values(due_at=START))
    runs = claim(database, limit=1)
    (claimed,) = runs.values()
    name = next(each for each in ("one", "two") if swarm_id(each) == claimed.node_id)
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)
    told = report(
        claimed.run_id,
        node=name,
        devices=[device(1), device(2, Verdict.ORPHAN), device(3, Verdict.ORPHAN, removed=True)],
    )
    intake.reports([believed(told)])
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: START).step()
    with database.write() as session:
        session.execute(
            update(Cluster).values(sync_seconds=0.5, sync_share=0.1, breaker_tripped_at=START)
        )
        session.execute(
            update(Node).where(Node.id == swarm_id("one")).values(breaker_tripped_at=START)
        )


def test_what_is_in_the_database(database: Database) -> None:
    fill(database)
    said = Scrape(database)
    assert said.one("leading") == 1
    assert said.one("nodes") == 3
    ready = {"type": "Ready"}
    assert said.one("node_conditions", **ready, status="False", reason="OrphansLeft") == 1
    assert said.one("node_conditions", **ready, status="Unknown", reason="NeverSeen") == 1
    assert said.one("node_conditions", **ready, status="Unknown", reason="NodeDown") == 1
    assert sum(said.all("node_conditions").values()) == 4 * 3
    assert said.one("devices", verdict="in_use", urgency="", proof="") == 1
    assert said.one("devices", verdict="orphan", urgency="blocking", proof="") == 1
    assert said.one("cluster_breaker_tripped") == 1
    assert said.one("breakers_tripped") == 1
    assert said.one("swarm_read_seconds") == 0.5
    assert said.one("swarm_read_share") == 0.1
    assert (
        said.one("cluster_conditions", type="DesiredStateKnown", status="True", reason="SwarmRead")
        == 1
    )


def test_what_is_due_and_for_how_long(database: Database) -> None:
    put(database, snapshot("one", "two", node("three", state="down")))
    found = {
        metric.name.removeprefix("vxlan_operator_"): [each.value for each in metric.samples]
        for metric in metrics.FromDatabase(
            database, lambda: True, Health(), utcnow=lambda: START + timedelta(seconds=7)
        ).collect()
    }
    assert found["due_nodes"] == [2]
    assert found["due_oldest_seconds"] == [7]
    assert found["runs_under_way"] == [0]
    assert found["swarm_age_seconds"] == [7]
    claim(database, limit=1)
    assert Scrape(database).one("runs_under_way") == 1


def test_runs_and_removals_are_counted_when_they_are_taken_in(database: Database) -> None:
    before = Scrape(database)
    fill(database)
    after = Scrape(database)

    def more(name: str, **labels: str) -> float:
        return after.one(name, **labels) - before.one(name, **labels)

    assert more("runs_closed_total", state="succeeded") == 1
    assert more("removals_total") == 1
    assert more("run_seconds_count") == 1
    assert more("runs_closed_total", state="failed") == 0
    with database.write() as session:
        queue.request(
            session,
            [swarm_id("one")],
            at=START,
            priority=Priority.MANUAL,
            reason="x",
        )
    run = claim(database)[swarm_id("one")].run_id
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)
    told = believed(report(run, outcome=Outcome.FAILED, error="no"))
    for _ in range(2):
        intake.reports([told])
    after = Scrape(database)
    assert more("runs_closed_total", state="failed") == 1


def test_errors_of_the_database_are_counted(database: Database) -> None:
    before = Scrape(database).one("database_errors_total")
    with pytest.raises(SQLAlchemyError), database.read() as session:
        session.execute(text("SELECT nothing FROM nowhere"))
    assert Scrape(database).one("database_errors_total") == before + 1


def test_refused_tokens_are_counted_by_reason(sqlite: Database) -> None:
    client = scraper(sqlite)
    reader = Secret("5ead5ead", f"vxo_5ead5ead_{'R' * 43}")
    headers = give_token(sqlite, reader, "reader", Role.READ)
    before = Scrape(sqlite, client=client)
    wrong = {"Authorization": f"Bearer vxo_5ead5ead_{'W' * 43}"}
    assert client.get("/api/v1/nodes", headers=wrong).status_code == 401
    assert client.get("/api/v1/nodes", headers={"Authorization": "Bearer "}).status_code == 401
    assert client.get("/api/v1/tokens", headers=headers).status_code == 403
    # Each scraper keeps its text for a second.
    after = Scrape(sqlite)
    for reason, count in (("invalid", 2), ("role", 1)):
        was = before.one("tokens_refused_total", reason=reason)
        assert after.one("tokens_refused_total", reason=reason) == was + count


def test_clients_that_follow_lists_are_counted_while_they_do(sqlite: Database) -> None:
    before = Scrape(sqlite).one("stream_clients")
    broadcaster = Broadcaster(sqlite)
    streams = [broadcaster.follow("n", lambda _: NodeSource(None), None, None) for _ in range(2)]
    assert Scrape(sqlite).one("stream_clients") == before + 2
    for stream in streams:
        broadcaster.leave(stream)
    assert Scrape(sqlite).one("stream_clients") == before
    broadcaster.close()


def test_healings_are_a_histogram(database: Database) -> None:
    with database.write() as session:
        buckets = {"1.0": 3, "inf": 1}
        session.add(HealingTime(step="removed", buckets=buckets, seconds=2000.0))
    said = Scrape(database)
    assert said.one("rejected_to_removed_seconds_bucket", le="0.5") == 0
    assert said.one("rejected_to_removed_seconds_bucket", le="1800.0") == 3
    assert said.one("rejected_to_removed_seconds_bucket", le="+Inf") == 4
    assert said.one("rejected_to_removed_seconds_count") == 4
    assert said.one("rejected_to_removed_seconds_sum") == 2000
    assert said.one("removed_to_running_seconds_count") == 0


def test_the_outbox_of_notifications(database: Database) -> None:
    with database.write() as session:
        target = NotificationTarget(
            name="ops",
            kind=TargetKind.WEBHOOK,
            address="https://hooks.example/",
            created_at=START,
            created_by="admin",
            failing_since=START,
        )
        session.add(target)
        session.flush()
        for state, hours in (("pending", 2), ("pending", 1), ("delivered", 9), ("given_up", 9)):
            at = datetime.now(UTC) - timedelta(hours=hours)
            notice = Notice(id=uuid4(), created_at=at, event="breaker", resolved=False, values={})
            session.add(notice)
            session.flush()
            session.add(
                Delivery(
                    id=uuid4(),
                    notice_id=notice.id,
                    target_id=target.id,
                    state=DeliveryState(state),
                    next_at=at,
                    give_up_at=at,
                    done_at=None if state == "pending" else at,
                )
            )
    said = Scrape(database)
    assert said.one("notifications", state="pending") == 2
    assert said.one("notifications", state="delivered") == 1
    assert said.one("notifications", state="given_up") == 1
    assert said.one("notifications", state="held") == 0
    assert 7190 < said.one("notifications_oldest_seconds") < 8000
    assert said.one("notification_targets_failing") == 1


class Hanging:
    """A database whose first reader hangs until it is let go."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked = 0
        self.go = threading.Event()

    def read(self) -> object:
        """See `Database.read`."""
        self.asked += 1
        self.go.wait(60)
        return self._database.read()


def test_a_database_that_hangs_delays_a_scrape_by_its_timeout_and_is_asked_once(
    database: Database,
) -> None:
    hanging = Hanging(database)
    collector = metrics.FromDatabase(hanging, lambda: True, Health(), timeout=0.2)  # type: ignore[arg-type]
    # Those of scrapes before, which may be about to end.
    others = set(threading.enumerate())

    def up() -> float:
        by_name = {each.name: each for each in collector.collect()}
        found = float(by_name["vxlan_operator_database_up"].samples[0].value)
        assert ("vxlan_operator_nodes" in by_name) == (found == 1)
        return found

    assert [up() for _ in range(3)] == [0, 0, 0]
    assert hanging.asked == 1
    assert sum(each.name == "metrics" for each in threading.enumerate() if each not in others) == 1
    hanging.go.set()
    # A busy machine does not answer within the timeout each time.
    await_true(up, "the database is up")


class Vanishing:
    """A database that is gone when a reader is done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def read(self) -> Iterator[Session]:
        """See `Database.read`."""
        with self._database.read() as session:
            yield session
        raise SQLAlchemyError("the connection was closed")


def test_a_database_that_goes_away_at_the_end_of_a_scrape_is_not_up(sqlite: Database) -> None:
    vanishing: Any = Vanishing(sqlite)
    by_name = {
        each.name: each
        for each in metrics.FromDatabase(vanishing, lambda: True, Health(), timeout=60).collect()
    }
    assert by_name["vxlan_operator_database_up"].samples[0].value == 0
    assert "vxlan_operator_nodes" not in by_name


def test_without_its_database_the_process_still_says_what_it_knows(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'c.db'}")
    client, stranger = scraper(database), scraper(database)
    assert client.get("/api/v1/status").status_code == 200
    database.engine.dispose()
    for each in tmp_path.iterdir():
        each.unlink()
    (tmp_path / "c.db").mkdir()
    said = Scrape(database, client=client)
    assert_problem(stranger.get("/metrics"), 503, "the controller's database cannot be used")
    assert said.one("database_up") == 0
    assert said.one("info", version=VERSION) == 1
    assert "vxlan_operator_nodes" not in said.names
    database.close()


def test_every_metric_is_documented_and_no_other(database: Database) -> None:
    fill(database)
    told = {
        line.split("`")[1]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `vxlan_operator_")
        and not line.startswith("| `vxlan_operator_worker_")
    }
    said = {name for name in Scrape(database).names if name.startswith("vxlan_operator_")}
    assert said | {"vxlan_operator_leader_fence"} == told


def test_promtool_finds_nothing_wrong(sqlite: Database) -> None:
    fill(sqlite)
    check_metrics(scraper(sqlite).get("/metrics").content)


def test_no_label_has_a_name_that_comes_from_elsewhere(database: Database) -> None:
    fill(database)
    labels = {
        name
        for metric, its in Scrape(database).values.items()
        if metric.startswith("vxlan_operator_")
        for each in its
        for name, _ in each
    }
    assert labels == {
        *(
            "type",
            "status",
            "reason",
            "verdict",
            "urgency",
            "proof",
            "state",
            "version",
            "le",
            "result",
        )
    }
