"""The verbs that tell all about one thing: `vxctl describe node|network NAME`."""

from typing import Any

import typer

from controller.cli.client import Client, network_path, node_path
from controller.cli.get import took
from controller.cli.options import DEFAULT_URL, Form, NetworkArgument, NodeArgument, Url
from controller.cli.output import formats, table
from controller.cli.output.formats import Output
from controller.cli.output.phrases import last_run_of, seen

_RUNS = 5


def install(app: typer.Typer) -> None:
    """Add the verbs."""
    describe = typer.Typer(help="Tell all about one thing.", no_args_is_help=True)
    for verb in (node, network):
        describe.command()(verb)
    app.add_typer(describe, name="describe")


def node(name: NodeArgument, url: Url = DEFAULT_URL, output: Form = Output.TABLE) -> None:
    """Tell all about a node: its conditions, networks, devices and last runs."""
    client = Client(url)
    found = client.get(node_path(name))
    if output is Output.JSON:
        formats.as_json(found)
        return
    last = found["last_run"]
    table.fields(
        [
            ("Node", found["hostname"]),
            ("Id", found["id"]),
            (
                "Swarm",
                f"{found['role']}, {found['state']}, {found['availability']}, {found['address']}",
            ),
            *_said(found),
            ("Generation", _generations(found)),
            ("Worker", f"{found['worker_version'] or '-'}, last seen {seen(found)}"),
            ("Last run", last_run_of(found) + ("" if last is None else f", {last['id']}")),
            *([("Error", last["error"])] if last and last["error"] else []),
            ("Next run", _next(found)),
            *([("Failures", f"{found['failures']} in a row")] if found["failures"] else []),
        ]
    )
    table.heading("Conditions")
    table.table(
        ("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"),
        [
            (
                each["type"],
                each["status"],
                each["reason"],
                formats.ago(each["since"]),
                each["message"],
            )
            for each in found["conditions"]
        ],
        empty="not judged yet",
    )
    table.heading("Networks that it should carry")
    table.table(
        ("NETWORK", "ID", "RUNNING", "BECAUSE OF"),
        [
            (
                formats.short(each["network_name"]),
                each["network_id"],
                "yes" if each["running"] else "no",
                ", ".join(each["reasons"]),
            )
            for each in found["attachments"]
        ],
        empty="none",
    )
    _devices(found["seen"])
    table.heading("Last runs")
    runs = client.get("/api/v1/runs", node=found["id"], limit=_RUNS)
    table.table(
        ("RUN", "STATE", "REQUESTED", "TOOK", "REMOVED", "REASONS"),
        [
            (
                run["id"],
                run["state"],
                formats.ago(run["requested_at"]),
                took(run),
                str(run["removed"]),
                "; ".join(run["reasons"]),
            )
            for run in runs
        ],
        empty="none yet",
    )


def network(name: NetworkArgument, url: Url = DEFAULT_URL, output: Form = Output.TABLE) -> None:
    """Tell all about a network: its VNIs, which nodes should carry it, and its devices."""
    found = Client(url).get(network_path(name))
    if output is Output.JSON:
        formats.as_json(found)
        return
    table.fields(
        [
            ("Network", found["name"] + (" (ingress)" if found["ingress"] else "")),
            ("Id", found["id"]),
            ("VNI", ", ".join(map(str, found["vnis"])) or "-"),
            *_said(found),
        ]
    )
    table.heading(f"Nodes that should carry it: {found['nodes']}")
    table.table(
        ("NODE", "ID", "RUNNING", "BECAUSE OF"),
        [
            (
                formats.short(each["node_name"]),
                each["node_id"],
                "yes" if each["running"] else "no",
                ", ".join(each["reasons"]),
            )
            for each in found["carriers"]
        ],
        empty="none",
    )
    _devices(found["seen"])


def _said(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What people and labels said about a node or network."""
    said = []
    if row["paused_at"]:
        reason = f": {row['paused_reason']}" if row["paused_reason"] else ""
        said.append(("Paused", f"by {row['paused_by']} {formats.ago(row['paused_at'])}{reason}"))
    if row["label_ignore"]:
        said.append(("Ignored", "by its Swarm label vxlan-operator.ignore"))
    if row["label_mode"]:
        said.append(("Mode", f"{row['label_mode']}, by its Swarm label vxlan-operator.mode"))
    if row["mode"]:
        said.append(("Mode", f"{row['mode']}, by hand"))
    if row.get("breaker_tripped_at"):
        said.append(
            (
                "Breaker",
                f"tripped {formats.ago(row['breaker_tripped_at'])}: {row['breaker_reason']}",
            )
        )
    return said


def _generations(node: dict[str, Any]) -> str:
    return (
        f"{node['generation']} (last attempted {node['attempted_generation']}, "
        f"last converged {node['converged_generation']})"
    )


def _next(node: dict[str, Any]) -> str:
    if node["running"]:
        return f"run {node['running']} is under way"
    because = "; ".join(node["due_reasons"])
    return f"{formats.ago(node['due_at'])} ({because})" if because else formats.ago(node["due_at"])


def _devices(devices: list[dict[str, Any]]) -> None:
    table.heading("Devices, as last seen")
    table.table(
        ("NODE", "DEVICE", "PLACE", "VNI", "VERDICT", "REASON"),
        [
            (
                formats.short(each["node_name"]),
                f"{each['name']}#{each['ifindex']}",
                formats.netns(each),
                str(each["vni"]),
                each["verdict"] + (f"/{each['urgency']}" if each["urgency"] else ""),
                each["reason"],
            )
            for each in devices
        ],
        empty="none",
    )
