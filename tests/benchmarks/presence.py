"""What signs of life cost: messages a second and CPU; and how soon the death of a worker is known."""

import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from contract.messages import SignOfLife
from contract.queues import ALIVE_TASK
from contract.runtime.broker import celery_app
from contract.runtime.presence import Presence
from controller.db.engine import open_database
from controller.runs.presence import PresenceWatch, pause
from controller.trust.reception import Reception
from tests.benchmarks.footprint import Process
from tests.controller_process import HTTP, ControllerProcess
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.servers import RedisServer, await_true
from tests.signed import give_worker, keyring, message_text, pin
from tests.stored import put

RESYNC = timedelta(seconds=60)
STEPS = 20
DEATHS = 3


def main() -> None:
    """Measure, and print."""
    for nodes in (100, 5000):
        _cost(nodes)
    _deaths()


def _cost(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-presence-") as folder,
        RedisServer(Path(folder)) as redis,
        closing(open_database(f"sqlite:///{folder}/c.db")) as database,
        closing(celery_app("benchmark", redis.url)) as app,
    ):
        put(database, snapshot(*names))
        every = pause(count, RESYNC)
        keys = keyring(database)
        opened = Reception(database, keys).sign_of_life
        watch = PresenceWatch(database, Presence(app).read, opened, resync=RESYNC)
        pin(database, *map(swarm_id, names))
        keys.refresh()
        signs, session, writing, reading = Presence(app), uuid4(), 0.0, 0.0
        server = Process(redis.pid)
        before, moved = server.cpu_seconds(), _bytes(redis)
        period = watch.step()
        turns = max(1, round(every / period))
        written = 0
        for step in range(STEPS):
            began = time.thread_time()
            # Those whose turn comes between two steps of the leader.
            for name in names[step % turns :: turns]:
                written += 1
                sign = SignOfLife(
                    node_id=swarm_id(name),
                    worker_version="benchmark",
                    session=session,
                    count=step + 1,
                    every=every,
                )
                signs.write(swarm_id(name), message_text(ALIVE_TASK, sign))
            writing += time.thread_time() - began
            began = time.thread_time()
            period = watch.step()
            reading += time.thread_time() - began
        redis_cpu = (server.cpu_seconds() - before) / STEPS
        per_step = (_bytes(redis) - moved) / STEPS
        print(
            f"{count} nodes: a sign every {every:.1f} s, {count / every:.0f} messages/s; "
            f"leader {reading / STEPS * 1000:.1f} ms a step of {period:.1f} s "
            f"({reading / STEPS / period:.2%} of a core); "
            f"Redis {redis_cpu / period:.2%} of a core; "
            f"{per_step / period / 1000:.1f} kB/s through Redis; "
            f"a worker {writing / written * 1e6:.0f} us a sign"
        )


def _bytes(redis: RedisServer) -> int:
    """Bytes that Redis has received and sent."""
    with redis.client() as client:
        found = client.info("stats")
    return int(found["total_net_input_bytes"]) + int(found["total_net_output_bytes"])


def _deaths() -> None:
    one = swarm_id("one")
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-presence-") as folder,
        RedisServer(Path(folder)) as redis,
        FakeDocker(Path(folder) / "docker.sock", snapshot("one")) as docker,
        ControllerProcess(
            Path(folder),
            broker_url=redis.url,
            docker_url=docker.url,
            options=("--resync-seconds=3600",),
        ) as controller,
    ):
        journal = Path(folder) / "worker" / "journal.jsonl"
        key = give_worker(journal, one)["CONTROLLER_KEY"]
        took = []
        for _ in range(DEATHS):
            worker = subprocess.Popen(
                ["unshare", "--net", "--", "setpriv", "--pdeathsig", "KILL", "--",
                 str(Path(sys.executable).parent / "vxlan-worker"), "run", "--node-id", one,
                 "--broker-url", redis.url, "--journal", str(journal),
                 "--controller-key", key, "--log-level", "error"],
            )  # fmt: skip
            try:
                await_true(lambda: _ready(controller) == "Converged", "the node is ready")
                time.sleep(5.0)
            finally:
                worker.kill()
                worker.wait(60)
            began = time.monotonic()
            await_true(lambda: _ready(controller) == "WorkerAway", "its death is known")
            took.append(time.monotonic() - began)
        seconds = ", ".join(f"{each:.1f}" for each in sorted(took))
        print(f"SIGKILL of a worker to WorkerAway in the API: {seconds} s")


def _ready(controller: ControllerProcess) -> str:
    (node,) = HTTP.get(f"{controller.url}/api/v1/nodes").json()["items"]
    return next((c["reason"] for c in node["conditions"] if c["type"] == "Ready"), "")


if __name__ == "__main__":
    main()
