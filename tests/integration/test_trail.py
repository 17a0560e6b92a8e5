"""Pages of the audit trail: the right rows, each once, and never a look at all of it."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text

from contract.verdicts import Stage, Urgency, Verdict
from controller.audit.queries import pages as trail
from controller.audit.queries import resolve
from controller.audit.queries.pages import Filters, Page, RowKey
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from tests.audit_rows import add, row
from tests.fake_clock import START
from tests.fake_swarm import swarm_id
from tests.stored import plans as stored_plans

RUNS = [UUID(int=number << 96) for number in range(1, 4)]


def second(number: int) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=number)


def some(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Random rows, many of them of one time, and stored in no order of time."""
    return [
        row(
            second(chance.randrange(12)),
            node=chance.choice(["one", "one", "one", "two", None]),
            network=chance.choice(["shop", "mail", None]),
            vni=chance.choice([4097, 4098, None]),
            name=chance.choice(["vx-001001-shopz", "vxlan0", None]),
            ifindex=chance.choice([7, 8, None]),
            stage=chance.choice([Stage.APPLIED, Stage.APPLIED, Stage.FAILED, Stage.PAUSED]),
            verdict=chance.choice([Verdict.ORPHAN, Verdict.ORPHAN, Verdict.FOREIGN, None]),
            urgency=chance.choice([Urgency.STALE, Urgency.BLOCKING, None]),
            actor=chance.choice(["controller", "controller", "alice", "bob"]),
            run_id=chance.choice([*RUNS, None]),
        )
        for _ in range(count)
    ]


def any_filters(chance: random.Random) -> Filters:
    """A random question."""
    begin = second(chance.randrange(10))
    parts: list[dict[str, Any]] = [
        {"node_id": swarm_id(chance.choice(["one", "two", "nosuch"]))},
        {"node_id": swarm_id("one"), "also_nodes": (swarm_id("nosuch"), swarm_id("two"))},
        {"network_id": swarm_id(chance.choice(["shop", "mail"]))},
        {"network_id": swarm_id("nosuch"), "also_networks": (swarm_id("mail"),)},
        {"vni": chance.choice([4097, 4098])},
        {"name": chance.choice(["vx-001001-shopz", "vxlan0"])},
        {"ifindex": chance.choice([7, 8])},
        {"stages": tuple(chance.choices(list(Stage), k=chance.choice([1, 2, 18])))},
        {"stages": (Stage.APPLIED, Stage.FAILED)},
        {"verdict": chance.choice([Verdict.ORPHAN, Verdict.FOREIGN, Verdict.IN_USE])},
        {"urgency": chance.choice([Urgency.STALE, Urgency.BLOCKING])},
        {"actor": chance.choice(["controller", "alice", "bob"])},
        {"run_id": chance.choice(RUNS)},
        {"since": begin},
        {"until": begin + timedelta(seconds=chance.choice([1, 5]))},
    ]
    filters = Filters()
    for part in chance.sample(parts, chance.choice([0, 1, 1, 2, 2, 3, 4])):
        filters = replace(filters, **part)
    return filters


def matches(each: AuditRow, filters: Filters) -> bool:
    """Whether a row is asked for, said as plainly as can be."""
    return (
        all(getattr(each, column) in values for column, values in filters.allowed().items())
        and (not filters.stages or each.stage in filters.stages)
        and (filters.since is None or each.at >= filters.since)
        and (filters.until is None or each.at < filters.until)
    )


def everything(database: Database) -> list[AuditRow]:
    """All rows, the newest first."""
    with database.read() as session:
        rows = session.query(AuditRow).all()
    return sorted(rows, key=lambda each: (each.at, each.id), reverse=True)


def pages(
    database: Database, filters: Filters, limit: int, before: RowKey | None = None
) -> Iterator[Page]:
    """All pages, one by one."""
    for _ in range(10_000):
        with database.read() as session:
            page = trail.page(session, filters, before, limit)
        assert len(page.rows) <= limit
        assert page.short == (len(page.rows) < limit and page.next is not None)
        yield page
        before = page.next
        if before is None:
            return
    raise AssertionError("pages without an end")


def numbers(pages: Iterator[Page]) -> list[int]:
    """The numbers of all rows of all pages."""
    return [each.id for page in pages for each in page.rows]


@pytest.mark.parametrize(
    ("examined", "rows"),
    [
        pytest.param(trail.EXAMINED, trail.EXAMINED_ROWS, id="more than there are"),
        pytest.param(40, 20, id="fewer than there are"),
        pytest.param(18, 18, id="as few as can be"),
    ],
)
def test_pages_are_all_that_matches_in_order_each_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, examined: int, rows: int
) -> None:
    monkeypatch.setattr(trail, "EXAMINED", examined)
    monkeypatch.setattr(trail, "EXAMINED_ROWS", rows)
    monkeypatch.setattr(trail, "_PROBED", 30)
    chance = random.Random(7)  # noqa: S311
    add(database, *some(chance, 150))
    stored = everything(database)
    found_some = short = 0
    for _ in range(80):
        filters = any_filters(chance)
        limit = chance.choice([2, 7, 1000])
        told = list(pages(database, filters, limit))
        wanted = [each.id for each in stored if matches(each, filters)]
        assert numbers(iter(told)) == wanted, filters
        found_some += bool(wanted)
        short += any(page.short for page in told)
    assert found_some > 30
    assert (short > 10) == (examined < 150)


def test_rows_that_come_meanwhile_disturb_no_page(database: Database) -> None:
    chance = random.Random(8)  # noqa: S311
    add(database, *some(chance, 200))
    filters = Filters(stages=(Stage.APPLIED,))
    before = [each.id for each in everything(database) if matches(each, filters)]
    told = []
    for page in pages(database, filters, 5):
        told += [each.id for each in page.rows]
        add(database, *some(chance, 20))  # Some newer, some older than where the next page begins.
    assert len(told) == len(set(told))
    assert [number for number in told if number in set(before)] == before


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_rows_of_one_moment_are_told_apart_by_their_numbers(database: Database, limit: int) -> None:
    ids = add(database, *(row() for _ in range(10)))
    assert numbers(pages(database, Filters(), limit)) == sorted(ids, reverse=True)


def test_from_since_on_and_before_until(database: Database) -> None:
    first, second_, _third = add(database, row(second(1)), row(second(2)), row(second(3)))
    filters = Filters(since=second(1), until=second(3))
    assert numbers(pages(database, filters, 10)) == [second_, first]


def test_a_position_beyond_the_span_is_held_to_it(database: Database) -> None:
    ids = add(database, *(row(second(number)) for number in range(5)))
    filters = Filters(until=second(3))
    assert numbers(pages(database, filters, 10, RowKey(second(100), 1))) == ids[2::-1]


def plans(database: Database, filters: Filters) -> list[str]:
    """How the database answers each query of a page, with no more than an index to go by."""
    queries: list[tuple[str, Any]] = []

    def note(
        _connection: object, _cursor: object, statement: str, parameters: Any, *_: object
    ) -> None:
        if "FROM audit" in statement:
            queries.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.read() as session:
            trail.page(session, filters)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return [_plan(database, *query) for query in queries]


def _plan(database: Database, statement: str, parameters: Any) -> str:
    sqlite = database.engine.dialect.name == "sqlite"
    with database.engine.connect() as connection:
        if not sqlite:
            # A table of tests is so small that reading all of it is best.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
        rows = connection.exec_driver_sql(explain + statement, parameters)
        return "\n".join(str(each[-1]) for each in rows)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(), "ix_audit_at"),
        (Filters(urgency=Urgency.STALE), "ix_audit_at"),
        (Filters(verdict=Verdict.ORPHAN, actor="controller"), "ix_audit_at"),
        (Filters(node_id=swarm_id("one")), "ix_audit_node"),
        (Filters(node_id=swarm_id("one"), also_nodes=(swarm_id("two"),)), "ix_audit_node"),
        (Filters(network_id=swarm_id("shop"), since=START), "ix_audit_network"),
        (Filters(vni=4097, until=second(9)), "ix_audit_vni"),
        (Filters(name="vxlan0", ifindex=7), "ix_audit_name"),
        (Filters(stages=(Stage.APPLIED, Stage.FAILED)), "ix_audit_stage"),
        (Filters(verdict=Verdict.FOREIGN, urgency=Urgency.STALE), "ix_audit_verdict"),
        (Filters(actor="alice"), "ix_audit_actor"),
        (Filters(run_id=RUNS[0]), "ix_audit_run"),
    ],
)
def test_each_question_walks_an_index_and_sorts_nothing(
    database: Database, filters: Filters, index: str
) -> None:
    add(database, *some(random.Random(9), 2000))  # noqa: S311
    with database.engine.begin() as connection:
        connection.execute(text("ANALYZE audit"))
    shown = plans(database, filters)
    walks, rows = shown[:-1], shown[-1]
    assert walks
    for plan in walks:
        assert index in plan
        assert "Seq Scan" not in plan
        assert "B-TREE" not in plan
        assert "Sort" not in plan
    assert "pk_audit" in rows or "PRIMARY KEY" in rows


def test_who_had_a_name_is_found_by_an_index(database: Database) -> None:
    add(database, *some(random.Random(9), 2000))  # noqa: S311
    found = stored_plans(database, lambda session: resolve.nodes_named(session, "one"))
    assert "ix_audit_node_name" in found
    found = stored_plans(database, lambda session: resolve.networks_named(session, "shop"))
    assert "ix_audit_network_name" in found


def test_the_rarest_filter_is_walked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "_PROBED", 10)
    rare = add(database, row(vni=4098))
    add(database, *(row(second(number)) for number in range(50)))
    filters = Filters(node_id=swarm_id("one"), stages=(Stage.APPLIED,), vni=4098)
    assert "ix_audit_vni" in plans(database, filters)[-2]
    assert numbers(pages(database, filters, 10)) == rare


def test_what_arrives_comes_in_the_order_in_which_it_was_stored(database: Database) -> None:
    old = add(database, row(second(5)), row(second(6), stage=Stage.FAILED))
    late = add(database, row(second(1)), row(second(9), stage=Stage.FAILED), row(second(2)))

    def arrived(filters: Filters, after: int, limit: int = 100) -> tuple[list[int], int]:
        with database.read() as session:
            rows, through = trail.arrivals(session, filters, after, limit)
        return [each.id for each in rows], through

    assert arrived(Filters(), old[-1]) == (late, late[-1])
    applied = Filters(stages=(Stage.APPLIED,))
    assert arrived(applied, old[-1]) == ([late[0], late[2]], late[-1])
    assert arrived(applied, old[-1], limit=1) == ([late[0]], late[0])
    assert arrived(Filters(node_id=swarm_id("two")), 0) == ([], late[-1])
    assert arrived(Filters(), late[-1]) == ([], late[-1])
    assert arrived(Filters(), 2**62) == ([], 2**62)


def test_what_arrives_is_looked_at_in_bounded_steps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "_WINDOW_ROWS", 3)
    ids = add(database, *(row() for _ in range(7)), row(stage=Stage.FAILED))
    told, after, steps = [], 0, 0
    while steps == 0 or after < ids[-1]:
        with database.read() as session:
            rows, after = trail.arrivals(session, Filters(stages=(Stage.FAILED,)), after, 100)
        told += [each.id for each in rows]
        steps += 1
    assert (told, steps) == ([ids[-1]], 3)


def test_carried_columns_are_those_of_the_indexes() -> None:
    indexes = {str(index.name): index for index in AuditRow.__table__.indexes}  # type: ignore[attr-defined]
    for column, carried in trail._CARRIED.items():
        name = {None: "at", "node_id": "node", "network_id": "network", "run_id": "run"}.get(
            column, column
        )
        columns = [each.name for each in indexes[f"ix_audit_{name}"].columns]
        assert columns[0] == (column or "at")
        assert carried <= set(columns)
