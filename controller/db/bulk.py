"""Statements of many rows, as they are cheap on PostgreSQL."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import (
    FromClause,
    Insert,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

UNPREPARED: Final = {"unprepared": True}
"""Execution options of a statement that PostgreSQL is to plan each time, by the present size of its tables.

The plan of a prepared statement stays until the next ANALYZE: one that was made while a table had a few rows
reads all of it when it has tens of thousands, in the minute in which thousands of nodes report for the first
time.
"""
_BATCH: Final = 1_000
"""Rows of one statement: a device may have kilobytes of text, and a statement has a time limit."""


def insert_rows(session: Session, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, one at least, which have values for the same columns.

    On PostgreSQL in one statement for a thousand of them, as one JSON text: its driver sends a statement for
    each row, and of SQLAlchemy's statement of many rows each length is prepared again.

    Args:
        rows: of texts, numbers, truth values, times, UUIDs, members of enumerations, lists of texts for
            columns of JSON, and None for NULL.
    """
    if session.get_bind().dialect.name == "postgresql":
        statement = _insert(table, tuple(rows[0]))
        for first in range(0, len(rows), _BATCH):
            # Without escapes, which PostgreSQL does not resolve where the database's encoding is SQL_ASCII.
            text = to_json(rows[first : first + _BATCH]).decode()
            session.execute(statement, {"rows": text})
    else:
        session.execute(insert(table), rows)


@cache  # Making a statement takes longer than carrying it out.
def _insert(table: Table, names: tuple[str, ...]) -> Insert:
    given = _given(table, names)
    return insert(table).from_select(names, select(*(given.c[name] for name in names)))


def _given(table: Table, names: Sequence[str]) -> FromClause:
    rows = cast(bindparam("rows", type_=Text), postgresql.JSON)
    columns = (column(name, table.c[name].type) for name in names)
    given = func.json_to_recordset(rows).table_valued(*columns, name="given")
    return given.render_derived(with_types=True)
