"""The verbs that show everything about one node or network: `vxctl describe node|network NAME`."""

from typing import Any

from controller.cli import events
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, NetworkArgument, NodeArgument, Output, Url
from controller.cli.output import columns, formats, phrases, table
from controller.cli.output.structured import NETWORK, NODE

_RUNS = 5
_EVENTS = 10
_EXAMINED = 200
_AUDIT_ROWS = 5


def node(name: NodeArgument, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    client = Client(url)
    found = client.get("nodes", name)
    formats.show(found, output, _node, kind=NODE, rows="")
    if output in formats.TEXT:
        runs = client.get("runs", node=found["id"], limit=_RUNS)["items"]
        table.section("Last runs", columns.NODE_RUNS, runs, empty="none yet")
        _show_history(client, {"node": found["id"]})


def network(name: NetworkArgument, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    client = Client(url)
    found = client.get("networks", name)
    formats.show(found, output, _network, kind=NETWORK, rows="")
    if output in formats.TEXT:
        _show_history(client, {"network": found["id"]})


def _show_history(client: Client, about: dict[str, str]) -> None:
    """Print the last events, and the last audit rows."""
    found, _ = events.read(client, about, limit=_EVENTS, examined=_EXAMINED)
    table.section("Last events", columns.EVENTS, found)
    rows = client.get("audit", **about, limit=_AUDIT_ROWS)["items"]
    table.section("Last audit rows", columns.AUDIT, rows[::-1])


def _node(found: dict[str, Any]) -> None:
    last = found["last_run"]
    attempts = "last attempted {attempted_generation}, last converged {converged_generation}"
    table.fields(
        [
            ("Node", found["hostname"]),
            ("Id", found["id"]),
            ("Swarm", ", ".join(found[k] for k in ("role", "state", "availability", "address"))),
            *phrases.settings(found),
            ("Generation", f"{found['generation']} ({attempts.format_map(found)})"),
            ("Worker", f"{found['worker_version'] or '-'}, last seen {phrases.seen(found)}"),
            ("Last run", phrases.last_run(found) + (f", {last['id']}" if last else "")),
            *([("Error", last["error"])] if last and last["error"] else []),
            ("Next run", _next_run(found)),
            *([("Failures", f"{found['failures']} in a row")] if found["failures"] else []),
        ]
    )
    table.section("Conditions", columns.CONDITIONS, found["conditions"], empty="not judged yet")
    table.section("Attachments", columns.NODE_NETWORKS, found["attachments"])
    table.section("Devices, as last seen", columns.DEVICES, found["seen"])


def _network(found: dict[str, Any]) -> None:
    table.fields(
        [
            ("Network", found["name"] + (" (ingress)" if found["ingress"] else "")),
            ("Id", found["id"]),
            ("VNI", ", ".join(map(str, found["vnis"])) or "-"),
            *phrases.settings(found),
        ]
    )
    table.section(f"Attachments: {found['nodes']}", columns.NETWORK_NODES, found["carriers"])
    table.section("Devices, as last seen", columns.DEVICES, found["seen"])


def _next_run(found: dict[str, Any]) -> str:
    if found["running"]:
        return f"run {found['running']} is under way"
    reasons = "; ".join(found["due_reasons"])
    return formats.ago(found["due_at"]) + (f" ({reasons})" if reasons else "")
