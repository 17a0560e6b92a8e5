"""`vxctl doctor` and `vxlan-worker doctor`: real servers, servers that hang, dockerds in trouble."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from contract.runtime.dockerd import Docker
from contract.runtime.doctor import checks, docker
from contract.runtime.doctor.broker import clock
from contract.runtime.doctor.checks import Level, Result
from controller.access.store import By
from controller.db.engine import open_database
from controller.db.key_models import NodeKey
from controller.db.states import NodeKeyState
from controller.trust import own_key, store
from tests.answering import answering
from tests.controller_process import environment, free_port, vxctl
from tests.fake_docker import FakeDocker
from tests.integration.namespaces import Namespace
from tests.servers import PostgresServer, RedisServer, await_true
from tests.signed import key_of, pin
from worker.trust import Paths, Trust, rotate

WORKER = str(Path(sys.executable).parent / "vxlan-worker")
NODE_ID = "n0de" * 6 + "0"
ACTIVE: dict[str, Any] = {"LocalNodeState": "active", "NodeID": NODE_ID, "ControlAvailable": True}
GOOD = {
    "/version": {"Version": "20.10.24", "ApiVersion": "1.41"},
    "/info": {"Swarm": ACTIVE},
    "/swarm": {},
    "/nodes": [{"ManagerStatus": {"Reachability": "reachable"}}],
}


def doctor(
    *arguments: str, status: int, program: str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The results of a doctor, `vxctl`'s unless told, by check."""
    command = ["doctor", "-o", "json", *arguments]
    if program is None:
        done = vxctl(*command)
    else:
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", "--", program, *command],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
            check=False,
        )
    assert (done.returncode, done.stderr) == (status, ""), done.stderr + done.stdout
    found: dict[str, list[dict[str, Any]]] = {}
    for result in json.loads(done.stdout):
        assert (result["hint"] is None) == (result["level"] == "ok")
        found.setdefault(result["check"], []).append(result)
    return found


@contextmanager
def dockerd(answers: Mapping[str, Any], status: Mapping[str, int] | None = None) -> Iterator[str]:
    """A Docker API with these answers."""

    def answer(path: str) -> tuple[int, bytes]:
        path = path.removeprefix("/v1.41")
        body = answers.get(path, {"message": "page not found"})
        return (status or {}).get(path, 200), json.dumps(body).encode()

    with answering(answer, {"Api-Version": "1.41"}) as address:
        yield f"tcp://{address}"


@pytest.fixture
def hanging() -> Iterator[int]:
    """A port that accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_controller_where_all_is_well_but_none_runs(
    tmp_path: Path, redis: RedisServer, postgres_server: PostgresServer
) -> None:
    file = f"sqlite:///{tmp_path / 'c.db'}"
    with dockerd(GOOD) as host:
        for url in (file, postgres_server.new_database()):
            open_database(url).close()
            options = ("--database-url", url, "--broker-url", redis.url, "--docker-host", host)
            found = doctor(*options, "--url", f"http://127.0.0.1:{free_port()}", status=3)
            levels = {name: {row["level"] for row in rows} for name, rows in found.items()}
            assert levels.pop("controller") == {"warn"}
            assert {
                "docker",
                "swarm",
                "quorum",
                "broker",
                "clock",
                "database",
                "schema",
            } <= levels.keys()
            assert set.union(*levels.values()) == {"ok"}


def test_nothing_hangs(tmp_path: Path, hanging: int) -> None:
    address = f"127.0.0.1:{hanging}"
    found = doctor(
        "--database-url", f"postgresql+psycopg://u:secret1@{address}/db",
        "--broker-url", f"redis://u:secret2@{address}/0",
        "--docker-host", f"tcp://{address}",
        "--url", f"http://{address}",
        status=3,
    )  # fmt: skip
    for name in ("docker", "broker", "database", "controller"):
        assert found[name][0]["level"] != "ok"
    assert "no answer" in found["broker"][0]["message"]
    assert "secret" not in json.dumps(found)


def test_a_wrong_password_and_a_wrong_server(tmp_path: Path, redis: RedisServer) -> None:
    with redis.client() as client:
        client.config_set("requirepass", "right")
    with dockerd({}) as host:
        found = doctor(
            "--broker-url", redis.url, "--docker-host", host, "--url", host.replace("tcp", "http"),
            "--database-url", f"sqlite:///{tmp_path / 'no' / 'c.db'}", status=3,
        )  # fmt: skip
    assert "refuses the login" in found["broker"][0]["message"]
    assert "is not a controller" in found["controller"][0]["message"]
    assert "there is no folder" in found["database"][0]["message"]
    assert found["docker"][0]["level"] == "ok"
    assert not (tmp_path / "no").exists()


def test_an_older_schema_and_a_file_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "c.db"
    database = open_database(f"sqlite:///{file}")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    database.close()
    file.chmod(0o644)
    url = f"http://127.0.0.1:{free_port()}"
    found = doctor("--database-url", f"sqlite:///{file}", "--url", url, status=3)
    assert "has schema 0001" in found["schema"][0]["message"]
    assert found["database"][0]["hint"] == f"chmod 600 {file}"


@pytest.mark.privileged
def test_the_keys_of_a_worker(tmp_path: Path, redis: RedisServer) -> None:
    journal = tmp_path / "state" / "j"
    paths = Paths(journal)
    options = ("--broker-url", redis.url, "--journal", str(journal))

    def told(status: int) -> list[str]:
        found = doctor(*options, "--docker-host", host, status=status, program=WORKER)
        return [row["message"] for row in found["keys"]]

    with dockerd(GOOD) as host:
        trust = Trust.open(paths, NODE_ID, token=None, given=key_of("controllers").public)
        ids = f"this node's is {trust.key.public.id}, the controllers' {trust.controller_ids[0]}"
        assert told(0) == [ids]
        rotate(paths)
        paths.trust.chmod(0o644)
        assert [line.split(" ")[0] for line in told(3)] == ["others", "the", "this"]
        paths.trust.write_text("{")
        assert "damaged" in told(3)[0]


def test_the_keys_of_controllers(tmp_path: Path, redis: RedisServer) -> None:
    url, file = f"sqlite:///{tmp_path / 'c.db'}", tmp_path / "controller.key"
    options = ("--database-url", url, "--broker-url", redis.url)

    def told() -> list[str]:
        found = doctor(
            *options, "--docker-host", host, "--url", f"http://127.0.0.1:{free_port()}", status=3
        )
        return [row["message"] for row in found["keys"]]

    with closing(open_database(url)) as database, dockerd(GOOD) as host:
        key = own_key.ensure(database, file)
        assert told() == [f"the controllers sign with {key.public.id}, which {file} holds"]
        with database.write() as session:
            store.announce(session, key_of("next").public, By("ann", None, datetime.now(UTC)))
        pin(database, "one" * 8)
        with database.write() as session:
            session.execute(update(NodeKey).values(state=NodeKeyState.PENDING))
        file.rename(tmp_path / "moved.key")
        lines = told()
        assert "is missing" in lines[0]
        assert lines[1:] == [
            f"a rotation to the key {key_of('next').public.id} is not finished",
            "1 key(s) of nodes wait for a person",
        ]


@pytest.mark.privileged
def test_a_worker(tmp_path: Path, redis: RedisServer) -> None:
    options = ("--broker-url", redis.url, "--journal", str(tmp_path / "j"))
    with dockerd(GOOD) as host:
        found = doctor(*options, "--docker-host", host, status=0, program=WORKER)
        assert {
            "capability",
            "kernel",
            "namespaces",
            "docker",
            "data path",
            "journal",
        } <= found.keys()
        other = ("--node-id", "0ther" * 5)
        found = doctor(*options, *other, "--docker-host", host, status=3, program=WORKER)
    assert NODE_ID in found["swarm"][0]["hint"]


@pytest.mark.privileged
def test_a_worker_without_capabilities_and_with_a_taken_port(tmp_path: Path, hanging: int) -> None:
    options = ["--broker-url", f"redis://127.0.0.1:{hanging}/0", "--journal", str(tmp_path / "j")]
    info = {"Swarm": ACTIVE | {"Cluster": {"DataPathPort": 0}}}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        info["Swarm"]["Cluster"]["DataPathPort"] = taken.getsockname()[1]
        with dockerd(GOOD | {"/info": info}) as host:
            done = subprocess.run(
                ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--",
                 WORKER, "doctor", *options, "--docker-host", host],
                capture_output=True, text=True, timeout=60, env=environment(), check=False,
            )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "CAP_NET_ADMIN is missing" in done.stdout
    assert "is in use, and whether by VXLAN devices or by a program cannot be seen" in done.stdout
    assert "fail  broker" in done.stdout


def data_path_in(host: Namespace, dockerd: str, *prefix: str) -> dict[str, Any]:
    """What the worker's doctor says there of the UDP port."""
    done = subprocess.run(
        [*host.command(*prefix, WORKER, "doctor", "-o", "json"), "--docker-host", dockerd],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip
    (found,) = (row for row in json.loads(done.stdout) if row["check"] == "data path")
    assert isinstance(found, dict)
    return found


@pytest.mark.privileged
@pytest.mark.parametrize("prefix", [(), ("unshare", "--pid", "--fork", "--mount-proc")])
def test_the_port_of_the_kernels_own_devices_is_no_programs(
    in_empty_namespace: int, tmp_path: Path, prefix: tuple[str, ...]
) -> None:
    host = Namespace(in_empty_namespace)
    with FakeDocker(tmp_path / "own.sock") as own:
        own.info = {"Swarm": ACTIVE}
        dockerd = f"unix://{tmp_path / 'own.sock'}"
        assert data_path_in(host, dockerd, *prefix)["level"] == "ok"
        host.add_vxlan("vx-001001-abcde", 4097)
        host.ip("link set vx-001001-abcde up")
        assert ":12B5 " in host.run("cat", "/proc/net/udp")
        found = data_path_in(host, dockerd, *prefix)
        assert (found["level"], "by VXLAN devices alone" in found["message"]) == ("ok", True)


@pytest.mark.privileged
def test_a_program_with_the_port_is_named(in_empty_namespace: int, tmp_path: Path) -> None:
    host = Namespace(in_empty_namespace)
    program = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 4789)); input()"
    )
    with FakeDocker(tmp_path / "own.sock") as own:
        own.info = {"Swarm": ACTIVE}
        dockerd = f"unix://{tmp_path / 'own.sock'}"
        taken = subprocess.Popen(host.command(sys.executable, "-c", program), stdin=subprocess.PIPE)
        try:
            await_true(lambda: ":12B5 " in host.run("cat", "/proc/net/udp"), "it is bound")
            found = data_path_in(host, dockerd)
            assert found["level"] == "fail"
            assert f" (process {taken.pid}) has UDP 4789" in found["message"]
            hidden = data_path_in(host, dockerd, "unshare", "--pid", "--fork", "--mount-proc")
            assert (hidden["level"], "cannot be seen here" in hidden["message"]) == ("warn", True)
        finally:
            taken.kill()
            taken.wait(60)


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        ({"LocalNodeState": "inactive"}, Level.FAIL, "inactive"),
        ({"LocalNodeState": "locked"}, Level.FAIL, "locked"),
        ({"LocalNodeState": "error", "Error": "rpc\x1b[2J"}, Level.FAIL, "rpc"),
        ({"LocalNodeState": "pending"}, Level.FAIL, "pending"),
        (ACTIVE | {"ControlAvailable": False}, Level.FAIL, "not a manager"),
        (ACTIVE | {"Error": "context deadline"}, Level.WARN, "context deadline"),
        (None, Level.FAIL, "inactive"),
    ],
)
def test_a_swarm_in_trouble(state: Any, level: Level, words: str) -> None:
    with dockerd(GOOD | {"/info": {"Swarm": state}}) as host:
        found = [row for row in docker.check(Docker(host), manager=True) if row.check == "swarm"]
    assert found[0].level is level
    assert words in found[0].message


def test_a_dockerd_that_hangs_is_not_said_to_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contract.runtime.dockerd._ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "docker.sock"))
        stopped.listen()
        (found,) = docker.check(Docker(f"unix://{tmp_path / 'docker.sock'}"), manager=True)
    assert "gave no answer within 0.2 s" in found.message
    assert "restart" in str(found.hint)


def test_a_swarm_without_a_quorum() -> None:
    lost = {"message": "The swarm does not have a leader."}
    with dockerd(GOOD | {"/nodes": lost}, {"/nodes": 503}) as host:
        found = {row.check: row for row in docker.check(Docker(host), manager=True)}
    assert (found["quorum"].level, found["quorum"].message) == (Level.FAIL, lost["message"])


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, "ok"), (-9, "warn"), (30, "warn"), (600, "fail"), (-600, "fail")]
)
def test_clocks(ahead: float, level: str) -> None:
    assert clock("clock", ahead, "the broker").level == level


def test_a_check_that_hangs_or_fails_is_a_result() -> None:
    never = threading.Event()

    def hangs() -> Iterator[Result]:
        yield checks.ok("first", "good")
        never.wait(30)

    def fails() -> Iterator[Result]:
        yield from ()
        raise RuntimeError("broken")

    found = checks.run({"hangs": hangs, "fails": fails}, timeout=0.2)
    never.set()
    assert [row.level for row in found] == ["ok", "fail", "fail"]
    assert "no answer within" in found[1].message
    assert "broken" in found[2].message
