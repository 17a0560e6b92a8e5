"""The lab's nodes as one Swarm: forming it, and asking its manager about tasks and networks."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import image
from .api import Api
from .errors import LabError
from .node import Node
from .spec import IMAGE
from .wait import wait_until

_SWARM_PORT = 2377
_READY_TIMEOUT = 90.0
# The first task after a dockerd was killed and started again may stay in `preparing` for 30 s: the
# dockerd asks one of its peers for what it knows about the network, and waits that long for the
# answer if the one it picks is its own former self. That cannot happen in a lab of one node.
TASK_TIMEOUT = 120.0
_VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list"


@dataclass(frozen=True)
class LabNetwork:
    id: str
    name: str
    vnis: list[int]
    """One for each subnet, in the same order."""
    subnets: list[str]


@dataclass(frozen=True)
class Task:
    id: str
    slot: int | None
    node_id: str
    state: str
    since: datetime
    """When it came into that state."""
    desired_state: str
    error: str


def form(nodes: Sequence[Node], data_path_port: int) -> None:
    """Make one Swarm of freshly started nodes, all at once; the first is the manager."""
    archive = image.build(IMAGE)

    def prepare(node: Node) -> None:
        node.await_dockerd()
        node.api.load_image(archive)

    manager, *workers = nodes
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        list(pool.map(prepare, nodes))
        manager.api.post("/swarm/init", {**_member(manager), "DataPathPort": data_path_port})
        token = manager.api.get("/swarm")["JoinTokens"]["Worker"]
        join = {"RemoteAddrs": [f"{manager.address}:{_SWARM_PORT}"], "JoinToken": token}
        list(
            pool.map(lambda node: node.api.post("/swarm/join", {**_member(node), **join}), workers)
        )
    await_ready(manager.api, len(nodes))
    for node in nodes:
        # Asked for now, so that it is known when the node's dockerd is down.
        _ = node.swarm_id


def await_ready(manager: Api, count: int, timeout: float = _READY_TIMEOUT) -> None:
    def states() -> dict[str, str]:
        return {
            node["Description"].get("Hostname", node["ID"]): node["Status"]["State"]
            for node in manager.get("/nodes")
        }

    wait_until(
        lambda: list(states().values()).count("ready") >= count,
        timeout,
        f"{count} nodes of the Swarm to be ready",
        state=states,
    )


def network(manager: Api, name_or_id: str, timeout: float = _READY_TIMEOUT) -> LabNetwork:
    """An overlay network, by name or id, once the Swarm has given it its VNIs."""
    return wait_until(
        lambda: _allocated(manager, name_or_id),
        timeout,
        f"the Swarm to give the network {name_or_id!r} a VNI (only overlay networks get one)",
    )


def tasks(manager: Api, service: str) -> list[Task]:
    """All tasks of a service that the Swarm remembers, ended ones too."""
    listed = manager.get("/tasks", {"filters": json.dumps({"service": [service]})})
    return [_task(entry) for entry in listed]


def await_tasks(
    manager: Api,
    service: str,
    state: str = "running",
    count: int = 1,
    node: Node | None = None,
    timeout: float = TASK_TIMEOUT,
) -> list[Task]:
    """Wait until at least `count` tasks of the service are in `state` (on `node`); return those."""
    on = None if node is None else node.swarm_id

    def matching() -> list[Task] | None:
        found = [
            task
            for task in tasks(manager, service)
            if task.state == state and on in (None, task.node_id)
        ]
        return found if len(found) >= count else None

    return wait_until(
        matching,
        timeout,
        f"{count} task(s) of {service} to be {state}"
        + ("" if node is None else f" on {node.name}"),
        state=lambda: "; ".join(_describe(task) for task in tasks(manager, service)) or "no task",
    )


def _member(node: Node) -> dict[str, Any]:
    return {
        "ListenAddr": f"{node.address}:{_SWARM_PORT}",
        "AdvertiseAddr": node.address,
        "DataPathAddr": node.address,
    }


def _allocated(manager: Api, name_or_id: str) -> LabNetwork | None:
    # The list gives the Swarm's record; a look-up by id would give this node's own one first.
    for entry in manager.get("/networks"):
        if entry["Scope"] == "swarm" and (
            entry["Name"] == name_or_id or entry["Id"].startswith(name_or_id)
        ):
            vnis = (entry.get("Options") or {}).get(_VNI_OPTION, "")
            if not vnis:
                return None
            return LabNetwork(
                id=entry["Id"],
                name=entry["Name"],
                vnis=[int(vni) for vni in vnis.split(",")],
                subnets=[config["Subnet"] for config in entry["IPAM"]["Config"] or []],
            )
    raise LabError(f"the Swarm has no network {name_or_id!r}")


def _task(entry: dict[str, Any]) -> Task:
    return Task(
        id=entry["ID"],
        slot=entry.get("Slot"),
        node_id=entry.get("NodeID", ""),
        state=entry["Status"]["State"],
        since=datetime.fromisoformat(entry["Status"]["Timestamp"]),
        desired_state=entry["DesiredState"],
        error=entry["Status"].get("Err", ""),
    )


def _describe(task: Task) -> str:
    return f"{task.id[:12]} is {task.state}, desired {task.desired_state} {task.error}".rstrip()
