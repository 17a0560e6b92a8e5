"""What a believed node that floods costs the controller, and how long a report of another waits behind it.

On a real controller, with SQLite, and Redis: so many signed reports of node two, of runs that never were,
then the report of node one on its request.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from contract.queues import CONTROLLER_QUEUE, REPORT_TASK, node_queue
from tests.benchmarks.footprint import Process
from tests.controller_process import HTTP, OwnProcess
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.garbage import arguments, message
from tests.integration.test_controller_process import last_request
from tests.reports import device, report
from tests.servers import RedisServer, await_true
from tests.signed import message_text

FLOODS: Final = ((0, 0), (2_000, 0), (200, 300), (10, 20_000))
"""Messages, and the devices in each."""


def main() -> None:
    """Measure, and print; `--spent`: what comes once nothing is left to the node."""
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-compromised-") as name,
        RedisServer(Path(name)) as redis,
    ):
        options = ("--run-timeout-seconds", "3600", "--resync-seconds", "3600")
        with (
            FakeDocker(Path(name) / "docker.sock", snapshot("one", "two")) as docker,
            OwnProcess(
                Path(name), broker_url=redis.url, docker_url=docker.url, options=options
            ).running() as controller,
        ):
            for count, devices in FLOODS:
                if "--spent" in sys.argv:
                    _put(redis, [_report(0) for _ in range(700)])
                    await_true(lambda: _waiting(redis) == 0, "the quota is spent")
                _measure(controller, redis, count, devices)


def _report(devices: int) -> bytes:
    told = report(node="two", devices=[device(number + 1) for number in range(devices)])
    return message(arguments(message_text(REPORT_TASK, told)), task=REPORT_TASK)


def _put(redis: RedisServer, messages: list[bytes]) -> None:
    with redis.client() as client:
        for raw in messages:
            client.lpush(CONTROLLER_QUEUE, raw)


def _waiting(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.llen(CONTROLLER_QUEUE))


def _refused() -> str:
    return 'messages_refused_total{reason="too_many"}'


def _measure(controller: OwnProcess, redis: RedisServer, count: int, devices: int) -> None:
    flood = [_report(devices) for _ in range(count)]
    request = last_request(redis)  # The first one is of the start, under way until it is answered.
    if request is None:
        HTTP.post(f"{controller.url}/api/v1/nodes/one/requeue", json={}).raise_for_status()
        await_true(lambda: last_request(redis) is not None, "node one is asked")
        request = last_request(redis)
    assert request is not None
    with redis.client() as client:
        client.delete(node_queue(swarm_id("one")))
    process, dropped = Process(controller.pid), _dropped(controller)
    before = process.cpu_seconds()
    honest = message(arguments(message_text(REPORT_TASK, report(request.run_id))), task=REPORT_TASK)
    begin = time.perf_counter()
    _put(redis, [*flood, honest])
    put = time.perf_counter()
    while _state(controller, str(request.run_id)) != "succeeded":
        time.sleep(0.05)
    now = time.perf_counter()
    size = sum(map(len, flood)) / max(count, 1) / 1e6
    print(
        f"{count} of {devices} devices ({size:.2f} MB): put in {put - begin:.2f} s, node one's report "
        f"taken in {now - put:.2f} s later; processor time {process.cpu_seconds() - before:.2f} s, "
        f"dropped {_dropped(controller) - dropped}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def _dropped(controller: OwnProcess) -> int:
    lines = HTTP.get(f"{controller.url}/metrics").text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if _refused() in line)


def _state(controller: OwnProcess, run_id: str) -> str:
    items = HTTP.get(f"{controller.url}/api/v1/runs?node=one&limit=1").json()["items"]
    return str(items[0]["state"]) if items and items[0]["id"] == run_id else ""


if __name__ == "__main__":
    main()
