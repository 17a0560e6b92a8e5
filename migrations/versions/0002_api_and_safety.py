"""Who set a mode, what holds removals back, audit rows by name, ends of pauses, events, tokens, and keys.

Revision ID: 0002
Revises: 0001
"""

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME: Final = sa.DateTime(timezone=True)
_SWARM_ID: Final = sa.String(25)
_KEY_ID: Final = sa.String(16)
_BIG_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what 0.1.0 did not store."""
    _hold_back()
    _end_pauses()
    _record_events()
    _date_conditions()
    _index_subnets()
    _add_tokens()
    _add_keys()
    _parse_conditions()


def _hold_back() -> None:
    for table in ("cluster", "nodes", "networks"):
        op.add_column(table, sa.Column("mode_at", _TIME, nullable=True))
        op.add_column(table, sa.Column("mode_by", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("mode_reason", sa.Text(), nullable=True))
    op.add_column("nodes", sa.Column("looked_at", _TIME, nullable=True))
    op.add_column("nodes", sa.Column("max_removals", sa.Integer(), nullable=True))
    op.add_column("devices", sa.Column("held_back", sa.String(16), nullable=True))
    op.add_column("devices", sa.Column("counted_holds", sa.String(128), nullable=True))
    op.create_table(
        "suppressed_totals",
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reason", name="pk_suppressed_totals"),
    )
    op.add_column(
        "runs", sa.Column("max_removals", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_index("ix_audit_node_name", "audit", ["node_name", "node_id"])
    op.create_index("ix_audit_network_name", "audit", ["network_name", "network_id"])


def _end_pauses() -> None:
    for table in ("cluster", "nodes", "networks"):
        op.add_column(table, sa.Column("paused_until", _TIME, nullable=True))


def _record_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=True),
        sa.Column("node_name", sa.Text(), nullable=True),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_at", "events", ["at", "id"])
    op.create_index("ix_events_node", "events", ["node_id", "at", "id"])


def _date_conditions() -> None:
    op.add_column("cluster", sa.Column("conditions_at", _TIME, nullable=True))
    op.add_column("cluster", sa.Column("conditions_until", _TIME, nullable=True))
    op.create_table(
        "heartbeats",
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("process", name="pk_heartbeats"),
    )


def _index_subnets() -> None:
    op.create_index("ix_network_vnis_cidr", "network_vnis", ["cidr"])
    op.drop_index("ix_rejections_cidr", "rejections")
    op.create_index("ix_rejections_cidr", "rejections", ["cidr", "node_id", "network_id", "at"])


def _add_tokens() -> None:
    op.add_column("audit", sa.Column("claimed_name", sa.Text(), nullable=True))
    op.add_column("requeues", sa.Column("claimed_name", sa.Text(), nullable=True))
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(8), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    valid = sa.text("revoked_at IS NULL")
    op.create_index(
        "ix_tokens_name",
        "tokens",
        ["name"],
        unique=True,
        postgresql_where=valid,
        sqlite_where=valid,
    )


def _add_keys() -> None:
    op.add_column("audit", sa.Column("key_id", _KEY_ID, nullable=True))
    op.add_column("nodes", sa.Column("controller_keys", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "controller_keys",
        sa.Column("id", _KEY_ID, nullable=False),
        sa.Column("public_key", sa.String(43), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("retired_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_controller_keys"),
    )
    op.create_table(
        "node_keys",
        sa.Column("id", _KEY_ID, nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("public_key", sa.String(43), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("decided_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_node_keys"),
    )
    op.create_index("ix_node_keys_node", "node_keys", ["node_id", "state"])
    op.create_table(
        "join_tokens",
        sa.Column("id", _KEY_ID, nullable=False),
        sa.Column("public_key", sa.String(43), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_join_tokens"),
    )


def _parse_conditions() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table in ("cluster", "nodes"):
        op.alter_column(
            table,
            "conditions",
            type_=JSONB(),
            existing_type=sa.JSON(),
            existing_nullable=False,
            postgresql_using="conditions::jsonb",
        )
