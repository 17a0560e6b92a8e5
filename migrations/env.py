"""Runs the migrations on the connection that `controller.db.schema` passes."""

from alembic import context

from controller.db.schema import METADATA

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("the controller runs the migrations at its start; see CONTRIBUTING.md")
context.configure(connection=connection, target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
