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
from contract.runtime.probe import CommandConnection
from contract.runtime.throttle import Throttle
from contract.verdicts import Mode
from controller.audit.maintenance import Maintenance
from controller.audit.retention import AuditRetention
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.health.live import Health
from controller.leadership.fenced import FencedDatabase
from controller.leadership.lease import Lease
from controller.notifications.collect import NoticeCollector
from controller.notifications.deliver import Deliverer
from controller.notifications.send import Sender
from controller.process.certificates import Certificates
from controller.process.consumer import Consumer
from controller.process.loops import LOG_SECONDS, Loops, every, log_failure
from controller.process.settings import CoreSettings
from controller.runs.dispatch import Dispatcher
from controller.runs.hints import HintIntake
from controller.runs.inbox import Inbox
from controller.runs.pace import Pace
from controller.runs.presence import PresenceWatch
from controller.runs.reports import ReportIntake
from controller.safety.breaker import BreakerLimits
from controller.safety.expiry import PauseExpiry
from controller.safety.suppressed import SuppressedCount
from controller.swarm.close_watch import CloseWatch
from controller.swarm.events import Events, Hints
from controller.swarm.manager import DockerSwarm, look_at_others
from controller.swarm.readings import Readings
from controller.swarm.sync import Sync
from controller.traces.collector import Collector
from controller.traces.recorder import Recorder
from controller.trust.broker_users import BrokerUsers
from controller.trust.departed import Departed
from controller.trust.keyring import Keyring
from controller.trust.quota import Quota
from controller.trust.reception import Reception
from controller.workqueue.clock import ClockCorrection
from controller.workqueue.priorities import BULK, URGENT, PriorityClass
from controller.workqueue.retention import RunRetention

_STOP_SECONDS: Final = 5.0
_DELIVERY_SECONDS: Final = 2.0
"""For answers to notifications that are on their way; what answers later is sent again."""
_RETENTION_SECONDS: Final = 5.0
"""While there is more: a batch per step is twice the rows that 5,000 nodes write at the default resync."""

_RETAINED_SECONDS: Final = 60.0
"""When nothing more was old enough."""

_PAUSES_SECONDS: Final = 5.0
"""A pause ends at most this much late."""

_DEPARTED_SECONDS: Final = 60.0
_CLOCK_SECONDS: Final = 10.0

_OTHERS_SECONDS: Final = 30.0
"""Between looks at the managers that are not asked."""

_GATHER_SECONDS: Final = 0.2
"""Events come in bursts, which are gathered before the Swarm is read."""


class LeaderLoops:
    """The leader's work: every controller builds it, and the leader starts it.

    Args:
        database: not fenced.
        swarm: for the thread that reads the Swarm; others ask the same managers.
        health: receives failures of publishing.
        lease: fences all writes.
        keys: sign requests, and verify what workers send.
        queues: to consume.
        silence: seconds without a message after which the consumer is tested; None: never.
        keeps_users: whether each node has a user of its own at the broker.
        collector: where traces are sent; None: nowhere.
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
        keeps_users: bool,
        collector: Collector | None,
    ) -> None:
        mode = Mode(settings.mode)
        resync = timedelta(seconds=settings.resync_seconds)

        managers = swarm.managers
        led = FencedDatabase(database, lease)
        self._lease = lease
        self._keys = keys
        self._sync_seconds = settings.sync_seconds
        self._hints = Hints()
        readings = Readings(self._hints)
        of_signs = Reception(led, keys)
        quota = Quota()
        self._traces = traces = None if collector is None else Recorder(database, collector)
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
            asking=quota.asked,
            sent=_nothing if traces is None else traces.sent,
            lost=_nothing if traces is None else traces.lost,
        )
        self.notify = self._dispatcher.notify
        self.requeue = self._dispatcher.requeue
        self._events = Events(DockerSwarm(managers), self._hints)
        self._sync = Sync(
            swarm,
            led,
            hints=self._hints,
            readings=readings,
            notify=self.notify,
            period=settings.sync_seconds,
            resync=settings.resync_seconds,
            share=settings.sync_share,
            recovered=_nothing if traces is None else traces.recovered,
        )
        close_watch = CloseWatch(
            DockerSwarm(managers),
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
            signs=presence.changes,
            dropping=quota.dropping,
        )
        suppressed = SuppressedCount(led, mode=mode)
        pace = Pace()
        intake = ReportIntake(
            led,
            resync=resync,
            readings=readings,
            expect=close_watch.expect,
            pace=pace,
            limits=limits,
            notify=self.notify,
            taken=_nothing if traces is None else traces.taken,
        )
        pauses = PauseExpiry(led, self.notify)
        clock = ClockCorrection(
            led,
            self.notify,
            resync=resync,
            run_timeout=timedelta(seconds=settings.run_timeout_seconds),
        )
        outgoing = settings.outgoing()
        notices = NoticeCollector(
            led,
            certificates=Certificates(
                {
                    name: path
                    for name in ("listen_cert", "docker_cert", "broker_cert")
                    if (path := getattr(settings, name, ""))
                }
            ),
            public_url=outgoing.public_url,
            docs_url=outgoing.docs_url,
        )
        self._deliverer = Deliverer(led, Sender(outgoing))
        hints = HintIntake(led, readings=readings, pace=pace, notify=self.notify)
        self._inbox = Inbox(intake.reports)
        users = BrokerUsers(database, CommandConnection(app), health.users)
        reception = Reception(led, keys, quota=quota)
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
                "housekeeping": lambda: _RETENTION_SECONDS if keeper.step() else _RETAINED_SECONDS,
                "conditions": conditions.step,
                "presence": presence.step,
                **({"broker users": users.step} if keeps_users else {}),
                "suppressed": suppressed.step,
                "pauses": every(_PAUSES_SECONDS, pauses.step),
                "clock": every(_CLOCK_SECONDS, clock.step),
                "departed": every(_DEPARTED_SECONDS, Departed(led).step),
                "notices": notices.step,
                "notifications": self._deliverer.step,
                "audit": Maintenance(led, audit_retention).step,
            }
        )
        # Apart, because `stop` does not wait for them: they may be in the middle of a long silence.
        others = {"other managers": every(_OTHERS_SECONDS, partial(look_at_others, managers))}
        self._hearing = Loops({"events": self._hear, **(others if managers.are_several else {})})
        # Apart, too: a collector that hangs holds up nothing else.
        self._tracing = Loops({} if traces is None else {"traces": traces.step})

    def start(self) -> None:
        """Start, once this process leads."""
        self._keys.look()  # Before the first request: it names the keys, and another may sign by now.
        self._consumer.start()
        self._work.start()
        self._hearing.start()
        self._tracing.start()

    def stop(self) -> None:
        """End, within 13 seconds, if it was started."""
        self._hearing.stop(0.0)
        self._deliverer.end()
        self.notify()
        self._hints.wake()
        self._work.stop(_STOP_SECONDS)
        if self._lease.held:
            self._end_deliveries()
            self._consumer.stop()
            self._inbox.empty()
        self._tracing.stop(0.0)
        if self._traces is not None:
            self._traces.close()

    def _end_deliveries(self) -> None:
        try:
            self._deliverer.stop(_DELIVERY_SECONDS)
        except Exception as error:  # noqa: BLE001 -- the rest is to be stopped all the same
            log_failure("notifications", error, Throttle(LOG_SECONDS))

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


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
