"""Runs the migrations on the connection that `controller.db.engine` hands over."""

from alembic import context

from controller.db.models import Base

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations are run by the controller at its start; see CONTRIBUTING.md")
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
