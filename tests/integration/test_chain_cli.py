"""`vxctl audit verify` and `export` against a controller at work, and over the API with whatever is given."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Mode
from controller.audit.chain import START
from controller.db.engine import Database, open_database
from tests.api_client import TestClient, assert_problem, shared_app
from tests.controller_process import (
    VXCTL,
    ControllerProcess,
    assert_clear_error,
    environment,
    vxctl,
)
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot
from tests.trail import behind_our_back, head, record

ROWS = 3_000


@pytest.fixture
def controller(tmp_path: Path, broker_url: str) -> Iterator[ControllerProcess]:
    """A controller with an audit trail."""
    with FakeDocker(tmp_path / "docker.sock", snapshot()) as docker:
        process = ControllerProcess(tmp_path, broker_url=broker_url, docker_url=docker.url)
        database = open_database(process.database_url)
        record(database, ROWS)
        database.close()
        with process:
            yield process


def broken(controller: ControllerProcess, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A check that finds something."""
    done = vxctl("audit", "verify", *arguments, url=controller.url)
    assert (done.returncode, done.stderr) == (ExitStatus.NO, "")
    return done


def test_verify_and_export_from_end_to_end(controller: ControllerProcess, tmp_path: Path) -> None:
    said = controller.vxctl("audit", "verify")
    assert f"intact: {ROWS + 1} rows" in said, "with the one about the first token"
    kept = next(line for line in said.splitlines() if line.startswith("head: ")).split()[1]
    assert kept in controller.log(), "told at the start"
    exported = tmp_path / "export.jsonl"
    exported.write_text(controller.vxctl("audit", "export"))
    assert len(exported.read_text().splitlines()) == ROWS + 3
    answer = controller.json("audit", "verify", "--from-archive", str(exported), "--expect", kept)
    assert (answer["intact"], answer["head"], answer["finding"]) == (True, kept, None)
    alone = vxctl("audit", "verify", "--offline", "--from-archive", str(exported))
    assert (alone.returncode, alone.stderr) == (0, "")
    assert kept in alone.stdout

    database = open_database(controller.database_url)
    behind_our_back(database, "UPDATE audit SET reason = 'nothing' WHERE position = 2000")
    database.close()
    done = broken(controller)
    assert "BROKEN at position 2000, row id 2000: edited" in done.stdout
    assert json.loads(broken(controller, "-o", "json").stdout)["finding"]["position"] == 2000
    forged = kept[:-4] + "0000"
    done = broken(controller, "--offline", "--from-archive", str(exported), "--expect", forged)
    assert "rewritten" in done.stdout


def test_an_export_shows_its_progress_on_a_terminal_only(controller: ControllerProcess) -> None:
    master, slave = pty.openpty()
    command = [VXCTL, "audit", "export", "--url", controller.url]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=slave, env=environment(), check=True
    )
    os.close(slave)
    said = os.read(master, 100_000)
    os.close(master)
    assert f"{ROWS + 1} rows exported...\r\x1b[K".encode() in said
    assert said.endswith(b"\r\x1b[K"), "nothing of it stays"
    assert len(done.stdout.splitlines()) == ROWS + 3
    assert vxctl("audit", "export", url=controller.url).stderr == ""


def test_what_cannot_be_done_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for arguments, words, status in (
        (("verify", "--offline"), "nothing to check", ExitStatus.USAGE),
        (("verify", "--expect", "12"), "POSITION:HASH", ExitStatus.USAGE),
        (("verify", "--from-archive", str(path)), "cannot be read", ExitStatus.ERROR),
        (("export", "--url", "http://127.0.0.1:1"), "no controller answers", ExitStatus.ERROR),
        (("verify", "--url", "http://127.0.0.1:1"), "no controller answers", ExitStatus.ERROR),
    ):
        assert_clear_error(vxctl("audit", *arguments), words, status)


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    """The API over a short trail."""
    record(database, 12)
    with TestClient(
        shared_app(database, Mode.OBSERVE),
        raise_server_exceptions=False,
    ) as client:
        yield client


def test_a_check_is_done_in_pieces(client: TestClient, database: Database) -> None:
    answer: dict[str, Any] = {"done": False, "reached": None}
    steps = 0
    while not answer["done"]:
        parameters = {"rows": 5} | ({"after": answer["reached"]} if answer["reached"] else {})
        answer = client.get("/api/v1/audit/verify", params=parameters).json()
        steps += 1
    assert answer["reached"] == answer["head"] == str(head(database))
    assert steps >= 1


@pytest.mark.parametrize(
    ("path", "parameters", "named"),
    [
        ("verify", {"after": "x"}, "after"),
        ("verify", {"after": "1:00"}, "after"),
        ("verify", {"after": "9" * 30 + ":" + "0" * 64}, "after"),
        ("verify", {"expect": "1"}, "expect"),
        ("verify", {"expect": [str(START)] * 11}, "expect"),
        ("verify", {"rows": 0}, "rows"),
        ("verify", {"rows": 10**9}, "rows"),
        ("export", {"after": "\0"}, "after"),
        ("export", {"since": "yesterday"}, "since"),
        ("export", {"since": "2030-01-01T00:00:00"}, "since"),
    ],
)
def test_bad_parameters_are_named(
    client: TestClient, path: str, parameters: dict[str, Any], named: str
) -> None:
    answer = client.get(f"/api/v1/audit/{path}", params=parameters)
    assert_problem(answer, 422, named)


@pytest.mark.parametrize("after", ["5:" + "0" * 64, "999:" + "f" * 64])
def test_a_forged_place_proves_nothing_and_breaks_nothing(client: TestClient, after: str) -> None:
    answer = client.get("/api/v1/audit/verify", params={"after": after})
    assert answer.status_code == 200
    assert answer.json()["finding"] is not None


def test_an_export_of_what_was_pruned_is_refused(client: TestClient, database: Database) -> None:
    behind_our_back(
        database,
        "INSERT INTO audit_anchors (position, hash, rows, archive, at) "
        "SELECT position, hash, 5, 'x', stored_at FROM audit WHERE position = 5",
        "DELETE FROM audit WHERE position <= 5",
    )
    answer = client.get("/api/v1/audit/export", params={"after": str(START)})
    assert_problem(answer, 410, "were pruned", hint="archives")
