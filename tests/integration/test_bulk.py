"""Statements of many rows: stored as they were given, and planned by the present size of tables."""

from datetime import timedelta
from typing import Any

from sqlalchemy import select, text

from contract.verdicts import Urgency, Verdict
from controller.db import bulk
from controller.db.engine import Database, open_database
from controller.db.models import Device, Run
from controller.db.types import Base
from controller.runs import devices as stored_devices
from tests.fake_clock import START
from tests.fake_swarm import snapshot, swarm_id
from tests.servers import PostgresServer
from tests.stored import claim, put, run_row

_DEVICES = Base.metadata.tables[Device.__tablename__]


def row(ifindex: int, **values: Any) -> dict[str, Any]:
    """A device's columns."""
    return {
        "node_id": swarm_id("one"), "netns": "host", "ifindex": ifindex, "name": "vx", "vni": 4097,
        "port": 4789, "verdict": Verdict.ORPHAN, "urgency": None, "reason": "", "evidence": "",
        "first_seen_at": START, "verdict_at": START, "judged_at": START,
    } | values  # fmt: skip


def test_rows_are_stored_as_they_were_given(database: Database) -> None:
    put(database, snapshot("one"))
    rows = [
        row(
            1,
            urgency=Urgency.BLOCKING,
            reason="\"quoted\", \\ and 'so'\n\tü \U0001f427 %s %(a)s :b",
        ),
        row(2, name="", evidence="null", judged_at=START + timedelta(microseconds=1)),
        row(2**31 - 1, evidence="x" * 10_000),
    ]
    with database.write() as session:
        bulk.insert_rows(session, _DEVICES, rows)
    with database.read() as session:
        found = session.execute(select(_DEVICES).order_by(_DEVICES.c.ifindex)).mappings().all()
    assert [{name: each[name] for name in rows[0]} for each in found] == rows


def test_more_rows_than_one_statement_takes(database: Database) -> None:
    put(database, snapshot("one"))
    rows = [row(number) for number in range(1, 2_501)]
    with database.write() as session:
        bulk.insert_rows(session, _DEVICES, rows)
    with database.read() as session:
        stored = session.scalars(select(_DEVICES.c.ifindex).order_by(_DEVICES.c.ifindex)).all()
    assert stored == [*range(1, 2_501)]


def test_a_database_of_no_encoding_takes_every_text(postgres_server: PostgresServer) -> None:
    database = open_database(postgres_server.new_database("SQL_ASCII"))
    try:
        put(database, snapshot("one"))
        with database.write() as session:
            bulk.insert_rows(session, _DEVICES, [row(1, reason="ü \U0001f427")])
        with database.read() as session:
            assert session.scalars(select(_DEVICES.c.reason)).all() == ["ü \U0001f427"]
    finally:
        database.close()


def test_reasons_and_defaults_of_a_run_are_stored(database: Database) -> None:
    put(database, snapshot("one"))
    run: Run = run_row(database, claim(database)[swarm_id("one")].run_id)
    assert run.reasons
    assert all(isinstance(reason, str) for reason in run.reasons)
    assert (run.devices, run.removed, run.error) == (0, 0, None)


def test_what_reads_devices_is_never_prepared(postgres_server: PostgresServer) -> None:
    database = open_database(postgres_server.new_database())
    try:
        with database.read() as session:
            for _ in range(20):
                stored_devices.store(session, [], START)
                session.execute(select(_DEVICES.c.name))
            prepared = session.scalars(text("SELECT statement FROM pg_prepared_statements")).all()
    finally:
        database.close()
    assert [each for each in prepared if "devices.evidence" in each] == []
    assert [each for each in prepared if each.startswith("SELECT devices.name")]
