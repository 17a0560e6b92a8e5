"""What the controller decides with (breaker, modes, lease, requeues), and an audit trail that only grows.

Only adds and relaxes, so that a controller of the first release that still runs beside the new one can
go on writing: every new column is nullable or has a default.

Revision ID: 0002
Revises: 0001
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_AUDIT_COLUMNS: Final = (
    "id", "entry_id", "at", "stored_at", "stage", "actor", "node_id", "node_name", "network_id",
    "network_name", "netns", "ifindex", "name", "vni", "port", "verdict", "urgency", "reason",
    "evidence", "run_id", "worker_version",
)  # fmt: skip


def upgrade() -> None:
    """Bring the schema up."""
    _decisions()
    _audit()
    if op.get_bind().dialect.name == "postgresql":
        _append_only_on_postgresql()
    else:
        _append_only_on_sqlite()


def _paused() -> list[sa.Column[object]]:
    return [
        sa.Column("mode", sa.String(16), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
    ]


def _breaker() -> list[sa.Column[object]]:
    return [
        sa.Column("breaker_tripped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("breaker_reason", sa.Text(), nullable=True),
        sa.Column("breaker_reset_at", sa.DateTime(timezone=True), nullable=True),
    ]


def _labels() -> list[sa.Column[object]]:
    return [
        sa.Column("label_mode", sa.String(16), nullable=True),
        sa.Column("label_ignore", sa.Boolean(), server_default=sa.false(), nullable=False),
    ]


def _conditions() -> sa.Column[object]:
    return sa.Column("conditions", sa.JSON(), server_default="[]", nullable=False)


def _decisions() -> None:
    added: dict[str, list[sa.Column[object]]] = {
        "cluster": [
            sa.Column("sync_reason", sa.String(32), nullable=True),
            sa.Column("sync_seconds", sa.Float(), nullable=True),
            sa.Column("sync_share", sa.Float(), nullable=True),
            *_paused(),
            *_breaker(),
            _conditions(),
        ],
        "nodes": [
            sa.Column("desired_digest", sa.String(64), nullable=True),
            *_labels(),
            *_paused(),
            *_breaker(),
            sa.Column("last_run_id", sa.Uuid(), nullable=True),
            sa.Column("last_run_state", sa.String(16), nullable=True),
            sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
            _conditions(),
        ],
        "networks": [*_labels(), *_paused()],
        "due_nodes": [
            sa.Column("run_priority", sa.Integer(), server_default="0", nullable=False),
            sa.Column("run_reasons", sa.JSON(), server_default="[]", nullable=False),
        ],
        "runs": [sa.Column("actor", sa.Text(), server_default="controller", nullable=False)],
    }
    for table, columns in added.items():
        for column in columns:
            op.add_column(table, column)
    op.create_index("ix_runs_requested_at", "runs", ["requested_at"])
    op.create_index(
        "ix_runs_removals",
        "runs",
        ["closed_at", "node_id"],
        postgresql_where=sa.text("removed > 0"),
        sqlite_where=sa.text("removed > 0"),
    )
    op.create_table(
        "requeues",
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("node_id", sa.String(25), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_requeues_node_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_requeues")),
    )
    op.create_index("ix_requeues_node", "requeues", ["node_id", "run_id"])
    op.create_index(op.f("ix_requeues_requested_at"), "requeues", ["requested_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def _audit() -> None:
    with op.batch_alter_table("audit") as batch_op:
        for name, kind in (
            ("node_id", sa.String(25)),
            ("node_name", sa.Text()),
            ("netns", sa.String(16)),
            ("ifindex", sa.Integer()),
            ("name", sa.String(60)),
            ("vni", sa.Integer()),
            ("port", sa.Integer()),
            ("urgency", sa.String(16)),
            ("evidence", sa.Text()),
            ("run_id", sa.Uuid()),
            ("worker_version", sa.String(64)),
        ):
            batch_op.alter_column(name, existing_type=kind, nullable=True)
        batch_op.add_column(sa.Column("actor", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("verdict", sa.String(16), nullable=True))
        batch_op.add_column(sa.Column("position", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("hash", sa.LargeBinary(32), nullable=True))
        batch_op.create_unique_constraint(op.f("uq_audit_position"), ["position"])
    op.drop_index("ix_audit_node", "audit")
    op.drop_index(op.f("ix_audit_run_id"), "audit")
    op.create_index("ix_audit_run", "audit", ["run_id", "at", "id"])
    op.create_index("ix_audit_at", "audit", ["at", "id", "stage", "verdict", "urgency"])
    for name, column, carried in (
        ("node", "node_id", ["stage", "verdict", "urgency", "network_id", "vni", "name"]),
        ("network", "network_id", ["stage", "verdict", "urgency", "node_id", "vni"]),
        ("vni", "vni", ["stage", "verdict", "urgency", "node_id"]),
        ("name", "name", ["stage", "verdict", "urgency", "node_id", "vni", "ifindex"]),
        ("stage", "stage", ["verdict", "urgency", "node_id", "network_id", "vni"]),
    ):
        op.create_index(f"ix_audit_{name}", "audit", [column, "at", "id", *carried])
    for column, common, carried in (
        ("verdict", "orphan", ["stage", "urgency", "node_id", "network_id", "vni"]),
        ("actor", "controller", ["stage"]),
    ):
        op.create_index(
            f"ix_audit_{column}",
            "audit",
            [column, "at", "id", *carried],
            postgresql_where=sa.text(f"{column} <> '{common}'"),
            sqlite_where=sa.text(f"{column} <> '{common}'"),
        )
    if op.get_bind().dialect.name == "postgresql":
        # Else the newest tenth of the rows would not yet be marked as visible to all, and each look at
        # an index entry of theirs would be a look at the row.
        op.execute("ALTER TABLE audit SET (autovacuum_vacuum_insert_scale_factor = 0.01)")
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_anchors",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("archive", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_anchors")),
    )


def _append_only_on_postgresql() -> None:
    # A row without a hash is one of the first release: linking it to the chain is all that it allows.
    op.execute(
        """
        CREATE FUNCTION vxlan_operator_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit' THEN
                IF OLD.position <= (SELECT max(position) FROM audit_anchors) THEN
                    RETURN OLD;
                END IF;
            ELSIF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'audit' THEN
                IF OLD.hash IS NULL AND NEW.hash IS NOT NULL AND NEW.position IS NOT NULL
                    AND to_jsonb(NEW) - 'hash' - 'position' = to_jsonb(OLD) - 'hash' - 'position' THEN
                    RETURN NEW;
                END IF;
            ELSIF TG_OP = 'INSERT' THEN
                IF EXISTS (SELECT FROM audit WHERE position = NEW.position AND hash = NEW.hash) THEN
                    RETURN NEW;
                END IF;
            END IF;
            RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    for table in ("audit", "audit_anchors"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION vxlan_operator_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION vxlan_operator_append_only()"
        )
    # An anchor lets rows be deleted: it must be the place of one of them.
    op.execute(
        "CREATE TRIGGER audit_anchors_of_a_row BEFORE INSERT ON audit_anchors "
        "FOR EACH ROW EXECUTE FUNCTION vxlan_operator_append_only()"
    )


def _append_only_on_sqlite() -> None:
    unchanged = " AND ".join(f'NEW."{name}" IS OLD."{name}"' for name in _AUDIT_COLUMNS)
    linked = "OLD.hash IS NULL AND NEW.hash IS NOT NULL AND NEW.position IS NOT NULL"
    conditions = {
        "audit_no_update": ("UPDATE ON audit", f"NOT ({linked} AND {unchanged})"),
        "audit_no_delete": (
            "DELETE ON audit",
            (
                "OLD.position IS NULL "
                "OR OLD.position > (SELECT coalesce(max(position), 0) FROM audit_anchors)"
            ),
        ),
        "audit_anchors_of_a_row": (
            "INSERT ON audit_anchors",
            ("NOT EXISTS (SELECT 1 FROM audit WHERE position = NEW.position AND hash = NEW.hash)"),
        ),
        "audit_anchors_no_update": ("UPDATE ON audit_anchors", "TRUE"),
        "audit_anchors_no_delete": ("DELETE ON audit_anchors", "TRUE"),
    }
    for name, (what, refused) in conditions.items():
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {what} WHEN {refused} "
            "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )
