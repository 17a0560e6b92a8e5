"""The verbs that list: `vxctl get nodes|networks|devices|runs`."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import typer

from controller.cli.client import Client
from controller.cli.options import (
    DEFAULT_URL,
    Listing,
    ListingOption,
    NetworkOption,
    NodeOption,
    Url,
    Watch,
)
from controller.cli.output import columns, formats, table
from controller.cli.output.table import Columns
from controller.cli.output.watch import watch

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")]


@dataclass(frozen=True, slots=True)
class _List:
    """A list of the API.

    Attributes:
        path: under `/api/v1`, and the name of the rows.
        columns: of `-o table`.
        wide: more of `-o wide`.
    """

    path: str
    columns: Columns
    wide: Columns


_NODES: Final = _List("nodes", columns.NODES, columns.NODES_WIDE)
_NETWORKS: Final = _List("networks", columns.NETWORKS, columns.NETWORKS_WIDE)
_DEVICES: Final = _List("devices", columns.DEVICES, columns.DEVICES_WIDE)
_RUNS: Final = _List("runs", columns.RUNS, columns.RUNS_WIDE)


def nodes(
    ready: Annotated[
        Literal["True", "False", "Unknown"] | None,
        typer.Option(help="Only nodes with this status of the condition Ready."),
    ] = None,
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListingOption = "table",
) -> None:
    """List the nodes of the Swarm."""
    _list(_NODES, url, limit, output, again, ready=ready)


def networks(
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListingOption = "table",
) -> None:
    """List the overlay networks of the Swarm."""
    _list(_NETWORKS, url, limit, output, again)


def devices(
    node: NodeOption = None,
    network: NetworkOption = None,
    verdict: Annotated[
        Literal["in_use", "settling", "orphan", "foreign", "conflict"] | None,
        typer.Option(help="Only devices with this verdict."),
    ] = None,
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListingOption = "table",
) -> None:
    """List the VXLAN devices that the workers last reported."""
    _list(_DEVICES, url, limit, output, again, node=node, network=network, verdict=verdict)


def runs(
    node: NodeOption = None,
    state: Annotated[
        Literal["running", "succeeded", "failed", "refused", "lost"] | None,
        typer.Option(help="Only runs in this state."),
    ] = None,
    limit: Limit = 50,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListingOption = "table",
) -> None:
    """List runs, the newest first."""
    _list(_RUNS, url, limit, output, again, node=node, state=state)


def _list(
    which: _List, url: str, limit: int, output: Listing, again: bool, **filters: str | None
) -> None:
    client = Client(url)

    def draw(most: int) -> int:
        rows = client.pages(f"/api/v1/{which.path}", limit=min(most, limit), **filters)
        formats.show(rows, output, as_text)
        return len(rows)

    def as_text(rows: Any) -> None:
        wide = output == "wide"
        shown = (*which.columns, *which.wide) if wide else which.columns
        table.table(shown, rows, empty=f"no such {which.path}", fold=not wide)

    if again:
        watch(draw)
    elif draw(limit) == limit and output != "json":
        sys.stderr.write(f"the first {limit}; --limit for more\n")
