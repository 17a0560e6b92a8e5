"""The verb `vxctl status`: the cluster and its nodes."""

from typing import Annotated, Any, Final

import typer

from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Output, Redraw, Url
from controller.cli.output import columns, formats, phrases, table
from controller.cli.output.structured import NODE
from controller.cli.output.watch import watch

_MAX_PROBLEMS: Final = 20
_WIDE_ONLY: Final = ("GENERATION", "LAST RUN")


def status(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of nodes.")] = 100,
    redraw: Redraw = False,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    """Show whether all is well, what is wrong, and the nodes, worst first."""
    client = Client(url)

    def draw(most: int) -> None:
        formats.show(
            client.get("status", limit=min(limit, most)), output, _show, kind=NODE, rows="nodes"
        )

    if redraw:
        watch(draw)
    else:
        draw(limit)


def _show(answer: dict[str, Any]) -> None:
    nodes, readiness = answer["nodes"], answer["readiness"]
    total = sum(sum(reasons.values()) for reasons in readiness.values())
    _show_cluster(answer, total)
    narrow = table.is_narrow()
    shown = [column for column in columns.STATUS if not narrow or column[0] not in _WIDE_ONLY]
    table.table(shown, nodes, empty="no nodes yet")
    if total > len(nodes):
        table.line(f"and {total - len(nodes)} more: `vxctl get nodes`, or --limit")
    problems = [
        f"{phrases.node_name(node)}: {sentence}"
        for node in nodes
        for sentence in phrases.sentences(phrases.abnormal(node))
    ]
    if problems:
        table.line("", *problems[:_MAX_PROBLEMS])
    if len(problems) > _MAX_PROBLEMS:
        table.line(f"and {len(problems) - _MAX_PROBLEMS} more: `vxctl get nodes -o wide`")


def _show_cluster(answer: dict[str, Any], total: int) -> None:
    cluster, readiness = answer["cluster"], answer["readiness"]
    if cluster is None:
        table.line(
            "The Swarm has not been read yet.",
            *phrases.sentences(phrases.abnormal({"conditions": answer.get("conditions", [])})),
        )
        return
    table.line(
        f"Swarm {cluster['swarm_id']}, {_mode(answer)}, "
        f"read {formats.ago(cluster['synced_at'])}, data path port {cluster['data_path_port']}"
    )
    others = ", ".join(
        f"{count} {reason}"
        for status in ("False", "Unknown")
        for reason, count in sorted(readiness.get(status, {}).items())
    )
    well = readiness.get("True", {})
    # A node that is ready and not converged has something left: orphans, or what looks dead.
    left = ", ".join(f"{n} {why}" for why, n in sorted(well.items()) if why != "Converged")
    table.line(
        f"{sum(well.values())} of {total} nodes are ready"
        + (f" (something left: {left})" if left else "")
        + (f": {others}" if others else "")
    )
    table.line(*phrases.sentences(phrases.abnormal(cluster)), "")


def _mode(answer: dict[str, Any]) -> str:
    """Return the effective mode; what is paused, or stricter than the settings, says why."""
    mode = "paused" if answer["paused"] else f"mode {answer['effective_mode']}"
    restricted = answer["paused"] or answer["effective_mode"] == "observe"
    return f"{mode} ({'; '.join(answer['mode_reasons'])})" if restricted else mode
