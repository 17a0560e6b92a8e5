"""A broker that loses, repeats, reorders and keeps back what it likes, and clocks that are an hour off.

Real are the database, Redis with its lists, the messages in them, and both sides' code. The kernel is a fake
one, so that every deletion is counted, and all clocks are one that goes on when told to.
"""

import base64
import json
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from contract.messages import ReconcileReport, ReconcileRequest
from contract.queues import CONTROLLER_QUEUE, RECONCILE_TASK, REPORT_TASK, node_queue
from contract.runtime.broker import celery_app
from contract.runtime.refusals import Refusals
from contract.runtime.transport import checked
from contract.signing.envelope import CONTROLLERS, KnownKey, Opener, Signer, node_address
from contract.signing.refusals import Reason, RefusedError
from contract.signing.replays import Replays
from contract.verdicts import Mode, Stage
from controller.db.engine import Database, open_database
from controller.runs.dispatch import Dispatcher
from controller.runs.reports import ReportIntake
from controller.swarm.readings import Readings
from controller.trust.keyring import Keyring
from controller.trust.reception import Reception
from controller.workqueue.clock import ClockCorrection
from tests import trail
from tests.bell import Bell
from tests.builders import identity, in_sandbox, leaked
from tests.fake_swarm import snapshot, swarm_id
from tests.scenarios.node import Node, TickingClock
from tests.servers import RedisServer
from tests.signed import CONTROLLERS_KEY, key_of, keyring, pin
from tests.stored import RESYNC, TIMEOUT, ask, audit, due_row, node_row, put
from worker.memory import NONCES

ONE = swarm_id("one")
VNI = 4097
LIVE = in_sandbox(endpoints=1, ifindex=5)


class OffClock(TickingClock):
    """A clock that is ahead of another one, or behind."""

    def __init__(self, true: TickingClock) -> None:
        super().__init__()
        self._true = true
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return self._true() + self.ahead

    def monotonic(self) -> float:
        return self._true.monotonic()

    def advance(self, seconds: float) -> datetime:
        """Let time pass for all."""
        self._true.advance(seconds)
        return self()


class Cluster:
    """A controller, a broker and a node."""

    def __init__(self, database: Database, client: redis.Redis, url: str, folder: Path) -> None:
        true = TickingClock()
        self.clock, self.workers_clock = OffClock(true), OffClock(true)
        self.database = database
        self.client = client
        self._app = celery_app("test", url)
        put(database, snapshot("one"))
        pin(database, ONE)
        self.readings = Readings(now=self.clock.monotonic)
        self.refused_by_controller = Refusals()
        self._dispatcher = Dispatcher(
            database,
            celery_app("controller", url),
            keyring(database),
            mode=Mode.ENFORCE,
            run_timeout=TIMEOUT,
            resync=RESYNC,
            reading=self.readings.newest,
            utcnow=self.clock,
        )
        self.correction = ClockCorrection(
            database, Bell(), resync=RESYNC, run_timeout=TIMEOUT, utcnow=self.clock
        )
        intake = ReportIntake(
            database, resync=RESYNC, readings=self.readings, notify=Bell(), utcnow=self.clock
        )
        reception = Reception(
            database, keyring(database), refused=self.refused_by_controller, utcnow=self.clock
        )
        self._take = reception.handler(
            REPORT_TASK, ReconcileReport, lambda opened: intake.reports([opened])
        )
        self.node = Node(ONE, folder, self.workers_clock)
        self.node.kernel.put(LIVE)
        self._signer = Signer(key_of(ONE), node_address(ONE), now=self.workers_clock)
        known = {CONTROLLERS_KEY.public.id: KnownKey(CONTROLLERS_KEY.public, CONTROLLERS)}
        self._opener = Opener(
            me=node_address(ONE), lookup=known.get, replays=Replays(NONCES), now=self.workers_clock
        )
        self.refused_by_worker = Refusals()

    def leak(self, number: int) -> None:
        """Let Docker leave a device."""
        name = f"vx-{VNI:06x}-{number:05d}"
        self.node.kernel.put(leaked(identity(ifindex=100 + number, name=name, vni=VNI)))

    def wait(self, seconds: float) -> None:
        """Let time pass, in which the worker's watch looks every few seconds."""
        while seconds > 0:
            self.clock.advance(min(seconds, 5.0))
            seconds -= 5.0
            self.node.idle.saw(self.node.kernel.look().devices)

    def dispatch(self) -> None:
        """Read the Swarm, and send what is due."""
        start = self.readings.begin()
        self.readings.end(start, {ONE: True})
        ask(self.database, "one", at=self.clock())
        self._dispatcher.step()

    def work(self) -> None:
        """Let the worker take what waits for it."""
        for argument in self._arguments(node_queue(ONE)):
            try:
                opened = self._opener.open(argument, RECONCILE_TASK, ReconcileRequest)
            except RefusedError as error:
                self.refused_by_worker.add(error)
                continue
            report = self.node.run(opened.payload)
            assert report is not None
            sealed = self._signer.seal(
                report.model_dump_json(), audience=CONTROLLERS, task=REPORT_TASK
            )
            self._app.send_task(REPORT_TASK, args=[sealed], queue=CONTROLLER_QUEUE)

    def take_in(self) -> None:
        """Let the controller take what waits for it."""
        for argument in self._arguments(CONTROLLER_QUEUE):
            self._take(argument)

    def _arguments(self, queue: str) -> Iterator[Any]:
        for raw in self.taken(queue):
            body = checked(raw, queue)["body"]
            yield json.loads(base64.b64decode(body))[0][0]

    def taken(self, queue: str) -> list[bytes]:
        """The messages of a queue, the oldest first, which are gone from it then."""
        found: Any = self.client.lrange(queue, 0, -1)
        self.client.delete(queue)
        return list(reversed(found))

    def put_back(self, queue: str, messages: list[bytes]) -> None:
        """Put messages into a queue, the oldest first."""
        if messages:
            self.client.lpush(queue, *messages)

    def leaks_left(self) -> int:
        """How many leaked devices are there."""
        return sum(device != LIVE for device in self.node.kernel.devices())


class BadBroker:
    """Does to the lists of a Redis what it likes."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._random = random.Random(seed)  # noqa: S311 -- the same each time
        self._kept: dict[str, list[tuple[datetime, bytes]]] = {}
        self._seen: dict[str, list[bytes]] = {}
        self.lost = 0

    def meddle(self, queue: str) -> None:
        """Lose, repeat, keep back and reorder what is there, and add what was there before."""
        now, dice = self._cluster.clock(), self._random
        kept, seen = self._kept.setdefault(queue, []), self._seen.setdefault(queue, [])
        delivered = [raw for at, raw in kept if at <= now]
        kept[:] = [each for each in kept if each[0] > now]
        for raw in self._cluster.taken(queue):
            seen.append(raw)
            what = dice.random()
            if what < 0.2:
                self.lost += 1
            elif what < 0.4:
                longest = dice.choice((60, 600, 4_000, 86_400))
                kept.append((now + timedelta(seconds=dice.uniform(1, longest)), raw))
            else:
                delivered += [raw] * dice.choice((1, 1, 2, 3))
        if seen and dice.random() < 0.5:
            delivered += dice.sample(seen, min(3, len(seen)))
        dice.shuffle(delivered)
        self._cluster.put_back(queue, delivered)

    def release(self, queue: str) -> None:
        """Deliver all that was kept back, and all that ever was there once more."""
        kept = [raw for _, raw in self._kept.pop(queue, [])]
        self._cluster.put_back(queue, kept + self._seen.pop(queue, []))


@pytest.fixture
def cluster(
    redis_server: RedisServer,
    broker_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    with (
        closing(open_database(f"sqlite:///{tmp_path / 'controller.db'}")) as database,
        redis_server.client() as client,
        capture_logs(),
    ):
        cluster = Cluster(database, client, broker_url, tmp_path)
        signer = Signer(CONTROLLERS_KEY, CONTROLLERS, now=cluster.clock)
        monkeypatch.setattr(Keyring, "signer", signer)
        yield cluster
        cluster.node.close()


def calm(cluster: Cluster, rounds: int = 12, seconds: float = 20) -> None:
    """Let so many runs go as they should."""
    for _ in range(rounds):
        cluster.wait(seconds)
        cluster.dispatch()
        cluster.work()
        cluster.take_in()
        cluster.correction.step()


def check_all_is_done_once(cluster: Cluster, leaks: int) -> None:
    """What leaked was removed and recorded, each once; nothing else was touched."""
    assert cluster.node.kernel.devices() == (LIVE,)
    deleted = [hit.identity for hit in cluster.node.kernel.hits]
    assert len(deleted) == len(set(deleted)) == leaks
    rows = audit(cluster.database)
    for stage in (Stage.DETECTED, Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED):
        names = [row.name for row in rows if row.stage is stage]
        assert len(names) == len(set(names)) == leaks, stage
    assert len({row.entry_id for row in rows}) == len(rows)
    assert trail.check(cluster.database) is None, "and its chain is whole"
    node = node_row(cluster.database)
    assert node.converged_generation == node.generation
    assert cluster.node.journal() == [], "all is acknowledged"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_broker_does_each_device_is_removed_and_recorded_once(
    cluster: Cluster, seed: int
) -> None:
    broker, leaks = BadBroker(cluster, seed), count(1)
    dice, made = random.Random(seed), 0  # noqa: S311 -- the same each time
    for _ in range(40):
        cluster.wait(dice.uniform(2, 90))
        if dice.random() < 0.3:
            made = next(leaks)
            cluster.leak(made)
        cluster.dispatch()
        broker.meddle(node_queue(ONE))
        cluster.work()
        broker.meddle(CONTROLLER_QUEUE)
        cluster.take_in()
        assert LIVE in cluster.node.kernel.devices()
    assert broker.lost > 5
    calm(cluster)
    check_all_is_done_once(cluster, made)
    # A day later it brings all that there ever was, in both directions.
    cluster.clock.advance(86_400)
    cluster.leak(made + 1)
    before = len(cluster.node.kernel.hits)
    for queue in (node_queue(ONE), CONTROLLER_QUEUE):
        broker.release(queue)
    cluster.work()
    assert len(cluster.node.kernel.hits) == before, "nothing of that is believed"
    cluster.take_in()
    calm(cluster)
    check_all_is_done_once(cluster, made + 1)
    for refused in (cluster.refused_by_worker, cluster.refused_by_controller):
        assert {Reason.EXPIRED, Reason.REPLAYED} <= refused.counts.keys()


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "behind"])
def test_a_nodes_clock_that_is_an_hour_off_costs_time_and_nothing_else(
    cluster: Cluster, hours: int
) -> None:
    cluster.leak(1)
    cluster.workers_clock.ahead = timedelta(hours=hours)
    calm(cluster)
    assert cluster.node.kernel.hits == []
    assert node_row(cluster.database).worker_seen_at is None, "and it does not count as healthy"
    refused = cluster.refused_by_controller if hours > 0 else cluster.refused_by_worker
    assert set(refused.counts) == {Reason.FROM_THE_FUTURE}
    assert refused.newest is not None
    assert "ahead of this machine's clock" in refused.newest.detail
    cluster.workers_clock.ahead = timedelta(0)
    calm(cluster)
    check_all_is_done_once(cluster, 1)


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "behind"])
def test_a_controllers_clock_that_was_an_hour_off_is_put_right(
    cluster: Cluster, hours: int
) -> None:
    """It had signed, and stored, what was dated so; its worker had heard that."""
    calm(cluster)
    cluster.clock.ahead = timedelta(hours=hours)
    cluster.leak(1)
    calm(cluster, rounds=6)
    assert cluster.node.kernel.hits == []
    cluster.clock.ahead = timedelta(0)
    assert due_row(cluster.database).run_id is not None
    calm(cluster)
    check_all_is_done_once(cluster, 1)
    last = node_row(cluster.database).last_run_at
    assert last is not None
    assert last > cluster.clock() - timedelta(minutes=1)


def test_a_node_that_is_due_in_an_hour_by_a_wrong_clock_is_due_at_once(cluster: Cluster) -> None:
    """Nobody asks for a run of it: its resync is what was dated so."""
    cluster.clock.ahead = cluster.workers_clock.ahead = timedelta(hours=1)
    calm(cluster, rounds=2)
    cluster.clock.ahead = cluster.workers_clock.ahead = timedelta(0)
    due = due_row(cluster.database).due_at
    assert due is not None
    assert due > cluster.clock() + timedelta(minutes=50)
    cluster.correction.step()
    due = due_row(cluster.database).due_at
    assert due is not None
    assert due <= cluster.clock()
