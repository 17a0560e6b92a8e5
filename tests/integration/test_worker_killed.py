"""Every removal has its record, whenever the worker is killed; the witness is `ip monitor`."""

import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from contract.messages import Acknowledgement, ReconcileReport
from contract.verdicts import Mode, Stage
from controller.db.audit_models import AuditRow
from controller.db.engine import Database, open_database
from controller.db.models import DueNode, Node
from controller.runs.reports import ReportIntake
from tests.builders import NODE, VNI
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import Controller, running, told_at_start
from tests.killed_worker import POINTS
from tests.reports import believed
from tests.servers import RedisServer, await_true
from tests.signed import give_key, key_of
from tests.stored import audit
from tests.trail import check
from worker.remove import MIN_GROUP

pytestmark = pytest.mark.privileged

_DELETED = re.compile(r"^Deleted (\d+): (vx-[^:@\s]+)", re.MULTILINE)

UNKNOWABLE = {"after the deletion", "before the outcome", "half the outcome"}
"""Points between a deletion and its record: all that can be known later is that the device is gone."""


class Witness:
    """Writes down every deletion of a VXLAN device of Docker's name in a namespace."""

    def __init__(self, host: Namespace) -> None:
        self._host = host
        self._text = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._host.command("stdbuf", "-oL", "ip", "monitor", "link"),
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            # Again and again: what happens before it listens it never tells.
            await_true(lambda: self._blink("vx-begin"), "the witness listens", pause=0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(60)

    def _blink(self, name: str) -> int:
        """Let a link of ours come and go; return how often it was seen to go so far."""
        self._host.ip(f"link add {name} type bridge")
        self._host.ip(f"link delete {name}")
        return self._names().count(name)

    def _names(self) -> list[str]:
        return [name for _, name in _DELETED.findall(self._text)]

    def deletions(self) -> Counter[tuple[int, str]]:
        """How often each device was deleted."""
        before = self._names().count("vx-end")
        self._blink("vx-end")
        await_true(lambda: self._names().count("vx-end") > before, "it has seen all up to now")
        found = ((int(index), name) for index, name in _DELETED.findall(self._text))
        return Counter(each for each in found if each[1] not in ("vx-begin", "vx-end"))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._text += line


class Records:
    """The controller's side: takes reports in, and acknowledges what is stored."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.database: Database = open_database(f"sqlite:///{folder / 'controller.db'}")
        with self.database.write() as session:
            node = Node(id=NODE, hostname="one", role="worker", availability="active")
            node.state, node.address, node.due = "ready", "10.0.0.1", DueNode()
            session.add(node)
        self._intake = ReportIntake(
            self.database, resync=timedelta(minutes=1), notify=lambda *_: None
        )
        self._controller = Controller(server)

    def ask(self, mode: Mode = Mode.ENFORCE) -> None:
        """Send a request that acknowledges what is stored."""
        with self.database.read() as session:
            node = session.get_one(Node, NODE)
        stored = node.journal_id and Acknowledgement(
            journal_id=node.journal_id, through=node.journal_through
        )
        self._controller.ask(acknowledged=stored, mode=mode)

    def take_in(self) -> list[ReconcileReport]:
        """Take in the reports that are there."""
        reports = self._controller.reports()
        for report in reports:
            self._intake.reports([believed(report)])
        return reports

    def rows(self, *stages: Stage) -> list[AuditRow]:
        """The audit rows of these stages."""
        return [row for row in audit(self.database) if row.stage in stages]


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


@pytest.fixture
def records(tmp_path: Path, redis_server: RedisServer, broker_url: str) -> Iterator[Records]:
    records = Records(tmp_path, redis_server)
    yield records
    records.database.close()


@pytest.mark.parametrize(
    ("point", "count"),
    [
        *((point, 2) for point in POINTS),
        *((point, MIN_GROUP) for point in ("before the deletion", "after the deletion")),
    ],
)
def test_every_deletion_has_one_record_whenever_the_worker_is_killed(
    host: Namespace,
    redis_server: RedisServer,
    records: Records,
    tmp_path: Path,
    point: str,
    count: int,
) -> None:
    killed: Sequence[str] = (sys.executable, "-m", "tests.killed_worker", point, "run")
    with Witness(host) as witness:
        with running(host, tmp_path, redis_server.url, command=killed) as worker:
            for number in range(count):
                host.add_vxlan(f"vx-{VNI + number:06x}-n0fxr", VNI + number)

            def dead() -> bool:
                records.ask()
                records.take_in()
                return worker.process.poll() is not None

            await_true(dead, f"the worker is killed {point}", pause=0.2)
            assert worker.process.returncode == -signal.SIGKILL
        with running(host, tmp_path, redis_server.url) as worker:

            def clean() -> bool:
                records.ask()
                reports = records.take_in()
                return any(not each.entries and not each.devices for each in reports)

            await_true(clean, "all is removed, told and acknowledged", pause=0.2)
            assert worker.entries() == [], "what was acknowledged is trimmed"
        deletions = witness.deletions()

    assert sorted(deletions.values()) == [1] * count
    applied = Counter((row.ifindex, row.name) for row in records.rows(Stage.APPLIED))
    verified = Counter((row.ifindex, row.name) for row in records.rows(Stage.VERIFIED))
    assert verified == deletions, "one record each, and none of what did not happen"
    assert applied <= deletions
    assert bool(verified - applied) == (point in UNKNOWABLE)
    planned = Counter((row.ifindex, row.run_id) for row in records.rows(Stage.PLANNED))
    concluded = Counter(
        (row.ifindex, row.run_id) for row in records.rows(Stage.APPLIED, Stage.UNCERTAIN)
    )
    assert planned == concluded, "each plan has an end"
    assert check(records.database) is None


# The journal's disk.


def test_nothing_is_removed_while_the_journals_disk_is_full(
    host: Namespace, redis_server: RedisServer, records: Records, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    host.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    host.run("cp", str(give_key(tmp_path / "node.key", key_of(NODE))), str(disk))
    with (
        Witness(host) as witness,
        running(host, tmp_path, redis_server.url, JOURNAL=str(disk / "journal")),
    ):
        host.run("sh", "-c", f"cat /dev/zero > {disk}/ballast || true")
        # More than what still fits into the page that the journal has already.
        for number in range(count := 20):
            host.add_vxlan(f"vx-{VNI + number:06x}-n0fxr", VNI + number)

        def cannot_record(mode: Mode) -> bool:
            records.ask(mode)
            error = "No space left on device; nothing is removed without a record"
            return any(error in (each.error or "") for each in records.take_in())

        # First until all are known as orphans, which cannot be recorded either.
        for mode in (Mode.OBSERVE, Mode.ENFORCE):
            await_true(partial(cannot_record, mode), f"the worker says so ({mode})", pause=0.2)
        assert not witness.deletions()
        host.run("rm", f"{disk}/ballast")

        def removed() -> bool:
            records.ask()
            records.take_in()
            return len(records.rows(Stage.APPLIED)) == count

        await_true(removed, "with room again, they are removed", pause=0.2)
        assert sum(witness.deletions().values()) == count


def test_a_disk_that_cannot_be_written_is_told_at_the_start(
    host: Namespace, broker_url: str, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    host.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk))
    line = told_at_start(host, broker_url, tmp_path, {"JOURNAL": str(disk / "journal")})
    assert "Read-only file system" in line


def test_a_second_worker_on_one_journal_is_told_so(
    host: Namespace, redis_server: RedisServer, broker_url: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    with running(host, tmp_path, redis_server.url) as worker:
        line = told_at_start(host, broker_url, tmp_path, {"JOURNAL": str(journal)})
        assert "in use by another worker" in line
        assert worker.end(signal.SIGKILL) == -signal.SIGKILL
    with running(host, tmp_path, redis_server.url):
        pass
