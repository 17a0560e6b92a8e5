"""The verbs about the audit trail."""

from typing import Annotated

import typer

from controller.cli import show
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Form, Url
from controller.cli.show import Output


def install(app: typer.Typer) -> None:
    """Add the verbs: `audit` alone lists."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(audit)
    app.add_typer(group, name="audit")


def audit(
    context: typer.Context,
    node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many rows at most.")] = 50,
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Show what was found and done, the newest first."""
    if context.invoked_subcommand is not None:
        return
    rows = Client(url).get("/api/v1/audit", node=node, limit=limit)
    if output is Output.JSON:
        show.as_json(rows)
        return
    show.table(
        ("TIME", "NODE", "STAGE", "DEVICE", "PLACE", "VNI", "NETWORK", "URGENCY", "REASON"),
        [
            (
                show.clock(row["at"]),
                row["node_name"] or "-",
                row["stage"],
                "-" if row["name"] is None else f"{row['name']}#{row['ifindex']}",
                row["place"] or "-",
                "-" if row["vni"] is None else str(row["vni"]),
                row["network_name"] or row["network_id"] or "-",
                row["urgency"] or "-",
                row["reason"],
            )
            for row in rows
        ],
        empty="nothing was found or done yet",
    )
