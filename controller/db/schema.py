"""The schema: which version a database has, bringing it up to date, and whether it is as it should be."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

import migrations
from contract import VERSION
from contract.runtime.errors import OperatorError
from controller.db.models import Base

_ONE_AT_A_TIME: Final = 0x7678_6C61_6E
"""PostgreSQL's advisory lock of whoever upgrades."""

_TRIGGERS: Final = {
    "postgresql": {
        "audit_append_only",
        "audit_no_truncate",
        "audit_anchors_append_only",
        "audit_anchors_no_truncate",
        "audit_anchors_of_a_row",
    },
    "sqlite": {
        "audit_no_update",
        "audit_no_delete",
        "audit_anchors_no_update",
        "audit_anchors_no_delete",
        "audit_anchors_of_a_row",
    },
}
"""What keeps the audit trail append-only; models cannot say it."""

_TRIGGERS_FOUND: Final = {
    "postgresql": (
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') "
        "AND tgrelid IN (to_regclass('audit'), to_regclass('audit_anchors'))"
    ),
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
}


@dataclass(frozen=True, slots=True)
class Version:
    """Versions of the schema.

    Attributes:
        current: the database's; None: it has no tables of ours yet.
        head: the newest that this program knows.
    """

    current: str | None
    head: str


def version(connection: Connection) -> Version:
    """Which version a database has.

    Raises:
        OperatorError: one that this program does not know.
    """
    script = ScriptDirectory.from_config(_config())
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {each.revision for each in script.walk_revisions()}:
        raise OperatorError(
            f"the database has schema {current}, which vxlan-operator {VERSION} does not know: "
            "a newer version wrote it",
            "install that newer version, or restore a backup from before the upgrade",
        )
    return Version(current, str(script.get_current_head()))


def upgrade(engine: Engine) -> None:
    """Bring a database up to date, in one transaction.

    Raises:
        OperatorError: a newer program wrote it; nothing was changed.
        SQLAlchemyError: it cannot be done, or something was locked for too long; nothing was changed.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Two controllers that start together: one upgrades, the other waits.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
            # Making an index of years of audit rows takes its time; waiting for locks stays bounded.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        had = version(connection)
        if had.current != had.head:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def differences(connection: Connection) -> list[str]:
    """What is not as this program needs it, in words. Other tables than ours do not count."""
    found = version(connection)
    if found.current is None:
        return ["it has no tables yet"]
    if found.current != found.head:
        return [f"it has schema {found.current}, and {found.head} is needed"]
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_name": _is_ours}
    )
    kind = connection.dialect.name
    triggers = _TRIGGERS[kind] - set(connection.scalars(text(_TRIGGERS_FOUND[kind])))
    return [
        *_told(compare_metadata(context, Base.metadata)),
        *(f"the trigger {name} is missing or disabled" for name in sorted(triggers)),
    ]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in Base.metadata.tables


def _told(found: Iterable[Any]) -> Iterator[str]:
    """Alembic's differences in words: it says what would have to be done."""
    for each in found:
        if isinstance(each, list):
            yield from _told(each)
            continue
        what, *about = each
        verb, _, noun = what.partition("_")
        if verb == "modify":
            _schema, table, column, _existing, is_now, should_be = about
            yield f"column {table}.{column}: its {noun} is {is_now}, and should be {should_be}"
            continue
        item = about[-1]
        name = getattr(item, "name", None) or str(item)
        table = about[-2] if noun == "column" else getattr(getattr(item, "table", None), "name", "")
        full = f"{table}.{name}" if table and noun != "table" else name
        yield f"{noun} {full} " + ("is missing" if verb == "add" else "should not be there")
