"""Rejected tasks, subnets and proofs: what shows that a device is dead.

Only adds: a controller of the version before goes on beside it, and tells workers of no proof.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("network_vnis", sa.Column("cidr", sa.String(64)))
    op.add_column("devices", sa.Column("proof", sa.String(16)))
    op.add_column("devices", sa.Column("netns_file", sa.String(255)))
    op.add_column("devices", sa.Column("verdict_at", sa.DateTime(timezone=True)))
    op.create_table(
        "rejections",
        sa.Column("task_id", sa.String(25), nullable=False),
        sa.Column("node_id", sa.String(25), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("network_id", sa.String(25)),
        sa.Column("vni", sa.Integer()),
        sa.Column("cidr", sa.String(64)),
        sa.Column("doubt", sa.Text()),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_rejections_node_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", name="pk_rejections"),
    )
    op.create_index("ix_rejections_node", "rejections", ["node_id", "at"])
    op.create_index("ix_rejections_seen_at", "rejections", ["seen_at"])
    op.create_index("ix_rejections_cidr", "rejections", ["cidr"])
    unsettled = sa.text("settled_at IS NULL")
    op.create_index(
        "ix_rejections_open",
        "rejections",
        ["node_id", "vni"],
        postgresql_where=unsettled,
        sqlite_where=unsettled,
    )
