"""The verbs that list what there is: `vxctl get nodes|networks|devices|runs`."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer

from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, ListForm, NodeOption, Url, Watch
from controller.cli.output import formats, table
from controller.cli.output.formats import Listing
from controller.cli.output.phrases import (
    devices_of,
    mode_of,
    next_run_of,
    ready_of,
    reason_of,
    seen,
)
from controller.cli.output.watch import watch

Row = dict[str, Any]
Columns = Sequence[tuple[str, Callable[[Row], str]]]
"""Headings, and what of a row stands under each."""

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many rows at most.")]
NetworkOption = Annotated[
    str | None, typer.Option("--network", help="Only this network: id, unique id prefix or name.")
]
VerdictOption = Annotated[
    str | None,
    typer.Option("--verdict", help="Only in_use, settling, orphan, foreign or conflict."),
]
StateOption = Annotated[
    str | None,
    typer.Option("--state", help="Only running, succeeded, failed, refused or lost."),
]
ReadyOption = Annotated[
    str | None,
    typer.Option("--ready", help="Only True, False or Unknown, as condition Ready says."),
]

NODES: Final[Columns] = (
    ("NODE", lambda row: formats.short(row["hostname"])),
    ("READY", ready_of),
    ("REASON", reason_of),
    ("WORKER", seen),
    ("DEVICES", devices_of),
    ("NEXT RUN", next_run_of),
)
NODES_WIDE: Final[Columns] = (
    ("GENERATION", lambda row: f"{row['converged_generation']}/{row['generation']}"),
    ("ID", lambda row: row["id"]),
    ("STATE", lambda row: f"{row['state']}/{row['availability']}"),
    ("ROLE", lambda row: row["role"]),
    ("ADDRESS", lambda row: row["address"]),
    ("VERSION", lambda row: row["worker_version"] or "-"),
    ("MODE", mode_of),
    ("FAILURES", lambda row: str(row["failures"])),
)
NETWORKS: Final[Columns] = (
    ("NETWORK", lambda row: formats.short(row["name"])),
    ("ID", lambda row: row["id"]),
    ("VNI", lambda row: ",".join(map(str, row["vnis"])) or "-"),
    ("NODES", lambda row: str(row["nodes"])),
    ("MODE", mode_of),
)
NETWORKS_WIDE: Final[Columns] = (
    ("INGRESS", lambda row: "yes" if row["ingress"] else "no"),
    ("PAUSED BY", lambda row: row["paused_by"] or "-"),
)
DEVICES: Final[Columns] = (
    ("NODE", lambda row: formats.short(row["node_name"])),
    ("DEVICE", lambda row: f"{row['name']}#{row['ifindex']}"),
    ("PLACE", formats.netns),
    ("VNI", lambda row: str(row["vni"])),
    ("VERDICT", lambda row: row["verdict"] + (f"/{row['urgency']}" if row["urgency"] else "")),
    ("REASON", lambda row: row["reason"]),
)
DEVICES_WIDE: Final[Columns] = (
    ("PORT", lambda row: str(row["port"])),
    ("NETWORK", lambda row: row["network_id"] or "-"),
    ("PROOF", lambda row: row["proof"] or "-"),
    ("FIRST SEEN", lambda row: formats.ago(row["first_seen_at"])),
    ("JUDGED", lambda row: formats.ago(row["judged_at"])),
    ("EVIDENCE", lambda row: row["evidence"]),
)
RUNS: Final[Columns] = (
    ("RUN", lambda row: row["id"]),
    ("NODE", lambda row: formats.short(row["node_name"])),
    ("STATE", lambda row: row["state"]),
    ("REQUESTED", lambda row: formats.ago(row["requested_at"])),
    ("TOOK", lambda row: took(row)),
    ("DEVICES", lambda row: str(row["devices"])),
    ("REMOVED", lambda row: str(row["removed"])),
    ("ERROR", lambda row: row["error"] or "-"),
)
RUNS_WIDE: Final[Columns] = (
    ("GENERATION", lambda row: str(row["generation"])),
    ("ORPHANS", lambda row: str(row["orphans"])),
    ("REASONS", lambda row: "; ".join(row["reasons"]) or "-"),
)


def install(app: typer.Typer) -> None:
    """Add the verbs."""
    get = typer.Typer(help="List what there is.", no_args_is_help=True)
    for verb in (nodes, networks, devices, runs):
        get.command()(verb)
    app.add_typer(get, name="get")


def nodes(
    ready: ReadyOption = None,
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListForm = Listing.TABLE,
) -> None:
    """List the nodes of the Swarm."""
    client = Client(url)

    def fetch(most: int) -> list[Row]:
        return client.pages(
            "/api/v1/nodes", "after", lambda row: row["id"], limit=most, ready=ready
        )

    _list(fetch, NODES, NODES_WIDE, "no such nodes", limit, output, again=again)


def networks(
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListForm = Listing.TABLE,
) -> None:
    """List the overlay networks of the Swarm."""
    client = Client(url)

    def fetch(most: int) -> list[Row]:
        return client.pages("/api/v1/networks", "after", lambda row: row["id"], limit=most)

    _list(fetch, NETWORKS, NETWORKS_WIDE, "no such networks", limit, output, again=again)


def devices(
    node: NodeOption = None,
    network: NetworkOption = None,
    verdict: VerdictOption = None,
    limit: Limit = 1000,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListForm = Listing.TABLE,
) -> None:
    """List the VXLAN devices that workers saw last."""
    client = Client(url)

    def fetch(most: int) -> list[Row]:
        return client.pages(
            "/api/v1/devices",
            "after",
            lambda row: f"{row['node_id']}/{row['netns']}/{row['ifindex']}",
            limit=most,
            node=node,
            network=network,
            verdict=verdict,
        )

    _list(fetch, DEVICES, DEVICES_WIDE, "no such devices", limit, output, again=again)


def runs(
    node: NodeOption = None,
    state: StateOption = None,
    limit: Limit = 50,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListForm = Listing.TABLE,
) -> None:
    """List runs, the newest first."""
    client = Client(url)

    def fetch(most: int) -> list[Row]:
        return client.pages(
            "/api/v1/runs", "before", lambda row: row["id"], limit=most, node=node, state=state
        )

    _list(fetch, RUNS, RUNS_WIDE, "no such runs", limit, output, again=again)


def took(run: Row) -> str:
    """How long a run took on its node."""
    if run["started_at"] is None or run["finished_at"] is None:
        return "-"
    return f"{formats.seconds_between(run['started_at'], run['finished_at']):.2f}s"


def _list(
    fetch: Callable[[int], list[Row]],
    columns: Columns,
    wide: Columns,
    empty: str,
    limit: int,
    output: Listing,
    *,
    again: bool,
) -> None:
    def draw(most: int) -> None:
        _show(fetch(min(most, limit)), columns, wide, empty, output)

    if again:
        watch(draw)
        return
    rows = fetch(limit)
    _show(rows, columns, wide, empty, output)
    if len(rows) == limit and output is not Listing.JSON:
        sys.stderr.write(f"the first {limit}; --limit for more\n")


def _show(rows: list[Row], columns: Columns, wide: Columns, empty: str, output: Listing) -> None:
    if output is Listing.JSON:
        formats.as_json(rows)
        return
    if output is Listing.WIDE:
        columns = (*columns, *wide)
    table.table(
        [heading for heading, _ in columns],
        [[cell(row) for _, cell in columns] for row in rows],
        empty=empty,
        fold=output is not Listing.WIDE,
    )
