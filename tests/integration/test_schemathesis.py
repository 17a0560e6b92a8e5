"""Schemathesis on a real controller: the API answers what its specification says, to whatever request.

All checks and all phases, over HTTP. `SCHEMATHESIS_SEED` and `SCHEMATHESIS_EXAMPLES` change the requests.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from contract.verdicts import Stage, Verdict
from controller.db.engine import Database, open_database
from controller.db.models import Rejection
from controller.runs.reports import ReportIntake
from tests.controller_process import ControllerProcess, environment
from tests.fake_docker import FakeDocker
from tests.fake_swarm import MAIL, SHOP, snapshot, swarm_id, task
from tests.reports import device, entry, report
from tests.servers import RedisServer
from tests.stored import RESYNC, claim, put
from tests.tokens import HEADERS, give_token

_PROGRAM: Final = str(Path(sys.executable).parent / "st")
_SEED: Final = os.environ.get("SCHEMATHESIS_SEED", "1")
_EXAMPLES: Final = os.environ.get("SCHEMATHESIS_EXAMPLES", "50")
_TIMEOUT_SECONDS: Final = 800.0
_SWARM: Final = snapshot(
    "one", "two", "three", networks=[SHOP, MAIL], tasks=[task("t1", "one", "shop")]
)


@pytest.fixture(scope="module")
def controller(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[ControllerProcess]:
    """A controller on SQLite with nodes, networks, devices, runs, rejections and audit rows."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with FakeDocker(folder / "docker.sock", _SWARM) as docker:
        controller = ControllerProcess(folder, broker_url=redis_server.url, docker_url=docker.url)
        database = open_database(controller.database_url)
        _fill(database)
        give_token(database)
        database.close()
        try:
            controller.start()
            yield controller
        finally:
            controller.stop(signal.SIGKILL)


@pytest.mark.timeout(900)
def test_the_api_answers_as_its_specification_says(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            _PROGRAM, "run", f"{controller.url}/openapi.json",
            "--phases", "examples,coverage,fuzzing,stateful",
            "--checks", "all",
            "--max-examples", _EXAMPLES,
            "--seed", _SEED,
            "--request-timeout", "20",
            "--header", f"Authorization: {HEADERS['Authorization']}",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{controller.log()[-5000:]}"
    found = re.search(r"Selected: (\d+)/(\d+)", done.stdout)
    assert found is not None
    assert found[1] == found[2]


def _fill(database: Database) -> None:
    """Store what the workers of all nodes reported, and a rejection."""
    now = datetime.now(UTC)
    put(database, _SWARM, now)
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: now)
    for node_id, found in claim(database, now=now).items():
        name = next(each for each in ("one", "two", "three") if swarm_id(each) == node_id)
        told = report(
            found.run_id,
            node=name,
            devices=[device(1), device(2, Verdict.ORPHAN), device(3, Verdict.FOREIGN)],
            entries=[entry(1), entry(2, stage=Stage.DETECTED), entry(3, stage=Stage.PLANNED)],
            journal_id=uuid4(),
            limitations=("cannot see nsid 4",),
        )
        intake.report(told.model_dump_json())
    with database.write() as session:
        session.add(
            Rejection(
                task_id="t2".ljust(25, "z"),
                node_id=swarm_id("one"),
                vni=4097,
                cidr="10.0.1.0/24",
                error="subnet sandbox join failed",
                at=now,
                seen_at=now,
            )
        )
