"""`vxlan-worker run` as a real process, with a real Redis, in a private network namespace."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from contract.messages import (
    Acknowledgement,
    Drift,
    Hello,
    JournalEntry,
    ReconcileReport,
    ReconcileRequest,
    Stamp,
    SwarmReading,
)
from contract.queues import (
    CONTROLLER_QUEUE,
    DRIFT_TASK,
    HELLO_TASK,
    RECONCILE_TASK,
    REPORT_TASK,
    node_queue,
)
from contract.runtime.broker import celery_app, queue_for_node
from contract.runtime.exit_status import ExitStatus
from contract.runtime.variables import PREFIX
from contract.verdicts import Mode, Outcome, Stage, Verdict
from tests import forked, signed
from tests.builders import NAME, NODE, OTHER_NODE, PORT, VNI, network
from tests.integration.namespaces import Namespace
from tests.promtool import check_metrics
from tests.servers import RedisServer, await_true
from tests.unit.test_worker_metrics import GET, Http, samples
from worker.journal import Journal

pytestmark = pytest.mark.privileged

PROGRAM: Final = str(Path(sys.executable).with_name("vxlan-worker"))
NO_NET_ADMIN: Final = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
ALL_PRIORITIES: Final = 100_000


class Controller:
    """The other side: it sends requests, and reads what the worker has to say.

    Its Swarm wants nothing on the node, and is read before each request.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._app = celery_app("test", server.url)
        self._heard: Stamp | None = None

    def ask(self, **fields: object) -> UUID:
        """Send a request, good unless a field says otherwise; return its run id."""
        now = datetime.now(UTC)
        request = ReconcileRequest(
            run_id=uuid4(),
            node_id=NODE,
            generation=1,
            issued_at=now,
            deadline=now + timedelta(minutes=1),
            mode=Mode.ENFORCE,
            data_path_port=PORT,
            desired=(),
            fence=0,
            max_removals=100,
            next_within=3600.0,
            reading=SwarmReading(after=self._heard, ready_seconds=3600),
        ).model_copy(update=fields)
        self.send([signed.request_text(request)])
        return request.run_id

    @property
    def heard(self) -> Stamp | None:
        """The newest stamp of the worker."""
        return self._heard

    def send(self, arguments: Sequence[object], task: str = RECONCILE_TASK) -> None:
        """Send the node a task."""
        self._app.send_task(task, args=arguments, queue=queue_for_node(NODE))

    def report_on(self, run_id: UUID) -> ReconcileReport:
        """Wait for the report on a run; what comes before it is dropped."""
        while True:
            report = self._next(REPORT_TASK, ReconcileReport)
            self._heard = report.stamp
            if report.run_id == run_id:
                return report

    def reports(self) -> list[ReconcileReport]:
        """The reports that are there; waits for none."""
        with self._server.client() as client:
            popped: Any = client.lpop(CONTROLLER_QUEUE, 1_000) or []
        messages = [json.loads(each) for each in reversed(popped)]
        reports = [
            signed.message_of(argument(each), REPORT_TASK, ReconcileReport, NODE)
            for each in messages
            if each["headers"]["task"] == REPORT_TASK
        ]
        for report in reports:
            self._heard = report.stamp
        return reports

    def drift(self) -> Drift:
        """Wait for a drift hint."""
        drift = self._next(DRIFT_TASK, Drift)
        self._heard = drift.stamp
        return drift

    def hello(self) -> Hello:
        """Wait for a Hello."""
        return self._next(HELLO_TASK, Hello)

    def hellos(self) -> list[str]:
        """What the Hellos say that are there; waits for none."""
        with self._server.client() as client:
            popped: Any = client.lpop(CONTROLLER_QUEUE, 1_000) or []
        return [
            signed.message_of(argument(each), HELLO_TASK, Hello, NODE).reason
            for each in map(json.loads, reversed(popped))
            if each["headers"]["task"] == HELLO_TASK
        ]

    def change(self) -> str:
        """Wait for a Hello that says that the devices changed; return what it says."""
        while not (hello := self.hello()).changed:
            pass
        return hello.reason

    def _next(self, task: str, model: type[signed.Payload]) -> signed.Payload:
        with self._server.client() as client:
            while True:
                popped: Any = client.brpop([CONTROLLER_QUEUE], timeout=60)
                assert popped is not None, "the worker says nothing"
                message = json.loads(popped[1])
                if message["headers"]["task"] == task:
                    return signed.message_of(argument(message), task, model, NODE)


def argument(message: Any) -> str:
    """The argument of a task, as Celery sends it."""
    return str(json.loads(base64.b64decode(message["body"]))[0][0])


class Worker:
    """A worker's process, its log and its journal."""

    def __init__(self, process: subprocess.Popen[bytes] | forked.Program, folder: Path) -> None:
        self.process = process
        self.journal = folder / "journal.jsonl"
        self._log = folder / "worker.log"

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text()

    def await_log(self, words: str) -> None:
        """Wait until it wrote this."""
        await_true(lambda: words in self.log, f"the worker's log says {words!r}")

    def entries(self) -> list[JournalEntry]:
        """What its journal holds."""
        lines = self.journal.read_bytes().split(b"\n")[1:-1]
        return [JournalEntry.model_validate_json(line) for line in lines]

    def stages(self) -> list[Stage]:
        """The stages that its journal holds."""
        return [entry.stage for entry in self.entries()]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def running(
    host: Namespace,
    folder: Path,
    broker_url: str,
    *,
    command: Sequence[str] = (PROGRAM, "run"),
    **environment: str,
) -> Iterator[Worker]:
    """A worker in a namespace, ready for requests; killed in the end."""
    defaults = {
        "NODE_ID": NODE,
        "BROKER_URL": broker_url,
        "JOURNAL": str(folder / "journal.jsonl"),
        "GRACE_SECONDS": "0.2",
    }
    given = defaults | environment
    defaults |= signed.give_worker(Path(given["JOURNAL"]), given["NODE_ID"] or NODE)
    with (folder / "worker.log").open("ab") as log:
        process = start(host, command, defaults | environment, log.fileno())
    try:
        worker = Worker(process, folder)
        worker.await_log("worker started")
        yield worker
    finally:
        process.kill()
        process.wait(60)


def start(
    host: Namespace, command: Sequence[str], settings: dict[str, str], errors: int
) -> subprocess.Popen[bytes] | forked.Program:
    """Start a worker in a namespace; forked, unless its program is another."""
    given = variables(settings)
    if command[0] == PROGRAM:
        return forked.Program(command, given, (0, 1, errors), host.files)
    return subprocess.Popen(host.command(*command), env=given, stderr=errors)


def variables(settings: dict[str, str]) -> dict[str, str]:
    """The environment of a worker with these settings and no others."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return ours | {f"{PREFIX}{name}": value for name, value in settings.items()}


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


@pytest.fixture
def server(redis_server: RedisServer, broker_url: str) -> RedisServer:
    """The session's Redis, emptied."""
    return redis_server


@pytest.fixture
def controller(server: RedisServer) -> Controller:
    return Controller(server)


@pytest.fixture
def worker(host: Namespace, server: RedisServer, tmp_path: Path) -> Iterator[Worker]:
    with running(host, tmp_path, server.url) as worker:
        yield worker


def heal(controller: Controller, **fields: object) -> ReconcileReport:
    """Ask until something was removed; return the report on it."""
    reports: list[ReconcileReport] = []

    def healed() -> bool:
        reports.append(controller.report_on(controller.ask(**fields)))
        assert reports[-1].outcome is Outcome.DONE, reports[-1].error
        return any(device.removed for device in reports[-1].devices)

    await_true(healed, "something is removed")
    return reports[-1]


# What it is there for.


def test_an_orphan_is_removed_once_recorded_and_told(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    host.add_sandbox("live", "vx-001003-live0", 0x1003, endpoint=True)
    host.add_vxlan(NAME, VNI)
    report = heal(controller)
    recorded = [Stage.DETECTED, Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED]
    assert [entry.stage for entry in report.entries] == recorded
    assert worker.stages() == recorded
    assert host.ip("-o link show type vxlan") == ""
    assert "vxlan0" in host.ip("-n live link show type vxlan"), "what lives is left alone"
    host.add_vxlan(NAME, VNI)  # Docker's next try.

    assert report.journal_id is not None
    through = Acknowledgement(journal_id=report.journal_id, through=report.entries[-1].sequence)
    after = controller.report_on(controller.ask(mode=Mode.OBSERVE, acknowledged=through))
    assert not any(entry.stage is Stage.PLANNED for entry in after.entries)


def test_an_orphan_hidden_in_a_sandbox_is_removed(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    host.add_sandbox("dead", NAME, VNI, endpoint=False)
    heal(controller)
    assert host.ip("-n dead -o link show type vxlan") == ""
    assert worker.stages()[-1] is Stage.VERIFIED


def test_a_device_that_outstays_the_grace_period_is_told_without_being_asked(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    host.add_vxlan(NAME, VNI)
    assert [device.name for device in controller.drift().devices] == [NAME]
    assert worker.stages() == [], "only told"


def test_a_foreign_device_that_went_is_told_with_its_link_event(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    """So that its conflict ends with the next run, and not with the resync."""
    host.ip(f"link add vxlan.calico type vxlan id {VNI} dstport {PORT}")
    needed = (network(VNI),)
    (conflict,) = controller.report_on(controller.ask(desired=needed)).devices
    assert conflict.verdict is Verdict.CONFLICT
    assert worker.process.poll() is None
    host.ip("link delete vxlan.calico")
    assert controller.change() == "its devices changed: gone: vxlan.calico in host"
    assert controller.report_on(controller.ask(desired=needed)).devices == ()


def test_a_storm_of_devices_is_told_a_few_times(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    assert controller.report_on(controller.ask()).devices == ()
    began = time.monotonic()
    for number in range(200):
        host.ip(f"link add vxlan.x type vxlan id {number + 1} dstport 8472")
        host.ip("link delete vxlan.x")
    host.ip("link add vxlan.last type vxlan id 999 dstport 8472")
    while "vxlan.last" not in controller.change():
        pass
    most = 5 + (time.monotonic() - began) / 15
    assert worker.log.count("devices are not those of the last report") <= most


def test_a_worker_that_only_observes_removes_nothing(
    host: Namespace, server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    host.add_vxlan(NAME, VNI)
    with running(host, tmp_path, server.url, MODE="observe") as worker:
        controller.drift()
        report = controller.report_on(controller.ask())
        assert "observe" in report.limitations[0]
        assert worker.stages() == [Stage.DETECTED]
    assert NAME in host.ip("link show")


def test_an_orphan_of_an_observed_network_stays_while_another_goes(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    kept = "vx-001003-n0fxr"
    host.add_vxlan(NAME, VNI)
    host.add_vxlan(kept, 0x1003)
    host.add_sandbox("dead", "vx-001004-n0fxr", 0x1004, endpoint=False)
    observed = network(0x1003, 0x1004, name="kept", prefix="kept0", mode=Mode.OBSERVE)

    def settled() -> bool:
        seen = controller.report_on(controller.ask(mode=Mode.OBSERVE)).devices
        return [each.verdict for each in seen] == [Verdict.ORPHAN] * 3

    await_true(settled, "all three have outstayed their grace period")
    report = heal(controller, known=(observed,))
    assert [each.identity.name for each in report.devices if each.removed] == [NAME]
    assert report.limitations == (
        "2 orphan(s) left alone: the mode of their network is observe (kept)",
    )
    assert kept in host.ip("-o link show type vxlan")
    assert host.ip("-n dead -o link show type vxlan") != ""

    heal(controller, known=(observed.model_copy(update={"mode": Mode.ENFORCE}),))
    assert host.ip("-o link show type vxlan") == host.ip("-n dead -o link show type vxlan") == ""


# What goes wrong while it runs.


def test_a_refused_request_changes_nothing(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    """The port that the watch goes by was taken from it: then no orphan was Docker's any more."""
    stale = controller.ask(
        deadline=datetime.now(UTC) - timedelta(minutes=1), data_path_port=1, next_within=1e6
    )
    assert controller.report_on(stale).outcome is Outcome.REFUSED
    host.add_vxlan(NAME, VNI)
    assert [device.name for device in controller.drift().devices] == [NAME]


def test_a_refused_request_promises_no_other(
    host: Namespace, server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    with running(host, tmp_path, server.url, SILENCE_SECONDS="12") as worker:
        stale = controller.ask(deadline=datetime.now(UTC) - timedelta(minutes=1), next_within=1e6)
        assert controller.report_on(stale).outcome is Outcome.REFUSED
        assert "no request has come for" in controller.hello().reason
        assert worker.process.poll() is None


def test_a_message_that_is_no_request_is_dropped_and_the_next_is_answered(
    worker: Worker, controller: Controller
) -> None:
    controller.send([])
    controller.send([1, 2, 3])
    controller.send(["text"])
    controller.send([{"version": 7}])
    controller.send([None], task="worker.self_destruct")
    worker.await_log("dropped invalid messages")
    assert controller.report_on(controller.ask()).outcome is Outcome.DONE
    assert worker.process.poll() is None


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"body": "e30=", "properties": {}, "headers": {}}',
        b'{"body": "e30=", "properties": {"delivery_tag": "1", "delivery_info": {}}, "headers": {}}',
    ],
)
def test_bytes_that_are_no_message_do_not_end_it(
    worker: Worker, controller: Controller, server: RedisServer, raw: bytes
) -> None:
    with server.client() as client:
        client.lpush(node_queue(NODE), raw)
    assert controller.report_on(controller.ask()).outcome is Outcome.DONE
    assert worker.process.poll() is None


def test_a_request_for_another_node_is_refused(worker: Worker, controller: Controller) -> None:
    controller.ask(node_id=OTHER_NODE)
    report = controller.report_on(controller.ask())
    assert report.outcome is Outcome.DONE
    assert report.limitations == (
        "1 message(s) to it were refused, the newest (wrong_audience): it is signed for another use",
    )
    assert controller.report_on(controller.ask()).limitations == ()


def test_a_redis_that_went_away_is_found_again_and_gets_what_could_not_be_told(
    host: Namespace, tmp_path: Path
) -> None:
    with RedisServer(tmp_path) as server, running(host, tmp_path, server.url) as worker:
        controller = Controller(server)
        controller.report_on(controller.ask())
        with server.client() as client:
            client.set(CONTROLLER_QUEUE, "not a list: nothing can be put here")
        untold = controller.ask()
        worker.await_log("broker unreachable")
        server.stop(signal.SIGKILL)
        server.start()
        assert controller.report_on(untold).outcome is Outcome.DONE
        assert controller.report_on(controller.ask()).outcome is Outcome.DONE
        assert worker.process.poll() is None


# How it ends.


def test_metrics_tell_of_a_run_a_refusal_and_a_second_worker(
    host: Namespace, server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    socket_file, other = tmp_path / "metrics.sock", tmp_path / "other"
    other.mkdir()

    def value(name: str, label: str = "") -> float:
        text = Http(socket_file, GET).body
        return samples(text)[f"vxlan_operator_worker_{name}", label]

    with running(host, tmp_path, server.url, METRICS_LISTEN=str(socket_file)) as worker:
        host.add_vxlan(NAME, VNI)
        heal(controller)
        controller.send(["nonsense"])
        await_true(lambda: value("messages_refused_total", "unsigned") == 1, "it is counted")
        assert value("runs_total", "done") >= 1
        assert value("journal_backlog") >= 1
        assert value("look_seconds_count") >= 2
        assert value("request_overdue_seconds") == 0
        assert value("capability", "net_admin") == 1
        assert value("loop_stalled", "link_watch") == 0
        assert value("second_worker") == 0
        check_metrics(Http(socket_file, GET).body)
        with running(host, other, server.url):
            await_true(lambda: value("second_worker") == 1, "the second worker is noticed")
            worker.await_log("another worker serves this node")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(worker: Worker, controller: Controller, number: int) -> None:
    controller.report_on(controller.ask())
    assert worker.end(number) == 0
    assert "worker stopped" in worker.log
    assert "Traceback" not in worker.log


def test_a_signal_ends_it_though_redis_is_away(host: Namespace, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, running(host, tmp_path, server.url) as worker:
        controller = Controller(server)
        controller.report_on(controller.ask())
        server.stop(signal.SIGKILL)
        host.add_vxlan(NAME, VNI)
        worker.await_log("broker unreachable")
        assert worker.end() == 0


def test_a_signal_in_the_middle_of_a_run_lets_it_finish_and_tell(
    host: Namespace, worker: Worker, controller: Controller
) -> None:
    count = 60
    names = [f"vx-{VNI + n:06x}-n0fxr" for n in range(count)]
    for n, name in enumerate(names):
        host.add_vxlan(name, VNI + n)
    await_true(lambda: len(controller.drift().devices) == count, "all have outstayed")
    run_id = controller.ask()
    await_true(lambda: Stage.PLANNED in worker.stages(), "the plan is on disk")
    assert worker.end() == 0
    assert worker.stages().count(Stage.APPLIED) == count
    assert worker.stages().count(Stage.VERIFIED) == count
    assert controller.report_on(run_id).outcome is Outcome.DONE


def test_after_a_kill_the_journal_says_what_a_new_worker_found(
    host: Namespace, server: RedisServer, controller: Controller, tmp_path: Path
) -> None:
    count = 60
    with running(host, tmp_path, server.url) as worker:
        for n in range(count):
            host.add_vxlan(f"vx-{VNI + n:06x}-n0fxr", VNI + n)
        await_true(lambda: len(controller.drift().devices) == count, "all have outstayed")
        controller.ask()
        await_true(lambda: Stage.PLANNED in worker.stages(), "the plan is on disk")
        worker.end(signal.SIGKILL)
    with running(host, tmp_path, server.url):
        controller.report_on(controller.ask())
    journal = Journal.open(tmp_path / "journal.jsonl")
    stages = [entry.stage for entry in journal.pending(ALL_PRIORITIES)]
    concluded = stages.count(Stage.UNCERTAIN) + stages.count(Stage.APPLIED)
    assert stages.count(Stage.PLANNED) == concluded
    assert journal.unconcluded() == []


# What is wrong at the start.


def test_a_worker_that_has_joined_starts_without_the_file_of_its_token(
    host: Namespace, redis_server: RedisServer, tmp_path: Path, controller: Controller
) -> None:
    """Whoever removes the secret does not have the workers fail at the next start."""
    settings = {"JOIN_TOKEN_FILE": "/nowhere/token"}
    with running(host, tmp_path, redis_server.url, **settings) as worker:
        assert worker.log.count("went on without a join token: its file is missing") == 1
        assert controller.report_on(controller.ask()).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"BROKER_URL": "redis+socket:///nowhere/redis.sock"}, "cannot be reached"),
        ({"BROKER_URL": "redis://127.0.0.1:1/0"}, "cannot be reached"),
        ({"BROKER_URL": "redis://127.0.0.1:port/0"}, "port is not a number"),
        ({"BROKER_URL": "http://127.0.0.1:1"}, "must begin with redis://"),
        ({"BROKER_URL": "nonsense"}, "must begin with redis://"),
        ({"NODE_ID": ""}, f"{PREFIX}NODE_ID"),
        ({"NODE_ID": "worker-1"}, f"{PREFIX}NODE_ID"),
        ({"JOURNAL": "/proc/journal.jsonl"}, f"{PREFIX}JOURNAL"),
        ({"JOURNAL": "/"}, f"{PREFIX}JOURNAL"),
        ({"JOURNAL": "/dev/null/journal"}, f"{PREFIX}JOURNAL"),
        ({"JOURNAL": "/etc/passwd"}, "not a journal of ours"),
        ({"CONTROLLER_KEY": ""}, "no key of the controllers is known here"),
        ({"CONTROLLER_KEY": "x"}, "controller_key: not base64url"),
        ({"JOIN_TOKEN": "vxj1_x"}, "not a join token"),
        ({"JOIN_TOKEN_FILE": "/nowhere/token", "CONTROLLER_KEY": ""}, "no join token in /nowhere/"),
        ({"JOIN_TOKEN_FILE": "/"}, "Is a directory"),
        ({"JOIN_TOKEN": signed.OTHER_JOIN_TOKEN.text()}, "name different keys"),
    ],
    ids=lambda value: " ".join(map("=".join, value.items())) if isinstance(value, dict) else "",
)
def test_what_is_missing_is_told_in_one_line(
    host: Namespace, broker_url: str, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    # Without an id dockerd is asked, which may answer later: no wrong usage.
    is_missing = {"JOURNAL", "BROKER_URL"} & {*settings} or settings.get("NODE_ID") == ""
    is_usage = words.startswith(("must begin with", "port is not")) or not is_missing
    status = ExitStatus.USAGE if is_usage else ExitStatus.ERROR
    line = told_at_start(host, broker_url, tmp_path, settings, status=status)
    assert words in line


def test_a_missing_capability_is_told_in_one_line(
    host: Namespace, broker_url: str, tmp_path: Path
) -> None:
    line = told_at_start(host, broker_url, tmp_path, {}, prefix=NO_NET_ADMIN)
    assert "CAP_NET_ADMIN" in line


def told_at_start(
    host: Namespace,
    broker_url: str,
    folder: Path,
    settings: dict[str, str],
    prefix: Sequence[str] = (),
    status: int = ExitStatus.ERROR,
) -> str:
    """Start a worker that cannot; return the line that it ends with."""
    defaults = {
        "NODE_ID": NODE,
        "BROKER_URL": broker_url,
        "JOURNAL": str(folder / "journal"),
        "CONTROLLER_KEY": signed.CONTROLLERS_KEY.public.text,
    }
    ended = subprocess.run(
        host.command(*prefix, PROGRAM, "run"),
        check=False,
        env=variables(defaults | settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    assert re.fullmatch(r"error: .+\nhint: .+\n", ended.stderr), ended.stderr
    return ended.stderr
