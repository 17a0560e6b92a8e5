"""An audit trail to break: rows in it, checking it, and what its owner can do behind our back."""

from collections.abc import Iterable
from datetime import datetime
from uuid import uuid4

from sqlalchemy import text

from contract.verdicts import Stage, Urgency, Verdict
from controller.audit import verify
from controller.audit.append import Entry, append, head_of, links
from controller.audit.chain import ChainPosition, Finding
from controller.db.engine import Database
from tests.fake_clock import START
from tests.reports import identity
from tests.stored import without_triggers


def record(database: Database, count: int, *, now: datetime = START) -> None:
    """Add rows that say something in every column."""
    with database.write() as session:
        append(
            session,
            [
                Entry(
                    id=uuid4(),
                    stage=Stage.APPLIED,
                    at=now,
                    reason=f"reason {number}, ü",
                    actor="controller",
                    network_id="n" * 25,
                    identity=identity(number),
                    verdict=Verdict.ORPHAN,
                    urgency=Urgency.STALE,
                    evidence="what was seen",
                    run_id=uuid4(),
                    worker_version="1.2.3",
                )
                for number in range(1, count + 1)
            ],
            now,
        )


def behind_our_back(database: Database, *statements: str) -> None:
    """Do what only the owner of the database can do."""
    with database.engine.begin() as connection, without_triggers(connection):
        for statement in statements:
            connection.execute(text(statement))


def check(database: Database, *expected: ChainPosition, rows: int = 10_000) -> Finding | None:
    """Check the chain, in steps of so many rows; return what is wrong."""
    after = None
    while True:
        with database.read() as session:
            progress = verify.step(session, after, expected, rows)
        after = progress.reached
        if progress.done:
            return progress.finding


def head(database: Database) -> ChainPosition:
    """The end of the chain."""
    with database.read() as session:
        return head_of(session)


def positions(database: Database) -> list[int]:
    """The positions of the rows that are there."""
    with database.read() as session:
        return [row.position for row in links(session, 0, 1_000_000)]


def ids(database: Database) -> Iterable[int]:
    """The numbers of the rows, along the chain."""
    with database.read() as session:
        return [row.id or 0 for row in links(session, 0, 1_000_000)]
