"""What the overview and the matrix conclude from the database, and which parts of it they follow."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from contract.verdicts import Mode, Stage, Verdict
from controller.access import sessions
from controller.access.usage import Usage
from controller.db.access_models import ApiToken
from controller.db.engine import Database
from controller.db.models import Attachment, Cluster, Device, Event, Network, Node, Rejection, Run
from controller.db.states import RunState
from controller.web import history, live, matrix, overview
from controller.web.access import StillLoggedIn
from controller.web.history import PERIODS
from controller.web.matrix import Search
from tests.audit_rows import add, row
from tests.fake_swarm import MAIL, SHOP, network, node, snapshot, swarm_id, task
from tests.stored import put
from tests.tokens import ADMIN, give_token

NOW = datetime.now(UTC).replace(microsecond=0)
ONE, TWO = swarm_id("one"), swarm_id("two")
_READY = {
    "Ready": {
        "status": "True", "reason": "Converged", "message": "", "since": NOW.isoformat(),
    }
}  # fmt: skip


@pytest.fixture
def filled(database: Database) -> Database:
    """Two nodes; `one` runs a task of `shop`."""
    put(
        database,
        snapshot(
            node("one"), node("two"), networks=[SHOP, MAIL], tasks=[task("t1", "one", "shop")]
        ),
    )
    return database


def a_device(verdict: Verdict = Verdict.ORPHAN, **more: Any) -> Device:
    values = {
        "node_id": ONE, "netns": "host", "ifindex": 7, "name": "vx-001001-shopz",
        "vni": SHOP.subnets[0].vni, "port": 4789, "verdict": verdict, "reason": "idle",
        "evidence": "down", "first_seen_at": NOW, "judged_at": NOW, "verdict_at": NOW,
    }  # fmt: skip
    return Device(**values | more)


def mark(database: Database) -> dict[str, str]:
    with database.read() as session:
        return dict(live.marks(session))


def changes(database: Database, change: Callable[[Any], Any]) -> set[str]:
    """The parts whose mark a change moves."""
    before = mark(database)
    assert mark(database) == before
    with database.write() as session:
        change(session)
    after = mark(database)
    return {part for part in before if before[part] != after[part]}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda s: s.execute(update(Cluster).values(synced_at=NOW, sync_seconds=3.0)), set()),
        (lambda s: s.execute(update(Node).values(worker_seen_at=NOW, looked_at=NOW)), set()),
        (lambda s: s.execute(update(Cluster).values(mode=Mode.OBSERVE)), {"cluster"}),
        (lambda s: s.execute(update(Node).where(Node.id == ONE).values(paused_at=NOW)), {"nodes"}),
        (lambda s: s.execute(update(Network).values(mode_at=NOW)), {"networks"}),
        (lambda s: s.add(a_device()), {"devices"}),
        (lambda s: s.add(a_device(Verdict.IN_USE)), set()),
        (
            lambda s: s.add(
                Event(
                    at=NOW, node_id=ONE, node_name="one", type="Ready", status="False", reason="X",
                    message="",
                )
            ),
            {"nodes"},
        ),
        (
            lambda s: s.add(
                Run(
                    id=uuid4(), node_id=ONE, state=RunState.RUNNING, priority=1, reasons=[], generation=1,
                    requested_at=NOW, deadline=NOW,
                )
            ),
            {"runs"},
        ),
    ],
)  # fmt: skip
def test_a_page_hears_of_what_it_shows(
    filled: Database, change: Callable[[Any], Any], parts: set[str]
) -> None:
    assert changes(filled, change) == parts


def test_a_removal_is_news(filled: Database) -> None:
    before = mark(filled)
    add(filled, row(stage=Stage.APPLIED, at=NOW))
    after = mark(filled)
    assert {part for part in before if before[part] != after[part]} == {"audit"}


def test_a_stream_ends_with_its_session_and_keeps_it_in_use(filled: Database) -> None:
    give_token(filled)
    with filled.write() as session:
        secret = sessions.start(session, ADMIN.text, NOW, address="", browser="").secret
    usage = Usage()
    check = StillLoggedIn(secret[:8], secret, usage)
    assert check == StillLoggedIn(secret[:8], secret, Usage())
    assert secret not in repr(check)
    with filled.read() as session:
        assert check(session) is None
    assert usage._sessions.keys() == {secret[:8]}
    with filled.write() as session:
        session.execute(update(ApiToken).values(revoked_at=NOW))
    with filled.read() as session:
        ended = check(session)
    assert ended is not None
    assert "revoked" in ended.detail


# The matrix


def cells(database: Database, **search: Any) -> dict[tuple[str, str], str]:
    with database.read() as session:
        found = matrix.matrix(session, Search(**search), NOW)
    names = [column.name for column in found.columns]
    return {
        (each.hostname, name): cell.sign
        for each in found.rows
        for name, cell in zip(names, each.cells, strict=True)
        if cell.sign
    }


def test_a_cell_is_what_was_seen_against_what_should_be(filled: Database) -> None:
    with filled.write() as session:
        session.execute(update(Attachment).values(running=True))
        session.add(a_device(Verdict.SETTLING, node_id=TWO))
        session.add(a_device(Verdict.CONFLICT, node_id=TWO, ifindex=8, vni=MAIL.subnets[0].vni))
        session.add(a_device(Verdict.ORPHAN, node_id=TWO, ifindex=9, vni=77))
        session.add(a_device(Verdict.FOREIGN, node_id=TWO, ifindex=10, vni=78))
    assert cells(filled) == {
        ("one", "shop"): "missing",
        ("two", "shop"): "settling",
        ("two", "mail"): "conflict",
        ("two", "VNI 77"): "orphan",
    }
    with filled.write() as session:
        session.add(a_device(Verdict.IN_USE))
        session.add(a_device(Verdict.IN_USE, node_id=TWO, ifindex=11))
    found = cells(filled)
    assert found["one", "shop"] == "in_use"
    assert found["two", "shop"] == "settling"
    with filled.read() as session:
        details = matrix.details(session, Mode.ENFORCE, node="two", network="shop", vni=None)
        assert [each.verdict.value for each in details.devices] == ["settling", "in_use"]
        assert (details.cell.sign, details.cell.wanted, details.cell.more) == ("settling", False, 1)
        nobody = matrix.details(session, Mode.ENFORCE, node="two", network=None, vni=77)
        assert nobody.network is None
        assert len(nobody.devices) == 1


def test_a_node_with_only_a_device_that_is_not_wanted_there_is_a_row(filled: Database) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    with filled.write() as session:
        session.execute(update(Node).values(conditions=_READY))
        session.execute(update(Cluster).values(conditions_at=NOW, conditions_until=until))
        # Wanted; wanted, and its network was not known when the node was looked at; not wanted.
        session.add(a_device(Verdict.IN_USE, network_id=SHOP.id))
        session.add(a_device(Verdict.IN_USE, netns="nsid:1", network_id=None))
    assert cells(filled) == {}
    with filled.write() as session:
        session.add(a_device(Verdict.IN_USE, node_id=TWO, network_id=SHOP.id))
    assert cells(filled) == {("two", "shop"): "unwanted"}


def test_what_is_as_it_should_be_is_folded(database: Database) -> None:
    nodes = [node(f"n{number:03}") for number in range(90)]
    networks = [network(f"net{number:02}", 4200 + number) for number in range(60)]
    put(database, snapshot(*nodes, networks=networks))
    with database.write() as session:
        until = datetime.now(UTC) + timedelta(hours=1)
        session.execute(update(Node).values(conditions=_READY))
        session.execute(update(Cluster).values(conditions_at=NOW, conditions_until=until))
        session.add(a_device(node_id=swarm_id("n007"), vni=4203))
    with database.read() as session:
        found = matrix.matrix(session, Search(), NOW)
        assert [each.hostname for each in found.rows] == ["n007"]
        assert [column.name for column in found.columns] == ["net03"]
        assert (found.folded_rows, found.folded_columns, found.more_rows) == (89, 59, 0)
        every = matrix.matrix(session, Search(everything=True), NOW)
        assert len(every.rows) == matrix.PAGE_ROWS
        assert every.more_rows == 90 - matrix.PAGE_ROWS
        assert len(every.columns) == matrix.PAGE_COLUMNS
        assert every.more_columns == 60 - matrix.PAGE_COLUMNS
        assert every.rows[0].hostname == "n007"
        last = matrix.matrix(session, Search(everything=True, page=2), NOW)
        assert len(last.rows) == 90 - 2 * matrix.PAGE_ROWS
        sought = matrix.matrix(session, Search(node="N08"), NOW)
        assert [each.hostname for each in sought.rows] == [
            f"n{number:03}" for number in range(80, 90)
        ]
        of = matrix.matrix(session, Search(node="n007", network="NET1"), NOW)
        assert of.rows == []


def test_nothing_is_known_of_nodes_whose_conditions_are_old(filled: Database) -> None:
    with filled.read() as session:
        found = matrix.matrix(session, Search(), NOW + timedelta(days=1))
    assert {each.look for each in found.rows} == {"unknown"}


# The overview


def test_removals_and_times_to_heal_are_in_their_step(filled: Database) -> None:
    at = NOW - timedelta(hours=3)
    add(
        filled,
        *(row(stage=Stage.APPLIED, at=at + timedelta(seconds=number)) for number in range(3)),
    )
    add(
        filled,
        row(stage=Stage.VERIFIED, at=at),
        row(stage=Stage.APPLIED, at=NOW - timedelta(days=2)),
    )
    with filled.write() as session:
        for number, seconds in enumerate((2.0, 4.0, 9.0)):
            session.add(
                Rejection(
                    task_id=f"t{number}", node_id=ONE, at=at, seen_at=at, error="", first_at=at,
                    removed_at=at + timedelta(seconds=seconds),
                    running_at=at + timedelta(seconds=seconds + 1),
                )
            )  # fmt: skip
    with filled.read() as session:
        found = history.history(session, PERIODS["24h"], NOW)
    assert len(found) == 72
    assert found[-1].at <= NOW < found[-1].at + PERIODS["24h"].step
    assert sum(each.removals for each in found) == 3
    (healed,) = [each for each in found if each.healed is not None]
    assert (healed.healed, healed.slowest, healed.running) == (4.0, 9.0, 5.0)
    assert healed.at <= at + timedelta(seconds=9) < healed.at + PERIODS["24h"].step
    series = history.series(found)
    assert {len(values) for values in series.values()} == {72}


def test_orphans_come_before_what_only_looks_dead(filled: Database) -> None:
    with filled.write() as session:
        session.add(a_device(Verdict.SETTLING))
        session.add(a_device(Verdict.ORPHAN, ifindex=8))
        session.add(a_device(Verdict.IN_USE, ifindex=9))
    with filled.read() as session:
        counts, shown = overview.orphans(session, Mode.OBSERVE)
    assert counts == {"orphan": 1, "settling": 1, "conflict": 0}
    assert [each.verdict.value for each in shown] == ["orphan", "settling"]
    assert "mode observe" in shown[0].held_back[0].text


def test_the_pause_that_ends_first_is_first(filled: Database) -> None:
    with filled.write() as session:
        for id_, until in ((ONE, None), (TWO, NOW + timedelta(hours=2))):
            values = {"paused_at": NOW, "paused_by": "otto", "paused_until": until}
            session.execute(update(Node).where(Node.id == id_).values(values))
        session.execute(
            update(Network)
            .where(Network.id == SHOP.id)
            .values(paused_at=NOW, paused_until=NOW + timedelta(hours=1))
        )
    with filled.read() as session:
        total, found = overview.pauses(session)
    assert total == 3
    assert [each.name for each in found] == ["shop", "two", "one"]


def test_the_index_of_what_is_not_in_use_is_used(filled: Database) -> None:
    if filled.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL reads tables of a few rows without any index")
    with filled.read() as session:
        query = select(Device).where(overview.NOT_IN_USE_SQL, Device.verdict == Verdict.ORPHAN)
        sql = str(query.compile(filled.engine, compile_kwargs={"literal_binds": True}))
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}").all()
    assert any("ix_devices_not_in_use" in str(step) for step in plan)
