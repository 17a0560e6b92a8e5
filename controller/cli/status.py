"""The verb `vxctl status`: whether all is well, what is not, the cluster and its nodes."""

from typing import Annotated, Any, Final

import typer

from contract.runtime.exit_status import ExitStatus
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Output, Redraw, Url
from controller.cli.output import colours, columns, formats, phrases, table
from controller.cli.output.structured import NODE
from controller.cli.output.watch import watch
from controller.conditions import summary

_MAX_PROBLEMS: Final = 20
_WIDE_ONLY: Final = ("GENERATION", "LAST RUN", "MODE")


def status(
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="Maximum number of nodes.")
    ] = 100,
    redraw: Redraw = False,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    client = Client(url)

    def draw(most: int) -> dict[str, Any]:
        answer: dict[str, Any] = client.get("status", limit=min(limit, most))
        formats.show(answer, output, lambda shown: _show(shown, output), kind=NODE, rows="nodes")
        return answer

    if redraw:
        watch(draw)
    elif any(summary.wrong(draw(limit))):
        raise typer.Exit(ExitStatus.NO)


def _show(answer: dict[str, Any], output: str) -> None:
    nodes, readiness = answer["nodes"], answer["readiness"]
    total = sum(sum(reasons.values()) for reasons in readiness.values())
    found = [*summary.wrong(answer)]
    if found:
        table.painted_line(colours.bad("Not well:"), f" {'; '.join(found)}.")
    else:
        ready = sum(readiness.get("True", {}).values())
        table.painted_line(
            colours.good("All is well"), f"{_as_seen(answer)}: {ready} of {total} nodes are ready."
        )
    _show_problems(answer)
    _show_cluster(answer)
    every = output == "wide" or not table.is_narrow()
    shown = [column for column in columns.STATUS if every or column[0] not in _WIDE_ONLY]
    table.table(shown, nodes, empty="no nodes yet", fold=output != "wide")
    if total > len(nodes):
        table.line(f"and {total - len(nodes)} more: `vxctl get nodes`, or --limit")


def _as_seen(answer: dict[str, Any]) -> str:
    """Return the age of the oldest look on which the verdict rests: a death since then does not show."""
    cluster = answer["cluster"]
    looks = (
        answer.get("oldest_look_at"),
        answer["conditions_at"],
        cluster and cluster["synced_at"],
    )
    oldest = max((formats.seconds_ago(look) for look in looks if look), default=None)
    return "" if oldest is None else f", as seen up to {formats.age_of(max(oldest, 0))} ago"


def _show_problems(answer: dict[str, Any]) -> None:
    problems = [
        *phrases.sentences(summary.of_cluster(answer)),
        *(
            f"{phrases.node_name(node)}: {sentence}"
            for node in answer["nodes"]
            for sentence in phrases.sentences(phrases.abnormal(node))
        ),
    ]
    table.line(*problems[:_MAX_PROBLEMS])
    if len(problems) > _MAX_PROBLEMS:
        table.line(f"and {len(problems) - _MAX_PROBLEMS} more: `vxctl get nodes -o wide`")


def _show_cluster(answer: dict[str, Any]) -> None:
    cluster = answer["cluster"]
    table.line("")
    if cluster is None:
        return
    known = next(
        (row["status"] for row in cluster["conditions"] if row["type"] == "DesiredStateKnown"), None
    )
    stale = "" if known in (None, "True") else " (stale)"
    by = f" by {cluster['sync_manager']}" if cluster.get("sync_manager") else ""
    if cluster.get("managers_away"):
        table.line(f"Of the other managers: {cluster['managers_away']}")
    table.line(
        f"Swarm {cluster['swarm_id']}, {_mode(answer)}, "
        f"read {formats.ago(cluster['synced_at'])}{by}{stale}, data path port {cluster['data_path_port']}"
    )


def _mode(answer: dict[str, Any]) -> str:
    """Return the effective mode; what is paused, or stricter than the settings, says why."""
    mode = "paused" if answer["paused"] else f"mode {answer['effective_mode']}"
    restricted = answer["paused"] or answer["effective_mode"] == "observe"
    return f"{mode} ({'; '.join(answer['mode_reasons'])})" if restricted else mode
