"""A database that 0.1.0 filled: upgraded by `vxctl`, its audit chain verified, and served by a controller."""

from pathlib import Path

import pytest
from sqlalchemy import text

from controller.db.engine import open_database, open_to_look
from controller.db.schema import version
from tests import old_database
from tests.controller_process import ControllerProcess, vxctl
from tests.fake_docker import FakeDocker
from tests.fake_swarm import network, snapshot
from tests.servers import RedisServer
from tests.trail import behind_our_back, check

NODES, NETWORKS, RUNS, AUDIT_ROWS = 20, 12, 200, 600


@pytest.fixture
def old(database_url: str) -> str:
    """The URL of a database of 0.1.0; each supported kind in turn."""
    old_database.make(
        database_url, nodes=NODES, networks=NETWORKS, runs=RUNS, audit_rows=AUDIT_ROWS
    )
    with open_to_look(database_url) as connection:
        assert version(connection).current == "0001"
    return database_url


def test_an_upgraded_database_is_verified_and_served(
    old: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    done = vxctl("db", "upgrade", "--database-url", old)
    assert done.returncode == 0, done.stderr
    assert vxctl("db", "check", "--database-url", old).stdout == "the schema is correct\n"
    state = snapshot(
        *(old_database.node_name(number) for number in range(NODES)),
        networks=[network(f"net{number}x", 4096 + number) for number in range(NETWORKS)],
        swarm="swarm",
    )
    with (
        FakeDocker(tmp_path / "docker.sock", state) as docker,
        ControllerProcess(
            tmp_path, broker_url=redis_server.url, docker_url=docker.url, database_url=old
        ) as controller,
    ):
        nodes = controller.json("get", "nodes")
        assert [each["hostname"] for each in nodes] == [
            old_database.node_name(number) for number in range(NODES)
        ]
        assert len(controller.json("status")["nodes"]) == NODES
        runs = controller.json("get", "runs", "--limit", "1000")
        assert sum(each["state"] == "succeeded" for each in runs) == RUNS
        found = controller.json("audit", "--node", old_database.node_name(3), "--limit", "1000")
        assert sum(each["stage"] == "applied" for each in found) == AUDIT_ROWS // NODES
        assert "intact" in controller.vxctl("audit", "verify")


def test_a_change_to_an_old_row_is_still_found(old: str) -> None:
    database = open_database(old)
    try:
        assert check(database) is None
        behind_our_back(database, "UPDATE audit SET reason = 'nothing' WHERE position = 300")
        finding = check(database)
        assert finding is not None
        assert finding.position == 300
        with database.read() as session:
            assert session.scalar(text("SELECT count(*) FROM audit")) == AUDIT_ROWS
    finally:
        database.close()
