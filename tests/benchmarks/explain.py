"""What explaining a log of 1,000 lines costs: the reading alone, over HTTP, by `vxctl`; 500 nodes."""

import os
import subprocess
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import uvicorn
from sqlalchemy import insert

from contract import VERSION
from contract.verdicts import Mode, Verdict
from controller.api import IDENTITY_HEADER
from controller.api.app import build
from controller.api.context import Context
from controller.db.engine import Database, open_database
from controller.db.models import Device, Rejection
from controller.explain.reading import read
from controller.swarm.model import SwarmNetwork
from tests.benchmarks.measure import spread
from tests.controller_process import VXCTL, free_port
from tests.fake_swarm import network, snapshot, swarm_id, task
from tests.stored import put
from tests.tokens import ENVIRONMENT, HEADERS, give_token

LINES, NODES, NETWORKS = 1_000, 500, 60
_KINDS = """\
20 D error msg="fatal task error" error="network sandbox join failed: subnet sandbox join failed for \\"10.0.{net}.0/24\\": error creating vxlan interface: file exists" T
3 D warning msg="could not delete vxlan interface vx-00{vni:04x}-net{net}"
3 D error msg="fatal task error" error="network net{net} not found" T
2 net{net}.{second}  web:1  node{node:04}  Shutdown  Rejected 5 minutes ago  "network sandbox join failed: s..."
25 D info msg="ignoring event" container={task} module=libcontainerd namespace=moby topic=/tasks/delete
12 D warning msg="rmServiceBinding {task} possible transient state ok:false entries:0 set:false"
15 D info msg="NetworkDB stats node{node:04}({id}) - netID:net{net} netPeers:{second} entries:{pid} qLen:0"
5 D warning msg="memberlist: Failed fully to dial 10.1.{second}.{minute}:7946: timeout"
10 S kernel: br0: port {second}(veth{pid}) entered forwarding state
5 S systemd[1]: docker-{task}.scope: Deactivated successfully.
"""  # noqa: E501
"""Weight and text: the fault, its relatives, a row of `docker service ps`, and what a busy node writes."""
_SHORT = {
    "S": "Nov 26 10:{minute:02}:{second:02} node{node:04}",
    "D": 'S dockerd[{pid}]: time="2026-11-26T10:{minute:02}:{second:02}.{pid:09}Z" level=',
    "T": "module=node/agent/taskmanager node.id={id} task.id={task}",
}


def log(lines: int = LINES) -> str:
    """A journal as many nodes write it: a fifth is the fault, each line of any node and network."""
    random = Random(12)  # noqa: S311
    text = _KINDS.replace(" T\n", f" {_SHORT['T']}\n").replace(" D ", f" {_SHORT['D']}")
    rows = [row.split(" ", 1) for row in text.replace(" S ", f" {_SHORT['S']} ").splitlines()]
    kinds, weights = [kind for _, kind in rows], [int(weight) for weight, _ in rows]
    return "\n".join(
        kind.format(
            minute=number * 60 // lines,
            second=number % 60,
            node=(node := random.randrange(NODES)),
            id=swarm_id(f"node{node:04}"),
            net=(net := random.randrange(NETWORKS)),
            vni=4096 + net,
            pid=random.randrange(1_000, 100_000),
            task=f"{random.getrandbits(120):025x}"[:25],
        )
        for number, kind in enumerate(random.choices(kinds, weights, k=lines))
    )


def main() -> None:
    """Measure, and print."""
    text = log()
    now = datetime.now(UTC)
    print(f"{LINES} lines, {len(text) / 1000:.0f} kB; {NODES} nodes, {NETWORKS} networks")
    print(f"reading: {spread(lambda: read(text, now), 5)}")
    hostile = ("error creating vxlan interface: file exists " + "a." * 2_000 + "\n") * 250
    print(f"reading a hostile MB: {spread(lambda: read(hostile[: 2**20], now), 3)}")
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'controller.db'}")
        try:
            _fill(database)
            give_token(database)
            _over_http(database, text)
        finally:
            database.close()


def _fill(database: Database) -> None:
    """Each node runs tasks of ten networks, has rejected ten and has an orphan."""
    nodes = [f"node{number:04}" for number in range(NODES)]
    networks = [network(f"net{number}", 4096 + number) for number in range(NETWORKS)]
    on = [(name, networks[(number * 7 + step) % NETWORKS]) for number, name in enumerate(nodes)
          for step in range(10)]  # fmt: skip
    tasks = [task(f"{at}{net.name}", at, net.name) for at, net in on]
    put(database, snapshot(*nodes, networks=networks, tasks=tasks), datetime.now(UTC))
    with database.write() as session:
        session.execute(insert(Rejection), [_rejection(at, net) for at, net in on])
        session.execute(insert(Device), [_orphan(at, net) for at, net in on[::10]])


def _rejection(on: str, net: SwarmNetwork) -> dict[str, object]:
    (subnet,) = net.subnets
    return {
        "task_id": swarm_id(f"r{on}{net.name}"),
        "node_id": swarm_id(on),
        "at": datetime.now(UTC),
        "seen_at": datetime.now(UTC),
        "network_id": net.id,
        "vni": subnet.vni,
        "cidr": subnet.cidr,
        "error": "error creating vxlan interface: file exists",
    }


def _orphan(on: str, net: SwarmNetwork) -> dict[str, object]:
    vni = net.subnets[0].vni
    now = datetime.now(UTC)
    return {
        "node_id": swarm_id(on), "netns": "host", "ifindex": 7, "name": f"vx-{vni:06x}-{net.id[:5]}",
        "vni": vni, "port": 4789, "verdict": Verdict.ORPHAN, "network_id": net.id, "reason": "no sandbox",
        "evidence": "DOWN", "first_seen_at": now, "judged_at": now, "verdict_at": now,
    }  # fmt: skip


def _over_http(database: Database, text: str) -> None:
    port = free_port()
    app = build(Context(database, mode=Mode.ENFORCE, notify=lambda *_: None))
    headers = [(IDENTITY_HEADER, VERSION)]
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, headers=headers, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port}"
    try:
        body = {"text": text}

        def post() -> None:
            httpx.post(
                f"{url}/api/v1/explain", json=body, headers=HEADERS, timeout=30
            ).raise_for_status()

        def vxctl() -> None:
            environment = os.environ | ENVIRONMENT | {"VXLAN_OPERATOR_URL": url}
            command = [VXCTL, "explain"]
            subprocess.run(
                command, input=text.encode(), env=environment, check=True, capture_output=True
            )

        print(f"POST /api/v1/explain: {spread(post, 5)}")
        print(f"vxctl explain, start of Python included: {spread(vxctl, 5)}")
    finally:
        server.should_exit = True
        thread.join(30)


if __name__ == "__main__":
    main()
