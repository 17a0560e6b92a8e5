"""The verb `vxctl explain`: the meaning of an error line."""

from typing import Annotated, Any

import typer

from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Output, Url
from controller.cli.output import columns, formats, table


def explain(
    error: Annotated[
        str, typer.Argument(metavar="'ERROR LINE'", help="An error of Docker or Swarm, in quotes.")
    ],
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    """Explain an error of Docker or Swarm: its meaning, what was done about it, and what to do."""
    formats.show(Client(url).get("explain", error=error), output, _show)


def _show(answer: dict[str, Any]) -> None:
    table.line(answer["meaning"])
    for kind in ("nodes", "networks"):
        if answer[kind]:
            names = ", ".join(f"{formats.short(row['name'])} ({row['id']})" for row in answer[kind])
            table.line(f"It is about {kind} {names}.")
    if answer["now"]:
        table.line("", "Devices, as last seen")
        for row in answer["now"]:
            table.line(
                f"{formats.short(row['node_name'])} {formats.device(row)} in {columns.netns(row)}, "
                f"VNI {row['vni']}: {row['verdict']}: {row['reason']}"
            )
    if answer["lately"]:
        table.line("", "Recent actions of the operator")
        for row in answer["lately"]:
            table.line(
                f"{formats.clock(row['at'])} {formats.short(row['node_name'] or '?')} {row['name']}: "
                f"{row['stage']}: {row['reason']}"
            )
    table.line("", "What to do", *(answer["advice"] or ["Nothing: no problem is known."]))
