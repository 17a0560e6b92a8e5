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
    _bound_audit_rows()
    _end_pauses()
    _record_events()
    _date_conditions()
    _index_subnets()
    _add_tokens()
    _add_web_sessions()
    _find_what_is_not_in_use()
    _add_keys()
    _parse_conditions()
    _name_managers()
    _date_healing()
    _date_due_runs()
    _add_notifications()


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


def _bound_audit_rows() -> None:
    for name, kind in (("audit_spent", sa.Float()), ("audit_left_out", sa.Integer())):
        op.add_column("nodes", sa.Column(name, kind, nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("audit_spent_at", _TIME, nullable=True))


def _end_pauses() -> None:
    for table in ("cluster", "nodes", "networks"):
        op.add_column(table, sa.Column("paused_until", _TIME, nullable=True))


def _name_managers() -> None:
    op.add_column("cluster", sa.Column("sync_manager", sa.Text(), nullable=True))
    op.add_column("cluster", sa.Column("managers_away", sa.Text(), nullable=True))


def _date_healing() -> None:
    op.add_column("rejections", sa.Column("service_id", _SWARM_ID, nullable=True))
    op.add_column("rejections", sa.Column("slot", sa.Integer(), nullable=True))
    op.add_column("rejections", sa.Column("run_id", sa.Uuid(), nullable=True))
    for name in ("first_at", "removed_at", "running_at"):
        op.add_column("rejections", sa.Column(name, _TIME, nullable=True))
    awaited = sa.text("removed_at IS NOT NULL AND running_at IS NULL")
    op.create_index(
        "ix_rejections_awaited",
        "rejections",
        ["seen_at"],
        postgresql_where=awaited,
        sqlite_where=awaited,
    )
    op.create_table(
        "healing_times",
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("buckets", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("step", name="pk_healing_times"),
    )


def _date_due_runs() -> None:
    op.add_column("due_nodes", sa.Column("run_due_at", _TIME, nullable=True))
    op.add_column(
        "due_nodes",
        sa.Column("despite_pause", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("runs", sa.Column("due_at", _TIME, nullable=True))


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


def _find_what_is_not_in_use() -> None:
    wrong = sa.text("verdict <> 'in_use'")
    op.create_index(
        "ix_devices_not_in_use",
        "devices",
        ["verdict", "verdict_at", "judged_at"],
        postgresql_where=wrong,
        sqlite_where=wrong,
    )


def _add_web_sessions() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("id", sa.String(8), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("token_id", sa.String(8), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["token_id"],
            ["tokens.id"],
            name="fk_web_sessions_token_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_web_sessions"),
        sa.UniqueConstraint("digest", name="uq_web_sessions_digest"),
    )
    op.create_index("ix_web_sessions_token_id", "web_sessions", ["token_id"])


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
        sa.Column("previous", _KEY_ID, nullable=True),
        sa.Column("vouched", sa.String(86), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_controller_keys"),
    )
    op.create_table(
        "node_keys",
        sa.Column("id", _KEY_ID, nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("public_key", sa.String(43), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("broker_password", sa.String(64), nullable=True),
        sa.Column("broker_password_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("decided_at", _TIME, nullable=True),
        sa.Column("rotation_asked_at", _TIME, nullable=True),
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


def _add_notifications() -> None:
    op.create_table(
        "notification_targets",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("events", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("former_secret", sa.Text(), nullable=True),
        sa.Column("former_until", _TIME, nullable=True),
        sa.Column("every_seconds", sa.Float(), nullable=True),
        sa.Column("remind_seconds", sa.Float(), nullable=True),
        sa.Column("reminded_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("muted_until", _TIME, nullable=True),
        sa.Column("muted_by", sa.Text(), nullable=True),
        sa.Column("muted_reason", sa.Text(), nullable=True),
        sa.Column("delivered_at", _TIME, nullable=True),
        sa.Column("failing_since", _TIME, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("retry_at", _TIME, nullable=True),
        sa.Column("given_up", sa.Integer(), nullable=False),
        sa.Column("given_up_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_notification_targets"),
        sa.UniqueConstraint("name", name="uq_notification_targets_name"),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(64), nullable=True),
        sa.Column("resolved", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("values", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notices"),
    )
    op.create_index("ix_notices_created_at", "notices", ["created_at"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("notice_id", sa.Uuid(), nullable=False),
        sa.Column("target_id", _BIG_ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("give_up_at", _TIME, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("done_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("notice_id", "target_id", name="uq_deliveries_notice"),
        sa.ForeignKeyConstraint(
            ["notice_id"], ["notices.id"], name="fk_deliveries_notice_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["target_id"],
            ["notification_targets.id"],
            name="fk_deliveries_target_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_deliveries_target", "deliveries", ["target_id", "state", "next_at"])
    not_done = sa.text("done_at IS NULL")
    op.create_index(
        "ix_deliveries_open",
        "deliveries",
        ["state", "target_id"],
        postgresql_where=not_done,
        sqlite_where=not_done,
    )
    op.create_table(
        "open_problems",
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=True),
        sa.Column("node_name", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("reported_at", _TIME, nullable=True),
        sa.Column("over_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("event", "subject", name="pk_open_problems"),
    )
    op.create_table(
        "notification_gatherings",
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("reported", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("storm", sa.Boolean(), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("event", name="pk_notification_gatherings"),
    )
    op.create_table(
        "notification_position",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notification_position"),
    )
