"""SQL functions that each database spells in its own way."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Float, Uuid, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class NewUuid(FunctionElement[UUID]):
    """A fresh UUID for each row."""

    type = Uuid()
    inherit_cache = True


@compiles(NewUuid, "postgresql")
def _new_uuid_on_postgresql(_element: NewUuid, _compiler: SQLCompiler, **_: Any) -> str:
    return "gen_random_uuid()"


@compiles(NewUuid, "sqlite")
def _new_uuid_on_sqlite(_element: NewUuid, _compiler: SQLCompiler, **_: Any) -> str:
    # Version 4 (RFC 9562, section 5.4), as PostgreSQL's and Python's are.
    return (
        "lower(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2)"
        " || substr('89AB', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2)"
        " || hex(randomblob(6)))"
    )


class Epoch(FunctionElement[float]):
    """A time as seconds since 1970 (PostgreSQL) or since another day long ago (SQLite): to be compared."""

    type = Float()
    inherit_cache = True


@compiles(Epoch, "postgresql")
def _epoch_on_postgresql(element: Epoch, compiler: SQLCompiler, **options: Any) -> str:
    # Not by `extract`, which gives a numeric: sorting thousands of them takes as long as finding them.
    return f"date_part('epoch', {compiler.process(element.clauses, **options)})"


@compiles(Epoch, "sqlite")
def _epoch_on_sqlite(element: Epoch, compiler: SQLCompiler, **options: Any) -> str:
    return f"julianday({compiler.process(element.clauses, **options)}) * 86400"


def database_time(session: Session) -> datetime:
    """Return the time by the one clock that all controllers share; on SQLite there is one controller."""
    if session.get_bind().dialect.name == "postgresql":
        now: datetime = session.scalars(select(func.clock_timestamp())).one()
        return now.astimezone(UTC)
    return datetime.now(UTC)
