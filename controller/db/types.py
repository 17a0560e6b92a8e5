"""Column types, and the base of all tables."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    TypeDecorator,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import JSON

from contract.verdicts import HeldBack, Mode, Proof, Stage, Urgency, Verdict
from controller.db.states import (
    ControllerKeyState,
    DeliveryState,
    NodeKeyState,
    Role,
    RunState,
    TargetKind,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, always with its zone, which SQLite alone would forget."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store as UTC; a time without a zone raises `ValueError`."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """Convert a time once: a transaction writes the same one into thousands of rows."""
        process = super().bind_processor(dialect)
        return None if process is None else lru_cache(maxsize=64)(process)

    def process_result_value(  # the name is the base class's
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        """Read as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _enum(
    kind: type[
        Verdict
        | Proof
        | HeldBack
        | Urgency
        | Stage
        | Mode
        | RunState
        | Role
        | ControllerKeyState
        | NodeKeyState
        | TargetKind
        | DeliveryState
    ],
) -> Enum:
    # Stored as text: readable by a person, and a new member needs no migration.
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


def partial_index(name: str, *columns: str, where: str) -> Index:
    """An index of the rows for which the SQL condition holds."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


SWARM_ID = String(25)
_PARSED_JSON = JSON().with_variant(JSONB(), "postgresql")
"""PostgreSQL keeps it parsed: a part of it can be compared in every row without parsing all of them."""
BIG_ID = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Base of the tables; constraints have the same names on every database, for the migrations."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy's own idiom
        datetime: UtcDateTime,
        dict[str, Any]: _PARSED_JSON,
        list[str]: JSON,
        UUID: Uuid,
        float: Float(),
        Verdict: _enum(Verdict),
        Urgency: _enum(Urgency),
        Proof: _enum(Proof),
        HeldBack: _enum(HeldBack),
        Stage: _enum(Stage),
        Mode: _enum(Mode),
        RunState: _enum(RunState),
        Role: _enum(Role),
        ControllerKeyState: _enum(ControllerKeyState),
        NodeKeyState: _enum(NodeKeyState),
        TargetKind: _enum(TargetKind),
        DeliveryState: _enum(DeliveryState),
    }
