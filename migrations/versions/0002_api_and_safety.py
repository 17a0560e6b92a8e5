"""Who set a mode, what holds removals back, and audit rows by the names that they have.

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

_TIME: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what 0.1.0 did not store."""
    _hold_back()


def _hold_back() -> None:
    for table in ("cluster", "nodes", "networks"):
        op.add_column(table, sa.Column("mode_at", _TIME, nullable=True))
        op.add_column(table, sa.Column("mode_by", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("mode_reason", sa.Text(), nullable=True))
    op.add_column("nodes", sa.Column("looked_at", _TIME, nullable=True))
    op.add_column("devices", sa.Column("held_back", sa.String(16), nullable=True))
    op.add_column("devices", sa.Column("counted_holds", sa.String(128), nullable=True))
    op.create_table(
        "suppressed_totals",
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reason", name="pk_suppressed_totals"),
    )
    op.create_index("ix_audit_node_name", "audit", ["node_name", "node_id"])
    op.create_index("ix_audit_network_name", "audit", ["network_name", "network_id"])
