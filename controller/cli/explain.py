"""The verb that says what an error line means."""

from typing import Annotated

import typer

from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Form, Url
from controller.cli.output import formats, table
from controller.cli.output.formats import Output

Line = Annotated[
    str, typer.Argument(metavar="'ERROR LINE'", help="As Docker or Swarm wrote it, in quotes.")
]


def install(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(explain)


def explain(error: Line, url: Url = DEFAULT_URL, output: Form = Output.TABLE) -> None:
    """Say what an error line means, what was done about it, and what to do."""
    answer = Client(url).get("/api/v1/explain", error=error)
    if output is Output.JSON:
        formats.as_json(answer)
        return
    table.line(answer["meaning"])
    for what in ("nodes", "networks"):
        if answer[what]:
            named = ", ".join(
                f"{formats.short(each['name'])} ({each['id']})" for each in answer[what]
            )
            table.line(f"It is about {what} {named}.")
    if answer["now"]:
        table.heading("There now, or when last looked")
        for device in answer["now"]:
            table.line(
                f"{formats.short(device['node_name'])} {device['name']}#{device['ifindex']} in "
                f"{formats.netns(device)}, VNI {device['vni']}: {device['verdict']}: {device['reason']}"
            )
    if answer["lately"]:
        table.heading("What the operator did lately")
        for row in answer["lately"]:
            table.line(
                f"{formats.clock(row['at'])} {formats.short(row['node_name'] or '?')} {row['name']}: "
                f"{row['stage']}: {row['reason']}"
            )
    table.heading("What to do")
    for sentence in answer["advice"] or ["Nothing: all is as it should be."]:
        table.line(sentence)
