"""What is said of a removal, of a problem that begins, lasts or ends, and of many at once. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from contract.verdicts import Stage
from controller.conditions.holds import typed_name
from controller.conditions.model import named
from controller.db.notification_models import OpenProblem
from controller.db.states import CONTROLLER
from controller.notifications.events import TEXTS, Event, runbook
from controller.notifications.message import iso, values_of
from controller.notifications.outbox import Notice

STAGES: Final = {
    Stage.VERIFIED: Event.ORPHAN_REMOVED,
    Stage.FAILED: Event.REMOVAL_FAILED,
    Stage.LINGERING: Event.REMOVAL_FAILED,
}
"""What is told of the audit trail."""
_LINGERS: Final = "Orphan is still there after its removal"
_WHERE: Final = {
    Event.CERTIFICATE: "the controller that leads",
    Event.TARGET_FAILS: "the notifications",
}
"""Of a problem that is about no node and not the cluster."""


@dataclass(frozen=True, slots=True)
class Wording:
    """Puts what is told into words.

    Attributes:
        public_url: of the dashboard, without a slash at its end; empty: no links.
        docs_url: of the documents, the same.
        swarm: its id.
    """

    public_url: str
    docs_url: str
    swarm: str

    def of_row(self, row: Any) -> Notice:
        """Return the notice of an audit row."""
        event = STAGES[row.stage]
        texts = TEXTS[event]
        where = [
            f"node {row.node_name}",
            f"device {row.name} in {row.netns}",
            f"VNI {row.vni}",
            f"network {row.network_name}" if row.network_name else "no known network",
        ]
        why = row.reason + (f" ({row.evidence})" if row.evidence else "")
        by = "" if row.actor == CONTROLLER else f"; by {row.actor}"
        by_run = row.run_id is not None and row.actor == CONTROLLER
        run = "" if row.run_id is None else f"; `vxctl audit show {row.run_id}` shows the run"
        values = values_of(
            title=_LINGERS if row.stage is Stage.LINGERING else texts.title,
            event=event.value,
            state="done" if event is Event.ORPHAN_REMOVED else "problem",
            where=", ".join(where),
            why=why + by,
            todo=texts.todo + run,
            link=self._link(f"runs/{row.run_id}" if by_run else f"nodes/{row.node_id}"),
            runbook=runbook(event, self.docs_url),
            time=iso(row.at),
            node=row.node_name or "",
            network=row.network_name or "",
            count=1,
            swarm=self.swarm,
        )
        return Notice(event=event, values=values)

    def of_problem(self, row: OpenProblem, now: datetime, *, again: bool = False) -> Notice:
        """Return the notice that something is wrong, or, `again`, still wrong."""
        event = Event(row.event)
        texts = TEXTS[event]
        reminder = f"Reminder after {_lasting(now - row.seen_at)}: " if again else ""
        values = self._of_problem(
            row,
            title=reminder + texts.title,
            state="problem",
            why=row.message,
            todo=_todo(row),
            time=iso(now),
            reminder="yes" if again else "",
        )
        return Notice(event=event, values=values, subject=row.subject)

    def of_end(self, row: OpenProblem, now: datetime, *, left: bool) -> Notice:
        """Return the notice that something is no longer wrong; `left`: its node left the Swarm."""
        event = Event(row.event)
        texts = TEXTS[event]
        at = row.over_at or now
        values = self._of_problem(
            row,
            title=f"{texts.title}: over, the node left the Swarm" if left else texts.over,
            state="over",
            why=f"it lasted {_lasting(at - row.seen_at)}; it was: {row.message}",
            todo="nothing",
            time=iso(at),
        )
        return Notice(event=event, values=values, subject=row.subject, resolved=True)

    def of_many(
        self,
        event: Event,
        title: str,
        now: datetime,
        *,
        count: int,
        nodes: Sequence[str],
        over: bool = False,
        reminder: bool = False,
    ) -> Notice:
        """Return a notice of several."""
        texts = TEXTS[event]
        values = values_of(
            title=title,
            event=event.value,
            state="over" if over else "problem" if texts.over else "done",
            where=f"nodes {named(nodes)}" if nodes else "",
            why="so many that they are told together: `vxctl status` and `vxctl events` show each",
            todo="nothing" if over else texts.todo,
            link=self._link(),
            runbook=runbook(event, self.docs_url),
            time=iso(now),
            count=count,
            swarm=self.swarm,
            reminder="yes" if reminder else "",
        )
        return Notice(event=event, values=values, resolved=over)

    def _of_problem(self, row: OpenProblem, **given: str) -> dict[str, str]:
        event = Event(row.event)
        page = "safety" if event is Event.BREAKER_TRIPPED else ""
        if row.node_name is not None:
            where, page = f"node {row.node_name}", f"nodes/{row.node_id}"
        else:
            where = _WHERE.get(event, "the cluster")
        return values_of(
            event=row.event,
            where=where,
            link=self._link(page),
            runbook=runbook(event, self.docs_url),
            node=row.node_name or "",
            count=1,
            swarm=self.swarm,
            problem=problem_id(row),
            since=iso(row.seen_at),
            **given,
        )

    def _link(self, page: str = "") -> str:
        return f"{self.public_url}/{page}" if self.public_url else ""


def problem_id(row: OpenProblem) -> str:
    """Return what the notices of one problem have in common, from its begin to its end."""
    text = f"{row.event} {row.subject} {row.seen_at.timestamp():.0f}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _todo(row: OpenProblem) -> str:
    """Return what to do, with the node as it can be typed."""
    todo = TEXTS[Event(row.event)].todo
    if row.node_id is None or row.node_name is None:
        return todo.replace(" --node NODE", "").replace(" NODE", "")
    return todo.replace("NODE", typed_name(row.node_id, row.node_name))


def _lasting(time: timedelta) -> str:
    """Return "5 min", "3 h" or "2 days"."""
    minutes = max(1, round(time.total_seconds() / 60))
    if minutes < 120:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"
