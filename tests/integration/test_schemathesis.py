"""Schemathesis on a real controller: the API answers what its specification says, to whatever request.

All checks and all phases, over HTTP. The requests are the same each time, but for what they take from
answers; `SCHEMATHESIS_SEED` draws others, and `SCHEMATHESIS_EXAMPLES` more.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from contract.verdicts import Stage, Verdict
from controller.db.engine import Database, open_database
from controller.db.models import Rejection
from controller.runs.reports import ReportIntake
from tests.controller_process import HTTP, VXCTL, ControllerProcess, environment
from tests.fake_docker import FakeDocker
from tests.fake_swarm import MAIL, SHOP, snapshot, swarm_id, task
from tests.reports import believed, device, entry, report
from tests.servers import RedisServer
from tests.stored import RESYNC, claim, put
from tests.tokens import HEADERS, give_token

_PROGRAM: Final = str(Path(sys.executable).parent / "st")
_SEED: Final = os.environ.get("SCHEMATHESIS_SEED")
_EXAMPLES: Final = os.environ.get("SCHEMATHESIS_EXAMPLES", "50")
_PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
_TIMEOUT_SECONDS: Final = 800.0
_PATIENT: Final = (
    "from controller.access import failed_logins; failed_logins.CAPACITY = 1e9; "
    "from controller.cli import main; main()"
)
_SWARM: Final = snapshot(
    "one", "two", "three", networks=[SHOP, MAIL], tasks=[task("t1", "one", "shop")]
)


class PatientController(ControllerProcess):
    """A controller that answers any number of failed logins with 401.

    One check repeats each request with a wrong token and wants that answer; test_access.py has the 429.
    """

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        command = list(super().command())
        at = command.index(VXCTL)
        return [*command[:at], sys.executable, "-c", _PATIENT, *command[at + 1 :]]


@pytest.fixture(scope="module")
def controller(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[ControllerProcess]:
    """A controller on SQLite with nodes, networks, devices, runs, rejections and audit rows."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with FakeDocker(folder / "docker.sock", _SWARM) as docker:
        controller = PatientController(folder, broker_url=redis_server.url, docker_url=docker.url)
        database = open_database(controller.database_url)
        _fill(database)
        give_token(database)
        database.close()
        with controller.running():
            yield controller


@pytest.mark.timeout(900)
def test_the_api_answers_as_its_specification_says(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            "setpriv", "--pdeathsig", "KILL", "--",
            _PROGRAM, "run", str(_specification(controller, tmp_path)),
            "--url", controller.url,
            "--phases", ",".join(_PHASES),
            "--checks", "all",
            "--max-examples", _EXAMPLES,
            *(["--seed", _SEED] if _SEED else ["--generation-deterministic"]),
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
    for phase in _PHASES:
        assert re.search(rf"✅ +{phase.title()} \(in ", done.stdout), done.stdout
    found = re.search(r"Selected: (\d+)/(\d+)", done.stdout)
    assert found is not None
    assert found[1] == found[2]


def _specification(controller: ControllerProcess, folder: Path) -> Path:
    """Write the controller's specification without `watch`: such an answer never ends."""
    found = HTTP.get(f"{controller.url}/openapi.json").raise_for_status().json()
    for path in found["paths"].values():
        for operation in path.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [each for each in parameters if each["name"] != "watch"]
    file = folder / "openapi.json"
    file.write_text(json.dumps(found))
    return file


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
        intake.reports([believed(told)])
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
