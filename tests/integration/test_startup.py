"""Programs that run as a service wait at their start for what is away; all others end at once."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests import signed
from tests.controller_process import HTTP, ControllerProcess, vxctl
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import PROGRAM, variables
from tests.servers import PostgresServer, RedisServer, await_true


def test_a_controller_waits_for_its_database_and_docker_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    redis, postgres = RedisServer(folder), PostgresServer()
    with postgres:
        postgres.stop()
        controller = ControllerProcess(
            tmp_path,
            broker_url=redis.url,
            docker_url=f"unix://{tmp_path}/docker.sock",
            database_url=postgres.url("postgres"),
            options=("--wait-at-start", "true"),
        )
        try:
            controller.launch()
            await_true(lambda: controller.answers(503), "it answers while it waits")
            refused = HTTP.get(f"{controller.url}/readyz").json()
            assert "waits to start: the database postgresql" in refused["detail"]
            assert refused["hint"].startswith("start it, or set")
            assert HTTP.get(f"{controller.url}/healthz").status_code == 200
            page = HTTP.get(f"{controller.url}/", headers={"Accept": "text/html,*/*;q=0.8"})
            assert (page.status_code, page.headers["content-type"]) == (
                503,
                "text/html; charset=utf-8",
            )
            assert "the database postgresql" in page.text
            asked = vxctl("status", url=controller.url)
            assert asked.returncode == 1
            assert "waits to start: the database" in asked.stderr

            postgres.start()
            await_true(lambda: "docker.sock" in controller.readiness(), "it waits for Docker")
            with FakeDocker(tmp_path / "docker.sock", snapshot()):
                await_true(
                    lambda: "Broker" in controller.readiness(),
                    "it has started, without a broker",
                )
                status = json.loads(vxctl("status", "-o", "json", url=controller.url).stdout)
                conditions = {each["type"]: each["status"] for each in status["conditions"]}
                assert conditions["BrokerReachable"] == "False"
                with redis:
                    await_true(lambda: controller.answers(200), "it is ready")
        finally:
            controller.stop(signal.SIGKILL)
    waits = [line for line in controller.log().splitlines() if "waiting to start" in line]
    assert len(waits) == 2, "one line for each, not one for each attempt"
    assert "Traceback" not in controller.log()


def test_a_controller_that_waits_ends_by_a_signal(tmp_path: Path) -> None:
    controller = ControllerProcess(
        tmp_path,
        broker_url=f"redis+socket://{tmp_path}/redis.sock",
        docker_url=f"unix://{tmp_path}/docker.sock",
        options=("--wait-at-start", "true"),
    )
    controller.launch()
    try:
        await_true(lambda: controller.answers(503), "it answers while it waits")
        assert controller.end(signal.SIGTERM) == 0
    finally:
        controller.stop(signal.SIGKILL)


@pytest.mark.privileged
def test_a_worker_waits_for_dockerd_and_redis(in_empty_namespace: int, tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    redis = RedisServer(folder)
    settings = {
        "WAIT_AT_START": "true",
        "DOCKER_SOCKET": str(tmp_path / "docker.sock"),
        "BROKER_URL": redis.url,
        "JOURNAL": str(tmp_path / "journal.jsonl"),
        **signed.give_worker(tmp_path / "journal.jsonl", swarm_id("one")),
    }
    log = tmp_path / "worker.log"
    with log.open("ab") as file:
        command = Namespace(in_empty_namespace).command(PROGRAM, "run")
        process = subprocess.Popen(command, env=variables(settings), stderr=file)
    try:
        await_true(lambda: "waiting to start" in log.read_text(), "it waits for dockerd")
        with FakeDocker(tmp_path / "docker.sock", snapshot()) as docker:
            docker.info = {"Swarm": {"LocalNodeState": "active", "NodeID": swarm_id("one")}}
            await_true(lambda: "worker started" in log.read_text(), "it starts without Redis")
            with redis:

                def heard() -> bool:
                    with redis.client() as client:
                        return bool(client.llen("controller"))

                await_true(heard, "it tells Redis that it has started")
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(60)
    assert "Traceback" not in log.read_text()
