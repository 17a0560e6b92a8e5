"""The verbs that show everything about one node or network: `vxctl describe node|network NAME`."""

from typing import Any

from controller.cli.client import Client, network_path, node_path
from controller.cli.options import DEFAULT_URL, NetworkArgument, NodeArgument, OutputOption, Url
from controller.cli.output import columns, formats, phrases, table

_RUNS = 5


def node(name: NodeArgument, url: Url = DEFAULT_URL, output: OutputOption = "table") -> None:
    """Show a node: its conditions, networks, devices and last runs."""
    client = Client(url)
    found = client.get(node_path(name))
    if output == "json":
        formats.as_json(found)
        return
    last = found["last_run"]
    table.fields(
        [
            ("Node", found["hostname"]),
            ("Id", found["id"]),
            ("Swarm", ", ".join(found[k] for k in ("role", "state", "availability", "address"))),
            *phrases.settings(found),
            ("Generation", _generations(found)),
            ("Worker", f"{found['worker_version'] or '-'}, last seen {phrases.seen(found)}"),
            ("Last run", phrases.last_run(found) + (f", {last['id']}" if last else "")),
            *([("Error", last["error"])] if last and last["error"] else []),
            ("Next run", _next_run(found)),
            *([("Failures", f"{found['failures']} in a row")] if found["failures"] else []),
        ]
    )
    table.section("Conditions", columns.CONDITIONS, found["conditions"], empty="not judged yet")
    table.section("Attachments", columns.NODE_NETWORKS, found["attachments"])
    _devices(found)
    runs = client.pages("/api/v1/runs", node=found["id"], limit=_RUNS)
    table.section("Last runs", columns.NODE_RUNS, runs, empty="none yet")


def network(name: NetworkArgument, url: Url = DEFAULT_URL, output: OutputOption = "table") -> None:
    """Show a network: its VNIs, the nodes it is attached to, and its devices."""
    formats.show(Client(url).get(network_path(name)), output, _network)


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
    _devices(found)


def _devices(found: dict[str, Any]) -> None:
    table.section("Devices, as last seen", columns.DEVICES, found["seen"])


def _generations(found: dict[str, Any]) -> str:
    attempted, converged = found["attempted_generation"], found["converged_generation"]
    return f"{found['generation']} (last attempted {attempted}, last converged {converged})"


def _next_run(found: dict[str, Any]) -> str:
    if found["running"]:
        return f"run {found['running']} is under way"
    reasons = "; ".join(found["due_reasons"])
    return formats.ago(found["due_at"]) + (f" ({reasons})" if reasons else "")
