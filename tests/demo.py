"""The main job, shown on a real Swarm: `make demo`.

Boots a three-node Swarm, starts the operator on it, makes Docker leak a device, and shows it healed:
what happens, when, and how long it took. It fails when the fault is not healed, or not in time.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.lab import Lab, LabError, LabNetwork, Node, OrphanDevice, Task
from tests.lab.folder import Folder
from tests.servers import await_true
from tests.stack import Stack

NAME = "demo"
GRACE_SECONDS = 5.0
REMOVAL_SECONDS = 2.5
# Swarm's delay before it tries a rejected task again, and what the start of a container may take.
RESTART_DELAY_SECONDS = 5.0
START_SECONDS = 2.0
PLANTED_SECONDS = 2.0
REJECTED_SECONDS = 45.0
SERVICE, NETWORK, REPLICAS = "web", "shop", 2
KEPT = timedelta(hours=4)


class Timeline:
    """Prints what happens, with the time since the start and since the line before."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._begin = self._last = time.monotonic()

    def tell(self, words: str, style: str = "") -> float:
        """Print a line; return how many seconds the step took."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        self._console.print(
            f"{now - self._begin:6.2f} s  +{took:5.2f}  ", style="dim", end="", markup=False
        )
        self._console.print(words, style=style, markup=False, soft_wrap=True)
        return took

    def show(self, text: str) -> None:
        """Print the output of a command."""
        for line in text.rstrip().splitlines():
            self._console.print(f"                 {line.rstrip()}", markup=False, soft_wrap=True)


def main() -> int:
    """Run the demo; 0 when the fault was healed."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--stop", action="store_true", help="end what --keep left running")
    arguments = parser.parse_args()
    story = Timeline()
    try:
        if arguments.stop:
            return _stop(story)
        return _demo(story, keep=arguments.keep)
    except (LabError, AssertionError) as error:
        story.tell(f"the demo failed: {error}", "bold red")
        return 1


def _demo(story: Timeline, *, keep: bool) -> int:
    folder = Path(tempfile.mkdtemp(prefix="vxlan-operator-demo-"))
    story.tell("booting a Swarm of three real dockerds, each in namespaces of its own ...")
    kept = False
    try:
        with Lab.create(NAME, nodes=3, keep=keep, lifetime=KEPT if keep else None) as lab:
            try:
                story.tell(f"the Swarm is up: {_engines(lab)}", "green")
                with Stack(lab, folder, grace=GRACE_SECONDS, lasting=keep) as stack:
                    story.tell("controller, Redis and three workers run; every node was looked at")
                    healed = _heal(story, lab, stack)
                    kept = keep and healed
                    if kept:
                        _tell_how_to_look_around(story, lab, folder)
                        return 0
            finally:
                if not kept:
                    lab.destroy()
        story.tell("everything is stopped and removed")
        return 0 if healed else 1
    finally:
        if not kept:
            shutil.rmtree(folder)


def _heal(story: Timeline, lab: Lab, stack: Stack) -> bool:
    node = lab.nodes[1]
    docker = lab.manager.docker
    docker("network", "create", "--driver", "overlay", NETWORK)
    docker(
        *("service", "create", "--detach", "--no-resolve-image", "--name", SERVICE),
        *("--network", NETWORK, "--replicas", str(REPLICAS), "--stop-grace-period", "1s"),
        *("--constraint", f"node.hostname=={node.name}", "bb:1", "sleep", "100000"),
    )
    lab.wait_tasks(SERVICE, count=REPLICAS, node=node)
    story.tell(f"service {SERVICE} is healthy: {REPLICAS} tasks on {node.name}", "green")

    old = {task.id for task in lab.tasks(SERVICE)}
    left = _leak(story, lab, node)

    rejected = _await_rejection(lab, old)
    story.tell(f"Swarm rejects the tasks: {rejected.error}", "red")

    detected = _await_row(stack, node, left.name, "detected")
    story.tell(f"verdict: orphan, {detected['urgency']}: {detected['reason']}", "yellow")
    story.tell(f"evidence: {detected['evidence']}")
    applied = _await_row(stack, node, left.name, "applied")
    story.tell(f"removed by run {applied['run_id']}", "green")
    _await_row(stack, node, left.name, "verified")
    story.tell("verified: a second look shows that it is gone", "green")

    running = lab.wait_tasks(SERVICE, count=REPLICAS, node=node)
    story.tell(f"Swarm tried again: {REPLICAS} tasks of {SERVICE} run on {node.name}", "bold green")
    story.show(
        docker(
            "service", "ps", SERVICE, "--format", "table {{.Name}}\t{{.Node}}\t{{.CurrentState}}"
        )
    )
    story.tell("the audit trail (vxctl audit):")
    story.show(stack.vxctl("audit"))
    story.tell("the cluster (vxctl status):")
    story.show(stack.vxctl("status"))

    removed_after = (datetime.fromisoformat(applied["at"]) - rejected.since).total_seconds()
    healed_after = (max(task.since for task in running) - rejected.since).total_seconds()
    restart = RESTART_DELAY_SECONDS + START_SECONDS
    in_time = removed_after <= REMOVAL_SECONDS and healed_after <= restart
    story.tell(
        f"rejected to removed {removed_after:.2f} s, promised: at most {REMOVAL_SECONDS:g} s; "
        f"rejected to running {healed_after:.2f} s, promised: at most {restart:g} s "
        f"(one Swarm restart delay + {START_SECONDS:g} s)",
        "bold green" if in_time else "bold red",
    )
    stages = stack.stages(node, left.name)
    if stages != ["detected", "planned", "applied", "verified"]:
        story.tell(f"the audit trail is not what it should be: {stages}", "bold red")
        return False
    return in_time


def _engines(lab: Lab) -> str:
    version = lab.manager.docker("version", "--format", "{{.Server.Version}}").strip()
    return f"{', '.join(node.name for node in lab.nodes)}; dockerd {version}"


def _knows(node: Node, network: str) -> bool:
    """Whether the node's own dockerd has the network: it lets go of one that none of its tasks uses."""
    return network in node.docker("network", "ls", "--format", "{{.Name}}").split()


def _leak(story: Timeline, lab: Lab, node: Node) -> OrphanDevice:
    """Leave an orphan on the node, the service wanting its tasks back there."""
    network = lab.network(NETWORK)
    story.tell(
        f"scaled to 0: dockerd of {node.name} takes its device of {NETWORK} back to delete it ..."
    )
    try:
        leaked = lab.leak(node, network, SERVICE, REPLICAS)
    except LabError as error:
        story.tell(f"Docker did not leak a device: {error}", "red")
        return _plant(story, lab, node, network)
    story.tell(
        f"... and was killed just then (attempt {leaked.attempts}): "
        f"started again, it has forgotten {leaked.device.name}, VNI {leaked.device.vni}",
        "yellow",
    )
    return leaked.device


def _plant(story: Timeline, lab: Lab, node: Node, network: LabNetwork) -> OrphanDevice:
    """Make the orphan ourselves."""
    scale = ("service", "scale", "--detach")
    lab.manager.docker(*scale, f"{SERVICE}=0")
    await_true(lambda: not _knows(node, NETWORK), f"dockerd of {node.name} lets go of {NETWORK}")
    planted = lab.plant_orphan(node, network)
    # The operator is to have seen it before a task is rejected because of it.
    time.sleep(PLANTED_SECONDS)
    lab.manager.docker(*scale, f"{SERVICE}={REPLICAS}")
    story.tell(f"an orphan is planted on {node.name}: {planted.name}, VNI {planted.vni}", "yellow")
    return planted


def _await_rejection(lab: Lab, old: set[str]) -> Task:
    """The first task that was rejected."""
    found: list[Task] = []

    def rejected() -> bool:
        found[:] = [
            task for task in lab.tasks(SERVICE) if task.id not in old and task.state == "rejected"
        ]
        return bool(found)

    await_true(rejected, "Swarm rejects a task", REJECTED_SECONDS)
    return min(found, key=lambda task: task.since)


def _await_row(stack: Stack, node: Node, device: str, stage: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []

    def recorded() -> bool:
        rows[:] = [row for row in stack.audit(node, device) if row["stage"] == stage]
        return bool(rows)

    await_true(recorded, f"the audit trail says that {device} is {stage}", GRACE_SECONDS + 30.0)
    return rows[0]


def _tell_how_to_look_around(story: Timeline, lab: Lab, folder: Path) -> None:
    python = Path(sys.executable)
    story.tell(f"everything is left running, for at most {KEPT}; to look around:", "bold")
    story.show(
        f"{python} -m tests.lab docker {lab.manager.name} node ls\n"
        f"{python} -m tests.lab exec hub env VXLAN_OPERATOR_TOKEN_FILE={folder / 'api-token'} "
        f"{python.parent}/vxctl status\n"
        f"{python} -m tests.lab forward 8479\n"
        f"    ... and the dashboard is at http://127.0.0.1:8479; its token: {folder / 'api-token'}\n"
        f"{python} -m tests.lab leak {lab.nodes[2].name} {NETWORK}\n"
        f"{python} -m tests.lab --help\n"
        f"logs, database and journals: {folder}\n"
        "to stop it and remove everything: make demo-stop"
    )


def _stop(story: Timeline) -> int:
    if Folder(NAME).is_alive():
        Lab.attach(NAME).destroy()
    for folder in Path(tempfile.gettempdir()).glob("vxlan-operator-demo-*"):
        shutil.rmtree(folder)
    story.tell("the demo is stopped and removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
