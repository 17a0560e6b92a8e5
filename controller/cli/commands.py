"""The command `vxctl`: its verbs put together; each is a question to the API and its answer."""

import typer

from contract import VERSION
from controller.cli import (
    audit,
    db,
    describe,
    explain,
    get,
    requeue,
    safety,
    serve,
    status,
)
from controller.cli.output import table

app = typer.Typer(
    name="vxctl",
    help="Keep Docker Swarm nodes free of orphaned VXLAN devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for part in (serve, status, get, describe, explain, requeue, safety, audit, db):
    part.install(app)


@app.command()
def version() -> None:
    """Show the version."""
    table.line(f"vxctl {VERSION}")
