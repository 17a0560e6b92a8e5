"""The worker put together: kernel, clock, journal, keys, watch and outbox around one Reconciler."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

import structlog
from celery import Celery

from contract import VERSION
from contract.messages import MAX_TEXT, Drift, Hello, ReconcileRequest, SignOfLife
from contract.queues import (
    ALIVE_TASK,
    DRIFT_TASK,
    HELLO_TASK,
    RECONCILE_TASK,
    REPORT_TASK,
    WORKER_PING_TASK,
)
from contract.runtime.broker import (
    HINT_EXPIRES,
    MAX_WAITING,
    let_expire,
    queue_for_controller,
    queue_for_node,
    waiting,
)
from contract.runtime.errors import OperatorError
from contract.runtime.files import why_not_ours
from contract.runtime.presence import Presence
from contract.runtime.refusals import refusals
from contract.runtime.restart import exit_for_restart
from contract.signing.envelope import CONTROLLERS, Opened, Opener, Signer, node_address
from contract.signing.keys import PublicKey
from contract.signing.refusals import Reason, RefusedError
from contract.verdicts import Mode, Outcome
from worker.access import open_kernel
from worker.beacon import Beacon
from worker.docker_socket import node_id
from worker.idle import HINT_SECONDS, IdleClock
from worker.journal import Journal, JournalError
from worker.judge import SANDBOX_GRACE_SECONDS
from worker.kernel.model import Identity
from worker.login import Login
from worker.memory import Memory
from worker.metrics import Facts
from worker.outbox import Outbox
from worker.ports import DEFAULT_DATA_PATH_PORT
from worker.proof import Waits
from worker.reconcile import Reconciler
from worker.second_worker import SecondWorker
from worker.settings import WorkerSettings
from worker.trust import Paths, Trust
from worker.watch import LinkWatch
from worker.watchdog import Watchdog

log = structlog.get_logger(__name__)

_MAX_HINTED = 100
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The kernel's random id of this boot (man 4 random)."""
_INTRODUCTION_SECONDS = 60.0
"""Minimum seconds from a Hello with this node's key to the next, while the controllers do not believe it."""
_COMPLAINT_SECONDS = 60.0
"""Minimum seconds from a Hello that says what was refused to the next."""
_BELIEVED_GAP_SECONDS = 10.0
"""Beyond the grace period: a look may come late on a busy node."""


class Agent:
    """Answers reconcile requests, and watches. Build it with `open`."""

    def __init__(
        self,
        settings: WorkerSettings,
        app: Celery,
        journal: Journal,
        trust: Trust,
        memory: Memory,
        *,
        moved: Callable[[str], object],
        login: Login | None,
    ) -> None:
        self._node_id = settings.node_id
        self._app = app
        self._journal = journal
        self._trust = trust
        self._memory = memory
        self._login = login
        me = node_address(settings.node_id)
        self._signer = Signer(trust.key, me)
        self._following: Signer | None = None
        """Of a new key that was not introduced yet: it signs that Hello, and what is sent later."""
        self._opener = Opener(me=me, lookup=trust.lookup, replays=memory.replays)
        self._introduce_at = time.monotonic() + _INTRODUCTION_SECONDS
        self._complain_at = time.monotonic()
        self._refused = 0
        self._runs: Counter[Outcome] = Counter()
        self._mode = settings.mode
        self._second_worker = SecondWorker(settings.node_id)
        self._data_path_port = DEFAULT_DATA_PATH_PORT
        self._clock = clock = IdleClock(
            settings.grace_seconds + _BELIEVED_GAP_SECONDS, shown=memory.ran_at
        )
        self._kernels = (open_kernel(), open_kernel())
        self._outbox = Outbox(self._publish)
        self._watch = LinkWatch(
            kernel=self._kernels[0],
            clock=clock,
            hint_after=HINT_SECONDS,
            data_path_port=lambda: self._data_path_port,
            drift=self._send_drift,
            changed=self._send_change,
        )
        self._reconciler = Reconciler(
            node_id=settings.node_id,
            kernel=self._kernels[1],
            journal=journal,
            clock=clock,
            waits=Waits(
                grace=settings.grace_seconds,
                sandbox_grace=SANDBOX_GRACE_SECONDS,
                unclaimed=settings.unclaimed_seconds,
            ),
            mode=Mode(settings.mode),
            max_removals=settings.max_removals_per_run,
            boot_id=_BOOT_ID.read_text().strip(),
            memory=memory,
            data_path_port=settings.data_path_port,
            notes=self._notes,
            reported=self._watch.reported,
            other_id=lambda: self.beacon.other_id,
        )
        self.watchdog = Watchdog(
            silence=settings.silence_seconds,
            ping=self._ping,
            hello=self._send_hello,
            hung=exit_for_restart,
        )
        """Started only where the worker has a process of its own; ends with the agent."""
        self._presence = Presence(app)
        self.beacon = Beacon(
            node_id=settings.node_id,
            write=self._sign_of_life,
            local_id=partial(node_id, settings.docker_socket),
            moved=moved,
        )
        """Likewise."""
        app.task(name=RECONCILE_TASK)(self.reconcile)
        app.task(name=WORKER_PING_TASK)(self.ping)

    @classmethod
    def open(
        cls,
        settings: WorkerSettings,
        app: Celery,
        moved: Callable[[str], object] = lambda _: None,
        login: Login | None = None,
    ) -> Self:
        """Check what the worker needs, and put it together.

        Args:
            moved: called when the node has another id in the Swarm than the settings say.
            login: this node's own user of the broker, which `app` has; None: it has none.

        Raises:
            OperatorError: it may not look at the kernel, cannot write its journal or keys, or knows no key of
                the controllers.
        """
        token, given = settings.keys()
        try:
            journal = Journal.open(settings.journal)
        except JournalError as error:
            hint = (
                why_not_ours(settings.journal)
                or "set VXLAN_OPERATOR_JOURNAL (or --journal) to a file of its own, on a disk with room"
            )
            raise OperatorError(str(error), hint) from error
        try:
            paths = Paths(settings.journal)
            trust = Trust.open(
                paths,
                settings.node_id,
                token=token,
                given=given,
                token_file=settings.join_token_file,
            )
            memory = Memory.open(paths.heard)
            return cls(settings, app, journal, trust, memory, moved=moved, login=login)
        except BaseException:
            journal.close()
            raise

    @property
    def key(self) -> PublicKey:
        """The key by which this node's messages are verified."""
        return self._trust.key.public

    def log_in(self, patience: float) -> None:
        """Wait until this node's own user of the broker works, if it has one.

        Args:
            patience: seconds.

        Raises:
            UnavailableError: it does not work yet.
        """
        if self._login is not None:
            self._login.enter(self._sealed_hello, patience=patience)

    def start(self) -> None:
        self._outbox.start()
        self._watch.start()
        self._second_worker.start()

    def stop(self) -> None:
        """Stop watching, send what can be sent at once, and close everything."""
        self.watchdog.stop()
        self.beacon.stop()
        self._presence.close()
        self._second_worker.stop()
        self._watch.stop()
        self._outbox.stop()
        self._journal.close()
        for kernel in self._kernels:
            kernel.close()

    def stalled(self) -> list[str]:
        """Return the names of loops that do not go on, of a worker with a process of its own."""
        return [name for name, stalled in self._loops().items() if stalled]

    def _loops(self) -> Mapping[str, bool]:
        return {
            "link watch": self._watch.stalled,
            "outbox": self._outbox.stalled,
            "watchdog": self.watchdog.stalled,
            "beacon": self.beacon.stalled,
        }

    def facts(self) -> Facts:
        """Return what the metrics show, of a worker with a process of its own. From any thread."""
        age, overdue = self.watchdog.request_times()
        return Facts(
            mode=self._mode,
            journal_backlog=self._journal.backlog,
            outbox=self._outbox.waiting,
            outbox_dropped=self._outbox.dropped,
            request_age=age,
            request_overdue=overdue,
            runs=self._runs.copy(),
            loops=self._loops(),
            second_worker=self._second_worker.seen,
        )

    def reconcile(self, payload: object, succession: object = "") -> None:
        """The task `worker.reconcile`; `succession`: of the controllers' keys, after a rotation."""
        with self.watchdog.task():
            try:
                opened = self._opened(payload, succession)
            except RefusedError as error:
                refusals.add(error)
                self._complain(error)
                return
            request = opened.payload
            report = self._reconciler.run(request)
            self._runs[report.outcome] += 1
            if report.outcome is not Outcome.REFUSED:
                self._data_path_port = request.data_path_port
                self.watchdog.asked(request.next_within)
                self.beacon.asked(request.alive_every)
                self._heed(request, opened.kid)
                report = report.model_copy(update={"controller_keys": self._trust.controller_ids})
            self._outbox.put(REPORT_TASK, report.model_dump_json())
            if report.outcome is not Outcome.REFUSED:
                self._rotate(request)

    def ping(self) -> None:
        """The task `worker.ping`."""
        with self.watchdog.task():
            pass

    def _opened(self, payload: object, succession: object) -> Opened[ReconcileRequest]:
        """Open a request, also of a key that the one believed here vouches for; raise `RefusedError`."""
        try:
            return self._opener.open(payload, RECONCILE_TASK, ReconcileRequest)
        except RefusedError as error:
            known = error.reason is Reason.UNKNOWN_KEY and error.kid is not None
            if not known or not self._trust.follow(succession, str(error.kid)):
                raise
        return self._opener.open(payload, RECONCILE_TASK, ReconcileRequest)

    def _heed(self, request: ReconcileRequest, kid: str) -> None:
        """Take what a request says of keys."""
        believed = self._trust.heed(request, kid)
        self._memory.keep(set(self._trust.controller_ids))
        if not believed and time.monotonic() >= self._introduce_at:
            self._introduce_at = time.monotonic() + _INTRODUCTION_SECONDS
            self._send_hello("the controllers do not believe this node's key yet")

    def _rotate(self, request: ReconcileRequest) -> None:
        """Make the next key of this node, if a request asks for it.

        What is in the outbox by now, such as the report on this request, is still signed by the present key.
        """
        if self._trust.rotate(request.rotate_key):
            self._following = Signer(self._trust.key, node_address(self._node_id))
            self._introduce_at = time.monotonic() + _INTRODUCTION_SECONDS
            self._send_hello("it has a new key, as it was asked for")

    def _complain(self, error: RefusedError) -> None:
        """Say that a message was refused: a worker that refuses all of them makes no report to say it in."""
        if time.monotonic() >= self._complain_at:
            self._complain_at = time.monotonic() + _COMPLAINT_SECONDS
            self._send_hello(f"it refuses what it is sent ({error.reason}): {error}"[:MAX_TEXT])

    def _notes(self) -> Sequence[str]:
        """Say what this worker refused since it was last asked, and why it keeps a key."""
        count, newest = sum(refusals.counts.values()), refusals.newest
        new, self._refused = count - self._refused, count
        if not new or newest is None:
            return self._trust.kept
        text = f"{new} message(s) to it were refused, the newest ({newest.reason}): {newest.detail}"
        return (*self._trust.kept, text[:MAX_TEXT])

    def _sign_of_life(self, node_id: str, sign: SignOfLife) -> None:
        sealed = self._signer.seal(sign.model_dump_json(), audience=CONTROLLERS, task=ALIVE_TASK)
        try:
            self._presence.write(node_id, sealed)
        except Exception as error:
            if self._login is not None:
                self._login.refused(error, self._sealed_hello)
            raise

    def _send_drift(self, devices: Sequence[Identity]) -> None:
        drift = Drift(
            node_id=self._node_id,
            at=datetime.now(UTC),
            devices=tuple(device.message() for device in devices[:_MAX_HINTED]),
            stamp=self._clock.stamp(),
        )
        self._outbox.put(DRIFT_TASK, drift.model_dump_json())

    def _send_change(self, difference: str) -> None:
        self._send_hello(f"its devices changed: {difference}"[:MAX_TEXT], changed=True)

    def _send_hello(self, reason: str, *, changed: bool = False) -> None:
        self._outbox.put(HELLO_TASK, self._hello(reason, changed=changed))

    def _hello(self, reason: str, *, changed: bool = False) -> str:
        return Hello(
            node_id=self._node_id,
            worker_version=VERSION,
            at=datetime.now(UTC),
            reason=reason,
            changed=changed,
            introduction=self._trust.introduction(),
            broker_password=None if self._login is None else self._login.password,
        ).model_dump_json()

    def _sealed_hello(self, reason: str) -> str:
        return self._signer.seal(self._hello(reason), audience=CONTROLLERS, task=HELLO_TASK)

    def _ping(self) -> None:
        with self._app.producer_or_acquire() as producer:
            queue = queue_for_node(self._node_id)
            self._app.send_task(WORKER_PING_TASK, queue=queue, declare=[], producer=producer)
            let_expire(producer.channel, [self._node_id])

    def _publish(self, task: str, payload: str) -> None:
        queue = queue_for_controller()
        signer = self._signer_of(task, payload)
        # Signed now: it may have waited for the broker for a day.
        sealed = signer.seal(payload, audience=CONTROLLERS, task=task)
        if task == REPORT_TASK:
            # There are no more than requests, and no request is sent without a controller.
            self._app.send_task(task, args=[sealed], queue=queue)
        elif (count := waiting(self._app, queue)) < MAX_WAITING:
            self._app.send_task(task, args=[sealed], queue=queue, expires=HINT_EXPIRES)
        else:
            log.warning("hint dropped: the controller's queue is full", waiting=count)
            return
        if signer is not self._signer:
            self._signer, self._following = signer, None
            self.beacon.hurry()  # A sign by the key before would be refused now.

    def _signer_of(self, task: str, payload: str) -> Signer:
        """Return who signs a message: the key that a Hello introduces, else the one introduced last."""
        following = self._following
        if following is None or task != HELLO_TASK or following.public.text not in payload:
            return self._signer
        return following
