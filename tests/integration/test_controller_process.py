"""`vxctl controller` as a real process: at work, through outages and restarts, and what stops its start."""

import base64
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from contract.messages import Drift, ReconcileReport, ReconcileRequest
from contract.queues import DRIFT_TASK, REPORT_TASK
from contract.runtime.broker import celery_app, queue_for_controller
from contract.runtime.errors import OperatorError
from controller.cli.commands import app
from controller.db.engine import open_database
from controller.process.controller import run
from controller.process.settings import ControllerSettings
from tests.controller_process import HTTP, ControllerProcess, assert_clear_error, free_port, vxctl
from tests.fake_docker import FakeDocker, Fault
from tests.fake_swarm import snapshot, swarm_id
from tests.reports import device, drift, entry, report
from tests.servers import RedisServer, await_true
from tests.signed import message_text, request_of
from tests.stored import contents


def last_request(redis: RedisServer, node: str = "one") -> ReconcileRequest | None:
    """The newest request that waits for a node's worker."""
    with redis.client() as client:
        raw = client.lindex(f"node.{swarm_id(node)}", 0)
    if raw is None:
        return None
    assert isinstance(raw, bytes)
    (payload,), _options, _links = json.loads(base64.b64decode(json.loads(raw)["body"]))
    return request_of(payload)


def send(redis: RedisServer, message: ReconcileReport | Drift) -> None:
    """Say something as a worker does."""
    name = REPORT_TASK if isinstance(message, ReconcileReport) else DRIFT_TASK
    with closing(celery_app("worker", redis.url)) as app:
        app.send_task(name, args=[message_text(name, message)], queue=queue_for_controller())


def answer_request(controller: ControllerProcess, redis: RedisServer) -> UUID:
    """Answer what waits for node `one`, until an answer is taken in; return that run.

    A request that was sent while the broker went away may be one that the controller gave up: a
    worker answers it as well, and the one that follows.
    """
    answered: list[UUID] = []

    def taken_in() -> UUID | None:
        request = last_request(redis)
        if request is not None and request.run_id not in answered:
            answered.append(request.run_id)
            told = report(
                request.run_id, devices=[device(1)], entries=[entry(1)], journal_id=uuid4()
            )
            send(redis, told)
        return next((run for run in answered if state_of(controller, run) == "succeeded"), None)

    await_true(taken_in, "a report is taken in")
    run = taken_in()
    assert run is not None
    return run


def state_of(controller: ControllerProcess, run_id: UUID) -> str | None:
    """The state of a run, from the database itself."""
    with closing(sqlite3.connect(controller.folder / "controller.db")) as connection:
        query = "SELECT state FROM runs WHERE id = ?"
        row = connection.execute(query, (run_id.hex,)).fetchone()
    return None if row is None else str(row[0])


def node_of(status: dict[str, Any], name: str) -> dict[str, Any]:
    """A node of a status, which tells the worst first."""
    (found,) = (node for node in status["nodes"] if node["id"] == swarm_id(name))
    return dict(found)


def generations(status: dict[str, Any]) -> dict[str, int]:
    """The nodes of a status, with the generations of what is desired there."""
    return {node["id"]: node["generation"] for node in status["nodes"]}


def ready_of(controller: ControllerProcess, name: str) -> str:
    """The status of a node's condition `Ready`."""
    conditions = controller.json("describe", "node", name)["conditions"]
    return str(conditions[0]["status"]) if conditions else "Unknown"


def remembered(status: dict[str, Any]) -> dict[str, Any]:
    """What of the nodes does not change by time alone, as runs that are lost meanwhile do."""
    by_time = {"running", "failures", "last_run", "due_at", "due_reasons", "conditions"}
    return {
        node["id"]: {name: value for name, value in node.items() if name not in by_time}
        for node in status["nodes"]
    }


def test_at_work(controller: ControllerProcess, redis: RedisServer) -> None:
    run_id = answer_request(controller, redis)

    status = controller.json("status")
    assert status["cluster"]["swarm_id"] == swarm_id("swarm")
    one, two = sorted(status["nodes"], key=lambda node: str(node["hostname"]))
    assert (one["hostname"], one["devices"], one["running"]) == ("one", {"in_use": 1}, None)
    assert (two["hostname"], two["devices"], two["worker_version"]) == ("two", {}, None)
    table = controller.vxctl("status").splitlines()
    assert table[0].startswith("Not well: ")
    assert f"Swarm {swarm_id('swarm')}, mode enforce, read " in "\n".join(table)
    at = next(number for number, line in enumerate(table) if line.startswith("NODE"))
    assert table[at].split()[:4] == ["NODE", "READY", "SINCE", "REASON"]
    rows = {line.split()[0]: line.split() for line in table[at + 1 : at + 3]}
    assert (rows["one"][4], rows["two"][4]) == ("2/2", "0/2")
    await_true(lambda: ready_of(controller, "one") == "True", "its conditions follow")

    (row,) = controller.json("audit", "--node", "one")
    assert (row["stage"], row["network_name"], row["node_name"]) == ("applied", "shop", "one")
    header, line = (
        each.split() for each in controller.vxctl("audit", "--node", "one").splitlines()
    )
    assert header == [
        "TIME",
        "NODE",
        "STAGE",
        "DEVICE",
        "NETNS",
        "VNI",
        "NETWORK",
        "URGENCY",
        "REASON",
    ]
    assert line[2:] == [
        "one",
        "applied",
        "vx-001001-shopz#7",
        "host",
        "4097",
        "shop",
        "blocking",
        "reason",
    ]

    assert controller.vxctl("requeue", "one") == f"one ({swarm_id('one')}): the run starts now\n"
    await_true(lambda: _is_new(last_request(redis), run_id), "another request waits")
    running = last_request(redis)
    assert running is not None
    answer = controller.json("requeue", swarm_id("one"))
    assert (answer["node_id"], answer["waits_for_run"]) == (swarm_id("one"), str(running.run_id))
    assert "another one follows" in controller.vxctl("requeue", "on")

    send(redis, drift(8, node="two"))
    await_true(
        lambda: node_of(controller.json("status"), "two")["devices"] == {"settling": 1},
        "the drift hint is taken in",
    )


def _is_new(request: ReconcileRequest | None, known: UUID) -> bool:
    return request is not None and request.run_id != known


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(controller: ControllerProcess, number: signal.Signals) -> None:
    assert controller.end(number) == 0
    assert "controller stopped" in controller.log()


def test_it_ends_when_it_is_told_to_without_redis(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    redis.stop()
    assert controller.end() == 0


def test_it_survives_redis_being_away_and_forgetting_everything(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    first = answer_request(controller, redis)
    redis.stop(signal.SIGKILL)
    controller.ask_for_run("one")
    await_true(lambda: controller.answers(503), "it has noticed")

    redis.start()
    await_true(lambda: controller.answers(200), "it has noticed that, too")
    second = answer_request(controller, redis)

    assert second != first
    assert node_of(controller.json("status"), "one")["failures"] == 0


def test_it_survives_a_docker_that_fails(
    controller: ControllerProcess, redis: RedisServer, docker: FakeDocker
) -> None:
    before = controller.json("status")
    docker.faults["networks"] = Fault.TRUNCATED
    await_true(lambda: controller.answers(503), "it has noticed")

    status = controller.json("status")
    assert "Docker API" in status["cluster"]["sync_error"]
    await_true(lambda: "SwarmUnreadable: " in controller.vxctl("status"), "status tells")
    assert generations(status) == generations(before)
    controller.vxctl("requeue", "one")
    answer_request(controller, redis)

    docker.faults.clear()
    await_true(lambda: controller.answers(200), "it has recovered")
    assert controller.json("status")["cluster"]["sync_error"] is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_forgets_nothing(
    controller: ControllerProcess, redis: RedisServer, number: signal.Signals
) -> None:
    answer_request(controller, redis)
    before = controller.json("status"), controller.json("audit")
    controller.end(number)
    redis.flush()
    controller.start()

    after = controller.json("status"), controller.json("audit")
    assert after[1] == before[1]
    assert remembered(after[0]) == remembered(before[0])
    controller.vxctl("requeue", "one")
    answer_request(controller, redis)


def options(tmp_path: Path, redis: RedisServer, docker: FakeDocker) -> dict[str, str]:
    """Options with which a controller starts."""
    return {
        "--listen": f"127.0.0.1:{free_port()}",
        "--broker-url": redis.url,
        "--database-url": f"sqlite:///{tmp_path / 'controller.db'}",
        "--docker-host": docker.url,
    }


def starting(given: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """What becomes of a controller with these options."""
    return vxctl("controller", *(f"{name}={value}" for name, value in given.items()))


@pytest.mark.parametrize(
    ("option", "value", "problem", "status"),
    [
        pytest.param(
            "--broker-url",
            "redis://:s3cr3t@127.0.0.1:1/0",
            "broker at redis://.*127.0.0.1:1/0 cannot be reached: .*refused",
            1,
            id="no Redis",
        ),
        pytest.param("--docker-host", "unix:///nonexistent", "does not answer", 1, id="no Docker"),
        pytest.param("--database-url", "sqlite:////dev/null/c.db", "cannot be", 1, id="no folder"),
        pytest.param("--mode", "destroy", "mode: .*'destroy'", 2, id="no such mode"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_clear_line_and_changes_nothing(
    tmp_path: Path,
    redis: RedisServer,
    docker: FakeDocker,
    option: str,
    value: str,
    problem: str,
    status: int,
) -> None:
    done = starting(options(tmp_path, redis, docker) | {option: value})
    assert_clear_error(done, problem, status)
    assert "s3cr3t" not in done.stderr
    assert not (tmp_path / "controller.db").exists()
    with redis.client() as client:
        assert client.keys() == []


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        pytest.param("--broker-url", "garbage", "broker_url: .*must begin", id="garbage"),
        pytest.param("--broker-url", "memory://", "broker_url: .*must begin", id="no Redis"),
        pytest.param("--broker-url", "redis://h:port/0", "port is not a number", id="no port"),
        pytest.param("--broker-url", "redis+socket:///no", "the broker.* cannot", id="no socket"),
        pytest.param(
            "--docker-host", "garbage", "docker_host: .*must be unix", id="no URL of a Docker"
        ),
        pytest.param("--database-url", "mysql://h/n", "mysql are not supported", id="MySQL"),
        pytest.param("--listen", "192.0.2.1:80", "cannot listen on 192.0.2.1:80", id="not ours"),
        pytest.param("--listen", "nosuch.invalid:80", "cannot listen on nosuch", id="no such host"),
        pytest.param("--listen", "8479", "listen: .*HOST:PORT.*'8479'", id="no host"),
        pytest.param("--resync-seconds", "nan", "resync_seconds: .*'nan'", id="not a number"),
    ],
)
def test_more_that_is_wrong_at_the_start(
    tmp_path: Path,
    redis: RedisServer,
    docker: FakeDocker,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
    problem: str,
) -> None:
    """In this process, to be quick: how the line is printed does not depend on what is wrong."""
    monkeypatch.setattr("controller.process.controller.configure_logging", lambda **_: None)
    given = options(tmp_path, redis, docker) | {option: value}
    settings = {name[2:].replace("-", "_"): each for name, each in given.items()}
    with pytest.raises(OperatorError) as caught:
        start(ControllerSettings.load(settings))
    assert re.search(problem, caught.value.problem)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "controller.db").exists()


def start(settings: ControllerSettings) -> None:
    """Run a controller, as `vxctl controller` does."""
    run(settings, settings.broker_url.get_secret_value())


def test_a_docker_that_is_no_manager(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    docker.info["Swarm"]["ControlAvailable"] = False
    done = starting(options(tmp_path, redis, docker))
    assert_clear_error(done, "is not a manager of its Swarm")
    assert not (tmp_path / "controller.db").exists()


def test_a_port_that_is_taken(tmp_path: Path, redis: RedisServer, docker: FakeDocker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = starting(options(tmp_path, redis, docker) | {"--listen": listen})
    assert_clear_error(done, f"cannot listen on {listen}:.*in use")
    assert not (tmp_path / "controller.db").exists()


def test_a_database_of_a_newer_version(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    given = options(tmp_path, redis, docker)
    database = open_database(given["--database-url"])
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'ffff'")
    before = contents(database)
    assert_clear_error(starting(given), "schema ffff")
    assert contents(database) == before
    database.close()


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What most machines have: everybody may read what is made."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_what_it_writes_is_for_nobody_else(
    open_umask: None, tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    state = tmp_path / "state"
    with ControllerProcess(
        tmp_path,
        broker_url=redis.url,
        docker_url=docker.url,
        database_url=f"sqlite:///{state / 'c.db'}",
    ):
        found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()}
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert found == dict.fromkeys(("c.db", "c.db-wal", "c.db-shm", "c.db.lock"), 0o600)


@pytest.mark.parametrize(
    ("verb", "program"),
    [
        ("controller", "controller.process.controller.run"),
        ("up", "controller.process.all_in_one.up"),
    ],
)
def test_whatever_else_it_may_write_is_for_nobody_else_either(
    open_umask: None, monkeypatch: pytest.MonkeyPatch, verb: str, program: str
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(program, lambda *_, **__: seen.append(os.umask(0o022)))
    CliRunner().invoke(app, [verb])
    assert seen == [0o077]


def test_it_answers_under_the_names_that_it_is_given(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    with ControllerProcess(
        tmp_path,
        broker_url=redis.url,
        docker_url=docker.url,
        options=("--allowed-hosts", "ops.example,swarm.example"),
    ) as controller:
        answers = {
            host: HTTP.get(f"{controller.url}/api/v1/status", headers={"Host": host})
            for host in ("localhost:1", "ops.example", "swarm.example:80", "evil.example")
        }
    assert [each.status_code for each in answers.values()] == [200, 200, 200, 403]


def test_options_without_a_meaning() -> None:
    done = vxctl("controller", "--bogus")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_another_swarm_than_the_databases_is_told_and_changes_nothing(
    controller: ControllerProcess, docker: FakeDocker
) -> None:
    before = controller.json("status")
    docker.show(snapshot("three", swarm="other"))
    # A reading that was under way as it changed has first words of its own for it.
    told = f"is of Swarm {swarm_id('other')}"
    await_true(
        lambda: told in (controller.json("status")["cluster"]["sync_error"] or ""), "it has noticed"
    )
    assert controller.answers(503)
    status = controller.json("status")
    assert generations(status) == generations(before)
