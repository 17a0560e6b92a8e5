"""The controllers' key is rotated twice while a node is away, which follows when it is back."""

import json
from pathlib import Path

import pytest

from contract.runtime.key_file import read_key
from tests.conftest import empty_namespace
from tests.controller_process import controller_of, vxctl
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import running
from tests.servers import RedisServer, await_true

pytestmark = pytest.mark.privileged

SETTINGS = {"NODE_ID": swarm_id("one"), "WAIT_AT_START": "true"}


def test_a_node_that_missed_two_rotations_follows_and_works(
    tmp_path: Path, redis: RedisServer
) -> None:
    with (
        empty_namespace() as pid,
        FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker,
        controller_of(tmp_path / "c", docker, redis.url) as controller,
    ):
        host, file = Namespace(pid), tmp_path / "c" / "controller.key"

        def reports() -> bool:
            wait = ("--wait", "--timeout", "5s")
            return vxctl("requeue", "one", *wait, url=controller.url).returncode == 0

        def believed() -> list[str]:
            found: list[str] = json.loads((tmp_path / "trust.json").read_text())["controllers"]
            return found

        def signs() -> str:
            key = read_key(file)
            assert key is not None
            return key.public.text

        def rotate() -> str:
            """Rotate the controllers' key, though a node lacks it; return the new one."""
            before = signs()
            controller.vxctl("keys", "rotate", "--file", f"{file}.next")
            controller.vxctl("keys", "rotate", "--finish", "--force")
            await_true(lambda: signs() != before, "the next key is in its place")
            return signs()

        with running(host, tmp_path, redis.url, **SETTINGS) as worker:
            await_true(reports, "it is at work")
            first = signs()
            assert believed() == [first]
            worker.end()
        keys = [first, rotate(), rotate()]
        assert len(set(keys)) == 3
        with running(host, tmp_path, redis.url, **SETTINGS):
            await_true(reports, "it is back and works")
            assert believed() == keys[2:]
