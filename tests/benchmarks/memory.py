"""The memory of `vxctl controller` at 5,000 nodes: from its start through readings, runs and lost runs.

100,000 tasks come from a made-up Docker API. The workers of all nodes are one process, or there are none:
then every run is lost and tried again.
"""

import re
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from tests.benchmarks.peers import answer_requests, process
from tests.big_swarm import BigDocker, BigSwarm
from tests.controller_process import OwnProcess
from tests.servers import PostgresServer, RedisServer, await_true

NODES: Final = 5_000
SECONDS: Final = 180
"""By then each node was resynced twice, and everything read again."""
_LOOK_SECONDS: Final = 10


def main() -> None:
    """Measure, and print."""
    swarm = BigSwarm(NODES, networks=2_000, tasks=20, attached=1)
    with PostgresServer() as server:
        for kind, url, workers in (
            ("SQLite", None, True),
            ("SQLite", None, False),
            ("PostgreSQL", server.new_database(), True),
            ("PostgreSQL", server.new_database(), False),
        ):
            with tempfile.TemporaryDirectory(prefix="vxlan-operator-memory-") as folder:
                print(f"{kind}, {'workers that answer at once' if workers else 'no workers'}:")
                _measure(Path(folder), swarm, url, workers=workers)


def _measure(folder: Path, swarm: BigSwarm, url: str | None, *, workers: bool) -> None:
    (folder / "controller").mkdir()
    (folder / "redis").mkdir()
    with RedisServer(folder / "redis") as redis, BigDocker(folder / "docker.sock", swarm) as docker:
        socket = redis.url.partition("//")[2]
        with process(answer_requests, redis.url, socket, "node.n*") if workers else nullcontext():
            controller = OwnProcess(
                folder / "controller", broker_url=redis.url, docker_url=docker.url, database_url=url
            )
            begin = time.monotonic()
            controller.launch()
            try:
                await_true(controller.ready, "everything was read", 300.0)
                print(f"  everything was read after {time.monotonic() - begin:.1f} s")
                _watch(controller.pid, begin)
            finally:
                controller.stop()


def _watch(pid: int, begin: float) -> None:
    before = 0.0
    while (passed := time.monotonic() - begin) < SECONDS:
        status = Path("/proc", str(pid), "status").read_text()
        peak, now = (
            int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024 for name in ("VmHWM", "VmRSS")
        )
        if peak > before + 1:
            print(f"  after {passed:.0f} s: {now:.0f} MB resident, {peak:.0f} MB at its peak")
            before = peak
        time.sleep(_LOOK_SECONDS)
    print(f"  in the end: {now:.0f} MB resident, {peak:.0f} MB at its peak")


if __name__ == "__main__":
    main()
