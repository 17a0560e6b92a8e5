"""The schema: the version of a database, its upgrade, and its differences from the models."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

import migrations
from contract import VERSION
from contract.runtime.errors import OperatorError
from controller.db import (
    access_models,  # noqa: F401 -- its table
    audit_models,
    key_models,  # noqa: F401 -- its tables
    models,
    notification_models,  # noqa: F401 -- its tables
)

METADATA: Final = models.Node.metadata
"""All tables: those of all four modules."""

_UPGRADE_LOCK: Final = 0x7678_6C61_6E
"""PostgreSQL's advisory lock during an upgrade."""

_APPEND_ONLY: Final = (audit_models.AuditRow.__tablename__, audit_models.AuditAnchor.__tablename__)
_RULES: Final = {"postgresql": ("append_only", "no_truncate"), "sqlite": ("no_update", "no_delete")}
"""Triggers on each append-only table, beside `audit_anchors_of_a_row`; models cannot have any."""

_TRIGGERS_FOUND: Final = {
    "postgresql": (
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') "
        "AND tgrelid IN (to_regclass('audit'), to_regclass('audit_anchors'))"
    ),
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
}


_CURRENT: Final = text("SELECT version_num FROM alembic_version")


@dataclass(frozen=True, slots=True)
class Version:
    """Versions of the schema."""

    current: str | None
    """The database's; None: it has no tables of this program yet."""
    head: str
    """The newest that this program knows."""


def version(connection: Connection) -> Version:
    """The version of a database.

    Raises:
        OperatorError: this program does not know it.
    """
    # Alembic's own way makes a new statement each time, which SQLAlchemy then keeps compiled.
    is_made = inspect(connection).has_table("alembic_version")
    current = connection.scalar(_CURRENT) if is_made else None
    script = ScriptDirectory.from_config(_config())
    if current is not None and current not in {known.revision for known in script.walk_revisions()}:
        raise OperatorError(
            f"the database has schema {current}, which vxlan-operator {VERSION} does not know: "
            "a newer version wrote it",
            "install that newer version, or restore a backup from before the upgrade",
        )
    return Version(current, str(script.get_current_head()))


def upgrade(engine: Engine) -> None:
    """Bring a database up to date, in one transaction: an error leaves it unchanged.

    Raises:
        OperatorError: a newer program wrote it.
        SQLAlchemyError: a migration failed, or waited too long for a lock.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Of two controllers that start together one upgrades and the other waits.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            # An index over years of audit rows takes time; waiting for locks stays bounded.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        found = version(connection)
        if found.current != found.head:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def differences(connection: Connection) -> list[str]:
    """Differences of a database from the models, in words. Tables of other programs do not count."""
    found = version(connection)
    if found.current is None:
        return ["it has no tables yet"]
    if found.current != found.head:
        return [f"it has schema {found.current}, and {found.head} is needed"]
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_name": _is_ours}
    )
    kind = connection.dialect.name
    triggers = {f"{table}_{rule}" for table in _APPEND_ONLY for rule in _RULES[kind]}
    triggers.add("audit_anchors_of_a_row")
    triggers -= set(connection.scalars(text(_TRIGGERS_FOUND[kind])))
    return [
        *_describe(compare_metadata(context, METADATA)),
        *(f"the trigger {name} is missing or disabled" for name in sorted(triggers)),
    ]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in METADATA.tables


def _describe(operations: Iterable[Any]) -> Iterator[str]:
    """Put alembic's differences into words: it lists the operations that would remove them."""
    for operation in operations:
        if isinstance(operation, list):
            yield from _describe(operation)
            continue
        action, *subject = operation
        verb, _, noun = action.partition("_")
        if verb == "modify":
            _schema, table, column, _existing, current, needed = subject
            yield f"column {table}.{column}: {noun} is {current}, and should be {needed}"
            continue
        item = subject[-1]
        name = getattr(item, "name", None) or str(item)
        table = (
            subject[-2] if noun == "column" else getattr(getattr(item, "table", None), "name", "")
        )
        full = f"{table}.{name}" if table and noun != "table" else name
        yield f"{noun} {full} " + ("is missing" if verb == "add" else "should not be there")
