"""The verbs `vxctl diff` and `vxctl plan`: what differs from desired state, and what would be removed."""

from collections.abc import Mapping
from typing import Any, Final

import typer

from contract.runtime.exit_status import ExitStatus
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, ListOutput, MaybeNode, NodeArgument, Output, Url
from controller.cli.output import columns, formats, phrases, table
from controller.cli.output.structured import Kind

_LIMIT: Final = 100_000
_NODE: Final = Kind.of("node", "node_name", "node_id")
_REST: Final = "A forecast: at the time of a removal the worker reads the kernel and judges again."


def _located(row: Mapping[str, Any]) -> str:
    return f"{row['device']}#{row['ifindex']}"


_DEVICE: Final = Kind("device", _located, _located)


def diff(
    node: MaybeNode = None,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    pages = Client(url).pages("diff", _LIMIT, node=node)
    found = [row for page in pages for row in page["items"]]
    formats.show(found, output, _show_diff, kind=_NODE)
    if any(row["state"] != "same" for row in found) or not found:
        raise typer.Exit(ExitStatus.NO)


def _show_diff(found: list[dict[str, Any]]) -> None:
    rows = [row | difference for row in found for difference in row["differences"]]
    same = [row for row in found if row["state"] == "same"]
    if rows:
        table.table(columns.DIFFERENCES, rows, empty="", prose=True)
    for row in found:
        if row["state"] == "unknown":
            name = phrases.on_node(row)
            what = "; the above is what was seen last" if row["differences"] else ""
            table.line(f"{name}: unknown: {'; '.join(row['why_unknown'])}{what}")
    if not found:
        table.line("unknown: no nodes are known yet")
        return
    oldest = min((row["looked_at"] for row in same), default=None)
    looked = f", looked at {formats.ago(oldest)} or later" if oldest else ""
    table.line(f"{len(same)} of {len(found)} nodes are as desired{looked}")


def plan(node: NodeArgument, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    formats.show(
        Client(url).get("nodes", node, "plan"), output, _show_plan, kind=_DEVICE, rows="steps"
    )


def _show_plan(found: dict[str, Any]) -> None:
    due = "under way" if found["running"] else formats.ago(found["next_run_at"])
    table.fields(
        [
            ("Node", f"{found['node_name']} ({found['node_id']})"),
            ("Looked at", formats.ago(found["looked_at"]) if found["looked_at"] else "never"),
            ("Next run", due),
            ("Removals left", f"{found['removals_left']} before the node's breaker trips"),
        ]
    )
    if found["stale"]:
        table.line(
            "",
            "Unknown: no run has looked at the node lately, so this says nothing of the present.",
        )
    for hold in found["holds"]:
        table.line("", f"Held back: {_hold(hold)}")
    table.section(
        "Devices",
        columns.PLAN,
        found["steps"],
        empty="unknown" if found["stale"] else "nothing to remove",
    )
    for step in found["steps"]:
        own = [hold for hold in step["holds"] if hold not in found["holds"]]
        for hold in own:
            table.line(f"{step['device']} in {step['netns']}: {_hold(hold)}")
    table.line("", _REST, _limit(found.get("max_removals")))


def _limit(removals: int | None) -> str:
    """Return what a run removes at most; None: the worker has not said so."""
    most = "no more than its worker's MAX_REMOVALS_PER_RUN, which it has not reported"
    if removals is not None:
        most = (
            f"at most {removals} {'device' if removals == 1 else 'devices'} (MAX_REMOVALS_PER_RUN)"
        )
    return f"A run removes {most}; the next run goes on."


def _hold(hold: dict[str, Any]) -> str:
    by = f", by {hold['by']}" if hold["by"] else ""
    since = f", {formats.ago(hold['since'])}" if hold["since"] else ""
    why = f": {hold['why']}" if hold["why"] else ""
    return f"{hold['reason']} of {hold['where']}{by}{since}{why}; {hold['until']}"
