"""The verbs that list: `vxctl get nodes|networks|devices|runs`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import typer

from contract.runtime.errors import OperatorError
from contract.verdicts import Verdict
from controller.cli import live
from controller.cli.client import Client
from controller.cli.options import (
    DEFAULT_URL,
    Limit,
    ListOutput,
    NetworkOption,
    NodeOption,
    Redraw,
    Url,
    Watch,
    only_these,
)
from controller.cli.output import columns, formats, structured, table
from controller.cli.output.structured import Kind
from controller.cli.output.table import Columns, Row
from controller.cli.output.watch import watch as redraw_view
from controller.conditions.model import Status
from controller.db.states import RunState


class _Listing(NamedTuple):
    """How a kind of rows is listed.

    Attributes:
        path: of the API.
        shown, more: the columns of `-o table`, and those that `-o wide` adds.
        find: returns the rows of a name.
    """

    path: str
    kind: Kind
    shown: Columns
    more: Columns
    find: Callable[[Client, str, Mapping[str, str | None]], list[Row]]


def _find_one(client: Client, path: str, name: str) -> list[Row]:
    return [client.get(path, name)]


def _find_devices(client: Client, name: str, filters: Mapping[str, str | None]) -> list[Row]:
    pages = client.pages("devices", sys.maxsize, **filters)
    rows = [
        row for page in pages for row in page["items"] if name in (row["name"], formats.device(row))
    ]
    if not rows:
        raise OperatorError(
            f"no device that the workers last reported has the name {name!r}",
            "`vxctl get devices` lists them; NAME#IFINDEX is one of them",
        )
    return rows


def _find_run(client: Client, name: str) -> list[Row]:
    run = client.get("audit", name, "timeline")["run"]
    if run is None:
        raise OperatorError(
            f"the run history no longer has the run {name!r}",
            f"`vxctl audit show {name}` shows what the audit trail has of it",
        )
    return [run]


_LISTINGS: Final = {
    "nodes": _Listing(
        "nodes",
        structured.NODE,
        columns.NODES,
        columns.NODES_WIDE,
        lambda client, name, _: _find_one(client, "nodes", name),
    ),
    "networks": _Listing(
        "networks",
        structured.NETWORK,
        columns.NETWORKS,
        columns.NETWORKS_WIDE,
        lambda client, name, _: _find_one(client, "networks", name),
    ),
    "devices": _Listing(
        "devices", structured.DEVICE, columns.DEVICES, columns.DEVICES_WIDE, _find_devices
    ),
    "runs": _Listing(
        "runs",
        structured.RUN,
        columns.RUNS,
        columns.RUNS_WIDE,
        lambda client, name, _: _find_run(client, name),
    ),
}


def nodes(
    names: Annotated[list[str] | None, only_these("node")] = None,
    ready: Annotated[
        Status | None, typer.Option(help="Only nodes with this status of the condition Ready.")
    ] = None,
    limit: Limit = 1000,
    watch: Watch = False,
    redraw: Redraw = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    _list("nodes", names, url, limit, output, watch, redraw, ready=ready)


def networks(
    names: Annotated[list[str] | None, only_these("network")] = None,
    limit: Limit = 1000,
    redraw: Redraw = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    _list("networks", names, url, limit, output, False, redraw)


def devices(
    names: Annotated[list[str] | None, only_these("device")] = None,
    node: NodeOption = None,
    network: NetworkOption = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only devices with this verdict.")] = None,
    limit: Limit = 1000,
    watch: Watch = False,
    redraw: Redraw = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    filters = {"node": node, "network": network, "verdict": verdict}
    _list("devices", names, url, limit, output, watch, redraw, **filters)


def runs(
    names: Annotated[list[str] | None, only_these("run")] = None,
    node: NodeOption = None,
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Limit = 50,
    watch: Watch = False,
    redraw: Redraw = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    _list("runs", names, url, limit, output, watch, redraw, node=node, state=state)


def _list(
    what: str,
    names: Sequence[str] | None,
    url: str,
    limit: int,
    output: str,
    watch: bool,
    redraw: bool,
    **filters: str | None,
) -> None:
    listing, client = _LISTINGS[what], Client(url)
    shown = [*listing.shown, *listing.more] if output == "wide" else listing.shown

    def show(rows: Any) -> None:
        formats.show(rows, output, as_text, kind=listing.kind)

    def as_text(rows: list[Row]) -> None:
        table.table(shown, rows, empty=f"no such {what}", fold=output != "wide")

    def draw(most: int) -> bool:
        """Print up to `most` rows; return whether there are more."""
        if names:
            found = [row for name in names for row in listing.find(client, name, filters)]
            is_one = len(found) == 1 and output in ("json", "yaml")
            show(found[0] if is_one else found)
            return False
        pages = [*client.pages(listing.path, min(most, limit), **filters)]
        show([row for page in pages for row in page["items"]])
        return pages[-1]["next"] is not None

    if watch:
        live.refuse_with(names=names, redraw=redraw)
        live.follow(client, listing.path, filters, live.Printer(shown, output, listing.kind))
    elif redraw:
        redraw_view(draw)
    elif draw(limit) and output in formats.TEXT:
        table.note(f"the first {limit}; --limit for more")
