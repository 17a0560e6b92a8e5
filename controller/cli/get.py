"""The verbs that list: `vxctl get nodes|networks|devices|runs`."""

import sys
from typing import Annotated, Any, Final

import typer

from contract.verdicts import Verdict
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, ListOutput, NetworkOption, NodeOption, Url, Watch
from controller.cli.output import columns, formats, table
from controller.cli.output.table import Columns
from controller.cli.output.watch import watch
from controller.conditions.model import Status
from controller.db.states import RunState

_COLUMNS: Final[dict[str, tuple[Columns, Columns]]] = {
    "nodes": (columns.NODES, columns.NODES_WIDE),
    "networks": (columns.NETWORKS, columns.NETWORKS_WIDE),
    "devices": (columns.DEVICES, columns.DEVICES_WIDE),
    "runs": (columns.RUNS, columns.RUNS_WIDE),
}
"""The columns of `-o table`, and those that `-o wide` adds."""

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")]


def nodes(
    ready: Annotated[
        Status | None, typer.Option(help="Only nodes with this status of the condition Ready.")
    ] = None,
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    """List the nodes of the Swarm."""
    _list("nodes", url, limit, output, again, ready=ready)


def networks(
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    """List the overlay networks of the Swarm."""
    _list("networks", url, limit, output, again)


def devices(
    node: NodeOption = None,
    network: NetworkOption = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only devices with this verdict.")] = None,
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    """List the VXLAN devices that the workers last reported."""
    _list("devices", url, limit, output, again, node=node, network=network, verdict=verdict)


def runs(
    node: NodeOption = None,
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Limit = 50,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    """List runs, the newest first."""
    _list("runs", url, limit, output, again, node=node, state=state)


def _list(kind: str, url: str, limit: int, output: str, again: bool, **filters: str | None) -> None:
    client = Client(url)

    def draw(most: int) -> bool:
        """Print up to `most` rows; return whether there are more."""
        pages = [*client.pages(kind, min(most, limit), **filters)]
        formats.show([row for page in pages for row in page["items"]], output, as_text)
        return pages[-1]["next"] is not None

    def as_text(rows: list[dict[str, Any]]) -> None:
        wide = output == "wide"
        shown, more = _COLUMNS[kind]
        table.table(
            [*shown, *more] if wide else shown, rows, empty=f"no such {kind}", fold=not wide
        )

    if again:
        watch(draw)
    elif draw(limit) and output != "json":
        sys.stderr.write(f"the first {limit}; --limit for more\n")
