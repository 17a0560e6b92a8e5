"""The verbs `vxctl tree network|node NAME`: what hangs on what, down to devices and last runs."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, NetworkArgument, NodeArgument, Output, Url
from controller.cli.output import columns, formats, phrases, table
from controller.cli.output.structured import NODE, Kind

_MAX_NODES: Final = 100_000
_ATTACHED: Final = Kind.of("network", "network_name", "network_id")
_UTF8: Final = ("├── ", "└── ", "│   ", "    ")
_ASCII: Final = ("|-- ", "`-- ", "|   ", "    ")


class _Branch(NamedTuple):
    text: str
    branches: Sequence["_Branch"] = ()


def network(name: NetworkArgument, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    client = Client(url)
    found = client.get("networks", name)
    devices: dict[str, list[dict[str, Any]]] = {}
    for device in found["seen"]:
        devices.setdefault(device["node_id"], []).append(device)
    wanted = {carrier["node_id"]: carrier for carrier in found["carriers"]}
    nodes = []
    for page in client.pages("nodes", _MAX_NODES):
        for node in page["items"]:
            carrier = wanted.get(node["id"])
            if carrier is not None or node["id"] in devices:
                because = {"wanted": carrier is not None, "reasons": []} | (carrier or {})
                nodes.append(_summary(node) | because | {"devices": devices.get(node["id"], [])})
    tree = {key: found[key] for key in ("id", "name", "vnis", "nodes")} | {"on": nodes}
    formats.show(tree, output, _show_network, kind=NODE, rows="on")


def node(name: NodeArgument, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    client = Client(url)
    found = client.get("nodes", name)
    vnis: dict[str, list[int]] = {}
    names: dict[str, str] = {}
    for page in client.pages("networks", _MAX_NODES):
        for row in page["items"]:
            vnis[row["id"]], names[row["id"]] = row["vnis"], row["name"]
    left = list(found["seen"])
    networks = []
    for attachment in found["attachments"]:
        own = [device for device in left if device["vni"] in vnis.get(attachment["network_id"], ())]
        left = [device for device in left if device not in own]
        networks.append(attachment | {"devices": own})
    others = [device | {"network_name": names.get(device["network_id"] or "")} for device in left]
    tree = _summary(found) | {"networks": networks, "others": others}
    formats.show(tree, output, _show_node, kind=_ATTACHED, rows="networks")


def _summary(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": node["id"],
        "hostname": node["hostname"],
        "ready": phrases.ready(node),
        "reason": phrases.reason(node),
        "last_run": node["last_run"],
    }


def _show_network(found: dict[str, Any]) -> None:
    vnis = ", ".join(map(str, found["vnis"])) or "unknown"
    branches = [
        _Branch(
            _of_node(row)
            + (
                f", wanted for {', '.join(row['reasons'])}"
                if row["wanted"]
                else ", not wanted here"
            ),
            _devices(row["devices"], missing=row["wanted"] and row.get("running", False)),
        )
        for row in found["on"]
    ]
    _print(_Branch(f"network {found['name']} ({found['id']}), VNI {vnis}", branches))


def _show_node(found: dict[str, Any]) -> None:
    branches = [
        _Branch(
            f"network {row['network_name']}, wanted for {', '.join(row['reasons'])}",
            _devices(row["devices"], missing=row["running"]),
        )
        for row in found["networks"]
    ]
    if found["others"]:
        branches.append(_Branch("not wanted here", _devices(found["others"], missing=False)))
    _print(_Branch(_of_node(found) + f" ({found['id']})", branches))


def _of_node(row: dict[str, Any]) -> str:
    ready = row["ready"] if row["ready"] == "True" else f"{row['ready']}/{row['reason']}"
    return f"node {formats.short(row['hostname'])}, Ready {ready}, last run {phrases.last_run(row)}"


def _devices(devices: Sequence[dict[str, Any]], *, missing: bool) -> list[_Branch]:
    if not devices:
        return [_Branch("no device, although its tasks run here")] if missing else []
    return [
        _Branch(
            f"{formats.device(device)} in {columns.netns(device)}, VNI {device['vni']}: "
            f"{columns.verdict(device)}"
            + ("" if device["verdict"] == "in_use" else f": {phrases.device_reason(device)}")
        )
        for device in devices
    ]


def _print(root: _Branch) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    table.line(root.text)
    for indent, text in _lines(root, _UTF8 if "utf" in encoding.lower() else _ASCII):
        sys.stdout.write(indent)
        table.line(text)


def _lines(parent: _Branch, marks: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines below a branch, each with its indentation."""
    fork, last, along, blank = marks
    for number, branch in enumerate(parent.branches, 1):
        ends = number == len(parent.branches)
        yield last if ends else fork, branch.text
        for indent, text in _lines(branch, marks):
            yield (blank if ends else along) + indent, text
