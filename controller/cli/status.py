"""The verbs about nodes: looking."""

from typing import Annotated, Any, Final

import typer

from controller.cli.client import Client
from controller.cli.get import Columns
from controller.cli.options import DEFAULT_URL, Form, Url, Watch
from controller.cli.output import formats, table
from controller.cli.output.formats import Output
from controller.cli.output.phrases import (
    amiss,
    devices_of,
    last_run_of,
    next_run_of,
    ready_of,
    reason_of,
    seen,
    sentences,
)
from controller.cli.output.watch import watch

_MAX_TROUBLES: Final = 20
_COLUMNS: Final[Columns] = (
    ("NODE", lambda node: formats.short(node["hostname"])),
    ("READY", ready_of),
    ("REASON", reason_of),
    ("GENERATION", lambda node: f"{node['converged_generation']}/{node['generation']}"),
    ("WORKER", seen),
    ("LAST RUN", last_run_of),
    ("DEVICES", devices_of),
    ("NEXT RUN", next_run_of),
)
_WIDE_ONLY: Final = ("GENERATION", "LAST RUN")
_NARROW: Final = tuple(each for each in _COLUMNS if each[0] not in _WIDE_ONLY)


def install(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(status)


def status(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many nodes at most.")] = 100,
    again: Watch = False,
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Show the cluster and its nodes, those first that are not as they should be."""
    client = Client(url)

    def draw(most: int) -> None:
        answer = client.get("/api/v1/status", limit=min(limit, most))
        if output is Output.JSON:
            formats.as_json(answer)
        else:
            _show_cluster(answer)
            _show_nodes(answer)

    if again:
        watch(draw)
    else:
        draw(limit)


def _show_cluster(answer: dict[str, Any]) -> None:
    cluster = answer["cluster"]
    if cluster is None:
        table.line("The Swarm has not been read yet.")
        return
    table.line(
        f"Swarm {cluster['swarm_id']}, mode {cluster['mode'] or answer['mode']}, "
        f"read {formats.ago(cluster['synced_at'])}, data path port {cluster['data_path_port']}"
    )
    counts = answer["readiness"]
    ready = sum(counts.get("True", {}).values())
    others = [
        f"{count} {reason}"
        for status in ("False", "Unknown")
        for reason, count in sorted(counts.get(status, {}).items())
    ]
    total = sum(sum(reasons.values()) for reasons in counts.values())
    table.line(f"{ready} of {total} nodes are ready" + (f": {', '.join(others)}" if others else ""))
    for sentence in sentences(amiss(cluster)):
        table.line(sentence)
    table.line("")


def _show_nodes(answer: dict[str, Any]) -> None:
    nodes = answer["nodes"]
    columns = _NARROW if table.is_narrow() else _COLUMNS
    table.table(
        [heading for heading, _ in columns],
        [[cell(node) for _, cell in columns] for node in nodes],
        empty="no nodes yet",
    )
    total = sum(sum(reasons.values()) for reasons in answer["readiness"].values())
    if total > len(nodes):
        table.line(f"and {total - len(nodes)} more: `vxctl get nodes`, or --limit")
    troubles = [
        f"{formats.short(node['hostname'])}: {sentence}"
        for node in nodes
        for sentence in sentences(amiss(node))
    ]
    if troubles:
        table.line("")
    for trouble in troubles[:_MAX_TROUBLES]:
        table.line(trouble)
    if len(troubles) > _MAX_TROUBLES:
        table.line(f"and {len(troubles) - _MAX_TROUBLES} more: `vxctl describe node NODE`")
