"""The leader's parts, and the threads that run them."""

import math
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from celery import Celery
from kombu import Queue

from contract.messages import Drift, ReconcileReport
from contract.queues import DRIFT_TASK, HELLO_TASK, REPORT_TASK
from contract.runtime.presence import Presence
from contract.verdicts import Mode
from controller.audit.maintenance import Maintenance
from controller.audit.retention import AuditRetention
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.health.live import Health
from controller.leadership.fenced import FencedDatabase
from controller.leadership.lease import Lease
from controller.process.consumer import Consumer
from controller.process.loops import Loops, every
from controller.process.settings import CoreSettings
from controller.runs.dispatch import Dispatcher
from controller.runs.hints import HintIntake
from controller.runs.inbox import Inbox
from controller.runs.presence import PresenceWatch
from controller.runs.reports import ReportIntake
from controller.safety.breaker import BreakerLimits
from controller.safety.expiry import PauseExpiry
from controller.safety.suppressed import SuppressedCount
from controller.swarm.close_watch import CloseWatch
from controller.swarm.events import Events, Hints
from controller.swarm.manager import DockerSwarm
from controller.swarm.readings import Readings
from controller.swarm.sync import Sync
from controller.trust.keyring import Keyring
from controller.trust.reception import Reception
from controller.workqueue.priorities import BULK, URGENT, PriorityClass
from controller.workqueue.retention import RunRetention

_STOP_SECONDS: Final = 5.0
_RETENTION_SECONDS: Final = 5.0
"""A batch per step is twice the rows that 5,000 nodes write at the default resync."""

_PAUSES_SECONDS: Final = 1.0
"""A pause ends at most this much late."""

_GATHER_SECONDS: Final = 0.2
"""Events come in bursts, which are gathered before the Swarm is read."""


class LeaderLoops:
    """The leader's work: every controller builds it, and the leader starts it.

    Args:
        database: not fenced.
        health: receives failures of publishing.
        lease: fences all writes.
        keys: sign requests, and verify what workers send.
        queues: to consume.
        silence: seconds without a message after which the consumer is tested; None: never.
    """

    def __init__(
        self,
        settings: CoreSettings,
        *,
        limits: BreakerLimits,
        swarm: DockerSwarm,
        app: Celery,
        database: Database,
        health: Health,
        lease: Lease,
        keys: Keyring,
        queues: Sequence[Queue],
        silence: float | None,
    ) -> None:
        mode = Mode(settings.mode)
        resync = timedelta(seconds=settings.resync_seconds)

        led = FencedDatabase(database, lease)
        self._lease = lease
        self._keys = keys
        self._sync_seconds = settings.sync_seconds
        self._hints = Hints()
        readings = Readings(self._hints)
        of_signs = Reception(led, keys)
        presence = PresenceWatch(database, Presence(app).read, of_signs.sign_of_life, resync=resync)
        self._dispatcher = Dispatcher(
            led,
            app,
            keys,
            mode=mode,
            run_timeout=timedelta(seconds=settings.run_timeout_seconds),
            resync=resync,
            reading=readings.newest,
            fence=lease.fence,
            broker=health.broker,
            alive_every=presence.every,
            limits=limits,
        )
        self.notify = self._dispatcher.notify
        self.requeue = self._dispatcher.requeue
        self._events = Events(DockerSwarm(settings.docker_host), self._hints)
        self._sync = Sync(
            swarm,
            led,
            hints=self._hints,
            readings=readings,
            notify=self.notify,
            period=settings.sync_seconds,
            resync=settings.resync_seconds,
            share=settings.sync_share,
        )
        close_watch = CloseWatch(
            DockerSwarm(settings.docker_host),
            self._sync.rejections,
            self._sync.networks,
            share=settings.sync_share / 2,
        )
        days, folder = settings.audit_retention_days, settings.audit_archive_directory
        audit_retention = AuditRetention(led, days=days, folder=folder) if days else None
        keeper = RunRetention(led, retention=timedelta(days=settings.run_retention_days))
        conditions = ConditionStore(
            led,
            mode=mode,
            resync=resync,
            broker=health.broker_fault_that_stays,
            sign_of=presence.of,
        )
        suppressed = SuppressedCount(led, mode=mode)
        intake = ReportIntake(
            led,
            resync=resync,
            readings=readings,
            expect=close_watch.expect,
            limits=limits,
            notify=self.notify,
        )
        pauses = PauseExpiry(led, self.notify)
        hints = HintIntake(led, readings=readings, notify=self.notify)
        self._inbox = Inbox(intake.reports)
        reception = Reception(led, keys)
        tasks = {
            REPORT_TASK: reception.handler(REPORT_TASK, ReconcileReport, self._inbox.put),
            DRIFT_TASK: reception.handler(DRIFT_TASK, Drift, hints.drift),
            HELLO_TASK: reception.hello(hints.hello),
        }
        self._consumer = Consumer(app, tasks, queues, math.inf if silence is None else silence)
        self._work = Loops(
            {
                **({} if silence is None else {"self-test": self._consumer.check}),
                "sync": self._read,
                "close watch": close_watch.step,
                "intake": self._inbox.step,
                "dispatch": partial(self._dispatch, BULK),
                "dispatch urgent": partial(self._dispatch, URGENT),
                "housekeeping": every(_RETENTION_SECONDS, keeper.step),
                "conditions": conditions.step,
                "presence": presence.step,
                "suppressed": suppressed.step,
                "pauses": every(_PAUSES_SECONDS, pauses.step),
                "audit": Maintenance(led, audit_retention).step,
            }
        )
        # Apart, because `stop` does not wait for it: it may be in the middle of a long silence.
        self._hearing = Loops({"events": self._hear})

    def start(self) -> None:
        """Start, once this process leads."""
        self._keys.look()  # Before the first request: it names the keys, and another may sign by now.
        self._consumer.start()
        self._work.start()
        self._hearing.start()

    def stop(self) -> None:
        """End, within ten seconds, if it was started."""
        self._hearing.stop(0.0)
        self.notify()
        self._hints.wake()
        self._work.stop(_STOP_SECONDS)
        if self._lease.held:
            self._consumer.stop()
            self._inbox.empty()

    def _read(self) -> float:
        self._sync.step()
        return _GATHER_SECONDS if self._hints.wait(self._sync_seconds) else 0.0

    def _dispatch(self, priority_class: PriorityClass) -> float:
        backoff = self._dispatcher.step(priority_class)
        if not backoff:
            self._dispatcher.wait(priority_class)
        return backoff

    def _hear(self) -> float:
        return 0.0 if self._events.step() else self._sync_seconds
