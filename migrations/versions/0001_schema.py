"""The schema: the Swarm, when nodes are due and their runs, and an audit trail that only grows.

Revision ID: 0001
Revises:
"""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SWARM_ID: Final = sa.String(25)
_TIME: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create everything."""
    _create_swarm()
    _create_runs()
    _create_audit()
    if op.get_bind().dialect.name == "postgresql":
        _keep_append_only_on_postgresql()
    else:
        _keep_append_only_on_sqlite()


def _where(condition: str) -> dict[str, Any]:
    """Restrict an index to the rows that meet this condition."""
    return {f"{database}_where": sa.text(condition) for database in ("postgresql", "sqlite")}


def _create_swarm() -> None:
    op.create_table(
        "cluster",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("swarm_id", _SWARM_ID, nullable=False),
        sa.Column("data_path_port", sa.Integer(), nullable=False),
        sa.Column("synced_at", _TIME, nullable=False),
        sa.Column("sync_error", sa.Text(), nullable=True),
        sa.Column("sync_error_at", _TIME, nullable=True),
        sa.Column("sync_reason", sa.String(32), nullable=True),
        sa.Column("sync_seconds", sa.Float(), nullable=True),
        sa.Column("sync_share", sa.Float(), nullable=True),
        sa.Column("mode", sa.String(16), nullable=True),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("breaker_tripped_at", _TIME, nullable=True),
        sa.Column("breaker_reason", sa.Text(), nullable=True),
        sa.Column("breaker_reset_at", _TIME, nullable=True),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cluster"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", _SWARM_ID, nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("availability", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("gone_at", _TIME, nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempted_generation", sa.Integer(), nullable=False),
        sa.Column("converged_generation", sa.Integer(), nullable=False),
        sa.Column("worker_version", sa.String(64), nullable=True),
        sa.Column("worker_seen_at", _TIME, nullable=True),
        sa.Column("journal_id", sa.Uuid(), nullable=True),
        sa.Column("journal_through", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("limitations", sa.JSON(), nullable=False),
        sa.Column("missing", sa.JSON(), nullable=False),
        sa.Column("desired_digest", sa.String(64), nullable=True),
        sa.Column("label_mode", sa.String(16), nullable=True),
        sa.Column("label_ignore", sa.Boolean(), nullable=False),
        sa.Column("mode", sa.String(16), nullable=True),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("breaker_tripped_at", _TIME, nullable=True),
        sa.Column("breaker_reason", sa.Text(), nullable=True),
        sa.Column("breaker_reset_at", _TIME, nullable=True),
        sa.Column("last_run_id", sa.Uuid(), nullable=True),
        sa.Column("last_run_state", sa.String(16), nullable=True),
        sa.Column("last_run_at", _TIME, nullable=True),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )
    op.create_index("ix_nodes_hostname", "nodes", ["hostname"])
    op.create_table(
        "networks",
        sa.Column("id", _SWARM_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ingress", sa.Boolean(), nullable=False),
        sa.Column("gone_at", _TIME, nullable=True),
        sa.Column("label_mode", sa.String(16), nullable=True),
        sa.Column("label_ignore", sa.Boolean(), nullable=False),
        sa.Column("mode", sa.String(16), nullable=True),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_networks"),
    )
    op.create_index("ix_networks_name", "networks", ["name"])
    op.create_table(
        "network_vnis",
        sa.Column("network_id", _SWARM_ID, nullable=False),
        sa.Column("vni", sa.Integer(), nullable=False),
        sa.Column("cidr", sa.String(64), nullable=True),
        sa.ForeignKeyConstraint(
            ["network_id"], ["networks.id"], name="fk_network_vnis_network_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("network_id", "vni", name="pk_network_vnis"),
    )
    op.create_index("ix_network_vnis_vni", "network_vnis", ["vni"])
    op.create_table(
        "attachments",
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("network_id", _SWARM_ID, nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["network_id"], ["networks.id"], name="fk_attachments_network_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_attachments_node_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "network_id", name="pk_attachments"),
    )
    op.create_index("ix_attachments_network_id", "attachments", ["network_id"])
    op.create_table(
        "rejections",
        sa.Column("task_id", _SWARM_ID, nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("network_id", _SWARM_ID, nullable=True),
        sa.Column("vni", sa.Integer(), nullable=True),
        sa.Column("cidr", sa.String(64), nullable=True),
        sa.Column("doubt", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("settled_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_rejections_node_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", name="pk_rejections"),
    )
    op.create_index("ix_rejections_cidr", "rejections", ["cidr"])
    op.create_index("ix_rejections_node", "rejections", ["node_id", "at"])
    op.create_index(
        "ix_rejections_open", "rejections", ["node_id", "vni"], **_where("settled_at IS NULL")
    )
    op.create_index("ix_rejections_seen_at", "rejections", ["seen_at"])


def _create_runs() -> None:
    op.create_table(
        "due_nodes",
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("due_at", _TIME, nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("run_deadline", _TIME, nullable=True),
        sa.Column("run_priority", sa.Integer(), nullable=False),
        sa.Column("run_reasons", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_due_nodes_node_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", name="pk_due_nodes"),
    )
    op.create_index("ix_due_nodes_claim", "due_nodes", ["run_id", "due_at"])
    op.create_index(
        "ix_due_nodes_urgent", "due_nodes", ["run_id", "due_at"], **_where("priority >= 3")
    )
    op.create_table(
        "requeues",
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_requeues_node_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token", name="pk_requeues"),
    )
    op.create_index("ix_requeues_node", "requeues", ["node_id", "run_id"])
    op.create_index("ix_requeues_requested_at", "requeues", ["requested_at"])
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("deadline", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.Column("closed_at", _TIME, nullable=True),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("orphans", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_runs_node_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_node", "runs", ["node_id", "requested_at"])
    op.create_index("ix_runs_removals", "runs", ["closed_at", "node_id"], **_where("removed > 0"))
    op.create_index("ix_runs_requested_at", "runs", ["requested_at"])
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_table(
        "devices",
        sa.Column("node_id", _SWARM_ID, nullable=False),
        sa.Column("netns", sa.String(16), nullable=False),
        sa.Column("ifindex", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("vni", sa.Integer(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("urgency", sa.String(16), nullable=True),
        sa.Column("network_id", _SWARM_ID, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("proof", sa.String(16), nullable=True),
        sa.Column("netns_file", sa.String(255), nullable=True),
        sa.Column("first_seen_at", _TIME, nullable=False),
        sa.Column("judged_at", _TIME, nullable=False),
        sa.Column("verdict_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_devices_node_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "netns", "ifindex", name="pk_devices"),
    )
    op.create_index("ix_devices_vni", "devices", ["vni"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("stored_at", _TIME, nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("node_id", _SWARM_ID, nullable=True),
        sa.Column("node_name", sa.Text(), nullable=True),
        sa.Column("network_id", _SWARM_ID, nullable=True),
        sa.Column("network_name", sa.Text(), nullable=True),
        sa.Column("netns", sa.String(16), nullable=True),
        sa.Column("ifindex", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(60), nullable=True),
        sa.Column("vni", sa.Integer(), nullable=True),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.String(16), nullable=True),
        sa.Column("urgency", sa.String(16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("worker_version", sa.String(64), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.UniqueConstraint("entry_id", name="uq_audit_entry_id"),
        sa.UniqueConstraint("position", name="uq_audit_position"),
    )
    op.create_index(
        "ix_audit_actor", "audit", ["actor", "at", "id", "stage"], **_where("actor <> 'controller'")
    )
    op.create_index("ix_audit_at", "audit", ["at", "id", "stage", "verdict", "urgency"])
    op.create_index(
        "ix_audit_name",
        "audit",
        ["name", "at", "id", "stage", "verdict", "urgency", "node_id", "vni", "ifindex"],
    )
    op.create_index(
        "ix_audit_network",
        "audit",
        ["network_id", "at", "id", "stage", "verdict", "urgency", "node_id", "vni"],
    )
    op.create_index(
        "ix_audit_node",
        "audit",
        ["node_id", "at", "id", "stage", "verdict", "urgency", "network_id", "vni", "name"],
    )
    op.create_index("ix_audit_run", "audit", ["run_id", "at", "id"])
    op.create_index(
        "ix_audit_stage",
        "audit",
        ["stage", "at", "id", "verdict", "urgency", "node_id", "network_id", "vni"],
    )
    op.create_index(
        "ix_audit_verdict",
        "audit",
        ["verdict", "at", "id", "stage", "urgency", "node_id", "network_id", "vni"],
        **_where("verdict <> 'orphan'"),
    )
    op.create_index(
        "ix_audit_vni", "audit", ["vni", "at", "id", "stage", "verdict", "urgency", "node_id"]
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("stored_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    op.create_table(
        "audit_anchors",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("archive", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_audit_anchors"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Else the newest tenth of the rows would not yet be marked as visible to all, and each look at
        # an index entry of theirs would be a look at the row.
        op.execute("ALTER TABLE audit SET (autovacuum_vacuum_insert_scale_factor = 0.01)")


def _keep_append_only_on_postgresql() -> None:
    # Rows up to the last anchor may be deleted. An anchor must have position and hash of a row.
    op.execute(
        """
        CREATE FUNCTION vxlan_operator_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit' THEN
                IF OLD.position <= (SELECT max(position) FROM audit_anchors) THEN
                    RETURN OLD;
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
    op.execute(
        "CREATE TRIGGER audit_anchors_of_a_row BEFORE INSERT ON audit_anchors "
        "FOR EACH ROW EXECUTE FUNCTION vxlan_operator_append_only()"
    )


def _keep_append_only_on_sqlite() -> None:
    # The same rules.
    refused = {
        "audit_no_update": "UPDATE ON audit",
        "audit_no_delete": "DELETE ON audit WHEN OLD.position > "
        "(SELECT coalesce(max(position), 0) FROM audit_anchors)",
        "audit_anchors_no_update": "UPDATE ON audit_anchors",
        "audit_anchors_no_delete": "DELETE ON audit_anchors",
        "audit_anchors_of_a_row": "INSERT ON audit_anchors WHEN NOT EXISTS "
        "(SELECT 1 FROM audit WHERE position = NEW.position AND hash = NEW.hash)",
    }
    for name, statement in refused.items():
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {statement} "
            "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )
