"""How long `vxctl db upgrade` takes on a filled database of 0.1.0, and the first answers afterwards."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests import old_database
from tests.controller_process import ControllerProcess, vxctl
from tests.fake_docker import FakeDocker
from tests.fake_swarm import network, snapshot
from tests.servers import PostgresServer, RedisServer

NODES, NETWORKS, RUNS, AUDIT_ROWS, TIMES = 500, 60, 10_000, 100_000, 3


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="vxlan-operator-upgrade-") as name:
        folder = Path(name)
        with PostgresServer() as postgres, RedisServer(folder) as redis:
            files = [f"sqlite:///{folder / f'{number}.db'}" for number in range(TIMES)]
            _measure("SQLite", files, folder, redis)
            _measure("PostgreSQL", [postgres.new_database() for _ in files], folder, redis)


def _measure(kind: str, urls: list[str], folder: Path, redis: RedisServer) -> None:
    taken = []
    for url in urls:
        old_database.make(url, nodes=NODES, networks=NETWORKS, runs=RUNS, audit_rows=AUDIT_ROWS)
        taken.append(_seconds(partial(_succeed, "db", "upgrade", "--database-url", url)))
    print(
        f"{kind}: vxctl db upgrade: {statistics.median(taken):.2f} / {max(taken):.2f} s "
        f"(median / worst of {TIMES}; load {os.getloadavg()[0]:.1f})"
    )
    state = snapshot(
        *(old_database.node_name(number) for number in range(NODES)),
        networks=[network(f"net{number}x", 4096 + number) for number in range(NETWORKS)],
    )
    with (
        FakeDocker(folder / f"{kind}.sock", state) as docker,
        ControllerProcess(
            folder, broker_url=redis.url, docker_url=docker.url, database_url=urls[-1]
        ) as controller,
    ):
        for words in (("status",), ("get", "nodes"), ("audit", "verify")):
            seconds = _seconds(partial(controller.vxctl, *words))
            print(f"{kind}: vxctl {' '.join(words)}, first time: {seconds:.2f} s")


def _succeed(*words: str) -> None:
    done = vxctl(*words)
    assert done.returncode == 0, done.stderr


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
