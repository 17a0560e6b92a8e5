"""Writes what is to be told into the outbox: removals of the audit trail, problems that begin, last or end.

Removals are followed by their position in the audit trail, which has no gaps; problems are compared with
those that are open. Both are stored in the transaction that writes the notices, so nothing is told twice or
lost.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.audit.append import head_of
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from controller.db.models import Cluster
from controller.db.notification_models import NotificationPosition, NotificationTarget, OpenProblem
from controller.db.states import TargetKind
from controller.notifications import outbox, reminders, storms
from controller.notifications.events import SITE, TEXTS, Event
from controller.notifications.notices import STAGES, Wording
from controller.notifications.outbox import Notice
from controller.notifications.problems import Key, Problem, Seen, look

NO_TARGETS_SECONDS: Final = 5.0
"""Between two looks for a first target."""
_SECONDS: Final = 2.0
_TIDY: Final = timedelta(seconds=60)
_MAX_ROWS: Final = 500
_OVER_AFTER: Final = timedelta(seconds=60)
"""A problem that comes back sooner was never over."""
_COLUMNS: Final = (
    AuditRow.position, AuditRow.at, AuditRow.stage, AuditRow.actor, AuditRow.node_id, AuditRow.node_name,
    AuditRow.network_name, AuditRow.netns, AuditRow.name, AuditRow.vni, AuditRow.reason, AuditRow.evidence,
    AuditRow.run_id,
)  # fmt: skip


_OTHERS: Final = (
    select(NotificationTarget.id).where(NotificationTarget.kind != TargetKind.HEARTBEAT).limit(1)
)
"""A target that is no heartbeat."""


class _News(NamedTuple):
    """What a look found, to be written."""

    rows: Sequence[Any]
    position: int
    """Of the last of them; or the head, if the end of the trail was reached."""
    seen: Seen | None
    changed: bool
    """Whether problems are to be written."""
    reminds: bool
    """Whether somebody is to be reminded."""


class NoticeCollector:
    """One thread of the leader runs its step.

    Args:
        database: fenced.
        certificates: returns what is wrong with files of certificates, by path.
        public_url: of the dashboard, without a slash at its end; empty: no links.
        docs_url: of the documents, the same.
    """

    def __init__(
        self,
        database: Database,
        *,
        certificates: Callable[[], Mapping[str, str]] = dict,
        public_url: str = "",
        docs_url: str = SITE,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._certificates = certificates
        self._public_url = public_url
        self._docs_url = docs_url
        self._utcnow = utcnow
        self._read_to: int | None = None
        """Nothing up to this position is to be told, beyond what is stored as such."""
        self._tidy_at: datetime | None = None

    def step(self) -> float:
        """Look once, and write what is new; return the seconds until the next step."""
        now = self._utcnow()
        with self._database.read() as session:
            if not _has_targets(session):
                self._read_to = None  # The next first target hears of what comes after it.
                return NO_TARGETS_SECONDS
            news = self._look(session, now)
            due = storms.is_any_over(session, now)
            released = outbox.to_release(session, now)
        tidy = self._tidy_at is None or now >= self._tidy_at
        new = news.rows or news.changed or news.reminds
        if new or due or released or tidy or self._read_to is None:
            with self._database.write() as session:
                self._write(session, news, released, now)
                if tidy:
                    outbox.tidy(session, now)
        if tidy:
            self._tidy_at = now + _TIDY
        self._read_to = news.position
        return 0.0 if len(news.rows) == _MAX_ROWS else _SECONDS

    def _look(self, session: Session, now: datetime) -> _News:
        head = head_of(session).position
        stored = session.get(NotificationPosition, 1)
        after = head if stored is None else stored.position
        if self._read_to is not None:
            after = self._read_to
        # A database that was restored from a backup has fewer rows.
        after = min(after, head)
        rows = session.execute(
            select(*_COLUMNS)
            .where(AuditRow.position > after, AuditRow.position <= head, AuditRow.stage.in_(STAGES))
            .order_by(AuditRow.position)
            .limit(_MAX_ROWS)
        ).all()
        position = rows[-1].position if len(rows) == _MAX_ROWS else head
        open_ = {
            (Event(row.event), row.subject): row for row in session.scalars(select(OpenProblem))
        }
        seen = self._with_certificates(look(session, open_, now), open_)
        if seen is None:
            return _News(rows, position, None, changed=False, reminds=False)
        targets = session.scalars(select(NotificationTarget)).all()
        reminds = any(reminders.rounds(targets, _lasting(seen, open_), now))
        return _News(rows, position, seen, changed=_differ(seen, open_, now), reminds=reminds)

    def _with_certificates(self, seen: Seen | None, open_: Mapping[Key, Any]) -> Seen | None:
        if seen is None:
            return None
        found = {
            (Event.CERTIFICATE, hashlib.sha256(path.encode()).hexdigest()[:16]): Problem(text)
            for path, text in self._certificates().items()
        }
        over = {key for key in open_ if key[0] is Event.CERTIFICATE and key not in found}
        others = {key for key in seen.over if key[0] is not Event.CERTIFICATE}
        return Seen({**seen.wrong, **found}, others | over, seen.gone)

    def _write(self, session: Session, news: _News, released: Sequence[int], now: datetime) -> None:
        targets = session.scalars(
            select(NotificationTarget).order_by(NotificationTarget.id).with_for_update()
        ).all()
        cluster = session.get(Cluster, 1)
        swarm = "" if cluster is None else cluster.swarm_id
        wording = Wording(self._public_url, self._docs_url, swarm)
        notices = [wording.of_row(row) for row in news.rows]
        if news.seen is not None and news.changed:
            notices += _of_problems(session, news.seen, now, wording)
        found = storms.gather(session, notices, now)
        found += storms.summaries(session, now, wording)
        outbox.put(session, found, targets, now)
        if released:
            outbox.release(session, released, now)
        if news.seen is not None and news.reminds:
            _remind(session, news.seen, targets, now, wording)
        stored = session.get(NotificationPosition, 1)
        if stored is None:
            session.add(NotificationPosition(id=1, position=news.position))
        else:
            stored.position = news.position


def _of_problems(session: Session, seen: Seen, now: datetime, wording: Wording) -> list[Notice]:
    """Bring the open problems up to date; return the notices of those that begin or end."""
    notices: list[Notice] = []
    rows = session.scalars(
        select(OpenProblem).order_by(OpenProblem.seen_at, OpenProblem.event, OpenProblem.subject)
    )
    open_ = {(Event(row.event), row.subject): row for row in rows}
    for key, problem in seen.wrong.items():
        if key not in open_:
            row = OpenProblem(
                event=key[0].value,
                subject=key[1],
                node_id=problem.node_id,
                node_name=problem.node_name,
                message=problem.message,
                seen_at=problem.since or now,
            )
            session.add(row)
            open_[key] = row
    for (event, subject), row in open_.items():
        present = seen.wrong.get((event, subject))
        if present is not None:
            row.over_at, row.message = None, present.message
            if row.reported_at is None and now - row.seen_at >= TEXTS[event].hold:
                row.reported_at = now
                notices.append(wording.of_problem(row, now))
        elif (event, subject) in seen.over:
            row.over_at = row.over_at or now
            if row.reported_at is None:
                session.delete(row)
            elif now - row.over_at >= _over_after(event):
                session.delete(row)
                notices.append(wording.of_end(row, now, left=(event, subject) in seen.gone))
    session.flush()
    return notices


def _remind(
    session: Session,
    seen: Seen,
    targets: Sequence[NotificationTarget],
    now: datetime,
    wording: Wording,
) -> None:
    """Tell again what lasts, to whom that is due."""
    rows = session.scalars(select(OpenProblem).order_by(OpenProblem.seen_at, OpenProblem.subject))
    open_ = {(Event(row.event), row.subject): row for row in rows}
    for target, lasting in reminders.rounds(targets, _lasting(seen, open_), now):
        for row in lasting:
            row.message = seen.wrong[Event(row.event), row.subject].message
        target.reminded_at = now
        outbox.put(session, storms.few(lasting, now, wording), [target], now)


def _lasting(seen: Seen, open_: Mapping[Key, OpenProblem]) -> list[OpenProblem]:
    return [row for key, row in open_.items() if key in seen.wrong]


def _has_targets(session: Session) -> bool:
    return session.scalar(_OTHERS) is not None


def _over_after(event: Event) -> timedelta:
    # A breaker is over when a person says so.
    return timedelta(0) if event is Event.BREAKER_TRIPPED else _OVER_AFTER


def _differ(seen: Seen, open_: Mapping[Key, OpenProblem], now: datetime) -> bool:
    """Whether something is to be written about problems."""
    if any(key not in open_ for key in seen.wrong):
        return True
    for (event, subject), row in open_.items():
        if (event, subject) in seen.wrong:
            waits = row.reported_at is None and now - row.seen_at >= TEXTS[event].hold
            if row.over_at is not None or waits:
                return True
        elif (event, subject) in seen.over and (
            row.over_at is None or now - row.over_at >= _over_after(event)
        ):
            return True
    return False
