"""What `vxlan-worker scan --fix` removed reaches the audit trail by the worker's journal."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Mode, Stage
from controller.db.states import SCAN
from tests.builders import NAME, NODE, VNI
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_killed import Records
from tests.integration.test_worker_process import PROGRAM, Worker, running
from tests.servers import RedisServer, await_true
from tests.trail import check
from worker.journal import Journal

pytestmark = pytest.mark.privileged

USER = 4711
"""The worker's, as systemd would make one for the unit."""


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


@pytest.fixture
def records(tmp_path: Path, redis_server: RedisServer, broker_url: str) -> Iterator[Records]:
    records = Records(tmp_path, redis_server)
    yield records
    records.database.close()


def scan(
    host: Namespace, journal: Path, *options: str, under: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run it as root, who was called alice before; `under`: a command to run it under."""
    program = (PROGRAM, "scan", "--grace-seconds", "0.3", "--docker-socket", "/nonexistent")
    return subprocess.run(
        host.command(*under, *program, "--journal", str(journal), *options),
        env=os.environ | {"SUDO_USER": "alice"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def taken_over(records: Records, worker: Worker, count: int) -> None:
    """Ask for runs, which only look, until that many removals are stored and acknowledged."""

    def stored() -> bool:
        records.ask(Mode.OBSERVE)
        records.take_in()
        return len(records.rows(Stage.VERIFIED)) == count and not worker.entries()

    await_true(stored, "the scan's removals are stored", pause=0.2)


def test_what_a_scan_removes_beside_a_running_worker_is_in_the_audit_trail(
    host: Namespace, redis_server: RedisServer, records: Records, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    with running(host, tmp_path, redis_server.url) as worker:
        host.add_vxlan(NAME, VNI)
        host.add_sandbox("dead", "vx-001003-n0fxr", 0x1003, endpoint=False)
        done = scan(host, journal, "--fix")
        assert done.returncode == 0, done.stderr
        *_, last = done.stderr.splitlines()
        assert last.startswith(f"recorded: the worker takes {journal}.scan-")
        taken_over(records, worker, 2)
    assert not list(tmp_path.glob("*.scan-*"))
    stages = (Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED)
    rows = records.rows(*stages)
    assert sorted(row.stage for row in rows) == sorted(2 * stages)
    assert {(row.actor, row.claimed_name, row.node_id) for row in rows} == {(SCAN, "alice", NODE)}
    assert len({row.run_id for row in rows}) == 1, "a scan is one timeline"
    assert all(row.key_id for row in rows), "the node's key vouches for it"
    assert check(records.database) is None


def test_a_device_that_a_person_names_is_recorded_likewise(
    host: Namespace, redis_server: RedisServer, records: Records, tmp_path: Path
) -> None:
    host.add_vxlan(NAME, VNI)
    host.ip(f"link set {NAME} up")
    ifindex = host.ip(f"-o link show {NAME}").split(":")[0]
    journal = tmp_path / "journal.jsonl"
    Journal.open(journal).close()
    done = scan(host, journal, "--remove", f"host#{ifindex}")
    assert done.returncode == 0, done.stderr
    with running(host, tmp_path, redis_server.url) as worker:
        taken_over(records, worker, 1)
    (row,) = records.rows(Stage.APPLIED)
    assert (row.actor, row.claimed_name) == (SCAN, "alice")
    assert row.reason.startswith("a person has named it")


@pytest.mark.parametrize("point", ["before the deletion", "after the deletion"])
def test_a_scan_that_is_killed_leaves_a_plan_whose_end_the_worker_finds(
    host: Namespace, redis_server: RedisServer, records: Records, tmp_path: Path, point: str
) -> None:
    """The plan is on disk before the kernel is asked; the worker looks what came of it."""
    host.add_vxlan(NAME, VNI)
    journal = tmp_path / "journal.jsonl"
    Journal.open(journal).close()
    killed = (sys.executable, "-m", "tests.killed_worker", point)
    options = ("--grace-seconds", "0.3", "--docker-socket", "/nonexistent", "--journal", journal)
    subprocess.run(
        host.command(*killed, "scan", "--fix", *map(str, options)),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (NAME in host.ip("-o link show")) == (point == "before the deletion")
    with running(host, tmp_path, redis_server.url):

        def concluded() -> bool:
            records.ask(Mode.OBSERVE)
            records.take_in()
            return bool(records.rows(Stage.VERIFIED, Stage.LINGERING))

        await_true(concluded, "the worker has looked what came of the plan", pause=0.2)
    (uncertain,) = records.rows(Stage.UNCERTAIN)
    (end,) = records.rows(Stage.VERIFIED, Stage.LINGERING)
    assert (uncertain.actor, end.actor) == (SCAN, SCAN)
    assert end.stage is (Stage.LINGERING if point == "before the deletion" else Stage.VERIFIED)


def test_root_scans_beside_a_worker_of_a_user_of_its_own(
    host: Namespace, redis_server: RedisServer, records: Records, tmp_path: Path
) -> None:
    """As with our systemd unit; root also makes the worker's next key."""
    state = tmp_path / "state"
    state.mkdir(0o700)
    journal = state / "journal.jsonl"
    capabilities = "+net_admin,+net_broadcast"
    as_user = (
        "setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
        "--inh-caps", capabilities, "--ambient-caps", capabilities,
    )  # fmt: skip
    for folder in tmp_path.parents:
        if folder.owner() == "root" and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o711)
    environment = {"JOURNAL": str(journal)}
    with running(host, tmp_path, redis_server.url, **environment):
        pass
    for file in (state, *state.iterdir()):
        os.chown(file, USER, USER)
    rotated = subprocess.run(
        [PROGRAM, "key", "rotate", "--journal", str(journal)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert rotated.returncode == 0, rotated.stderr
    host.add_vxlan(NAME, VNI)
    assert scan(host, journal, "--fix").returncode == 0
    assert {file.stat().st_uid for file in state.iterdir()} == {USER}
    with running(
        host, tmp_path, redis_server.url, command=(*as_user, PROGRAM, "run"), **environment
    ):
        key = subprocess.run(
            [PROGRAM, "key", "--journal", str(journal)],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
    assert rotated.stdout.split()[2] == key.split()[1], "the worker has taken its next key"


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        ("mount -t tmpfs -o ro tmpfs {}", "there is no journal"),
        ("mount -t tmpfs -o size=4k tmpfs {0} && echo > {0}/journal.jsonl", "No space left"),
        (
            "mount -t tmpfs tmpfs {0} && echo > {0}/journal.jsonl && mount -o remount,ro {0}",
            "Read-only file system",
        ),
        ("mount -t tmpfs tmpfs {0} && ln -s /dev/null {0}/journal.jsonl", "not a regular file"),
    ],
)
def test_where_it_cannot_be_recorded_that_is_told_and_the_scan_goes_on(
    host: Namespace, tmp_path: Path, prepare: str, why: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    host.run("sh", "-c", prepare.format(disk))
    host.add_vxlan(NAME, VNI)
    done = scan(host, disk / "journal.jsonl", "--fix")
    assert done.returncode == 0, done.stderr
    warning, *steps = done.stderr.splitlines()[1:]
    assert warning.startswith("warning: ")
    assert why in warning
    assert warning.endswith("lack these removals, so keep what is printed here")
    assert [line.split(":")[0] for line in steps] == ["planned", "applied", "verified"]
    assert host.ip("-o link show type vxlan") == ""


def test_a_user_who_may_not_see_the_journal_is_told(host: Namespace, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    Journal.open(state / "journal.jsonl").close()
    host.add_vxlan(NAME, VNI)
    # Root without the capabilities that make files no matter.
    under = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    os.chown(state, USER, USER)
    done = scan(host, state / "journal.jsonl", "--fix", under=under)
    assert done.returncode == ExitStatus.DONE, done.stderr
    assert "cannot be reached: Permission denied" in done.stderr
