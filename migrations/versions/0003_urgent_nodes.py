"""Urgent nodes are found at once, however many wait for a resync.

Only adds an index, of few rows: nothing that runs beside it notices.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    urgent = sa.text("priority >= 3")
    op.create_index(
        "ix_due_nodes_urgent",
        "due_nodes",
        ["run_id", "due_at"],
        postgresql_where=urgent,
        sqlite_where=urgent,
    )
