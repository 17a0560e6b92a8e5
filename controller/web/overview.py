"""What the first page shows: nodes by how they are, what is wrong, and what was removed last."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from contract.verdicts import Mode, Stage, Verdict
from controller.api.answers.audit import AuditAnswer, audit_answers
from controller.api.answers.cluster import StatusAnswer
from controller.api.answers.devices import DeviceAnswer
from controller.api.routes.devices import device_answers
from controller.audit.queries import pages
from controller.audit.queries.pages import Filters
from controller.conditions import summary
from controller.conditions.model import Reason, Status, Stored, counted, listed
from controller.db.models import NOT_IN_USE, Device, Network, Node
from controller.views import queries
from controller.views.queries import NodeReady
from controller.web import words
from controller.web.words import Action

NOT_IN_USE_SQL: Final = text(f"devices.{NOT_IN_USE}")
"""In a query about devices that are not in use: so the database reads these alone, by their index."""
MAX_NODES_OF_PROBLEM: Final = 3
"""Nodes of a problem whose messages are shown; the others are counted."""
_FIRST: Final = frozenset({Reason.TASKS_REJECTED, Reason.VNI_HELD, Reason.DEVICE_CONFLICT})
"""Reasons for which tasks do not run now: before the others, on however many nodes."""
_MAX_DEVICES: Final = 8
_MAX_REMOVED: Final = 8
_MAX_PAUSES: Final = 6
_MAX_CLAUSES: Final = 2
"""Of the sentence about the cluster."""


class Group(NamedTuple):
    """Nodes that are as they are for the same reason."""

    look: str
    reason: str
    words: str
    nodes: Sequence[NodeReady]


class Problem(NamedTuple):
    """Something that is wrong, or that somebody chose.

    Attributes:
        messages: what is wrong and what to do, with the node's id and hostname; None: the cluster's.
        more: further nodes with the same.
    """

    look: str
    reason: str
    words: str
    messages: Sequence[tuple[str | None, str | None, str]]
    more: int
    action: Action
    of_cluster: bool = False


class Pause(NamedTuple):
    """A pause of a node or network; `until` None: until somebody resumes it."""

    what: str
    name: str
    path: str
    by: str | None
    reason: str | None
    until: datetime | None


def groups(ready: Sequence[NodeReady], *, stale: bool) -> list[Group]:
    """Group the nodes by how they are, the gravest first.

    Args:
        stale: the stored conditions are too old: of no node is anything known.
    """
    found: dict[tuple[str, str], list[NodeReady]] = {}
    for node in ready:
        if stale:
            key = words.UNKNOWN, Reason.CONDITIONS_STALE.value
        else:
            reason = node.left if node.status == Status.TRUE and node.left else node.reason
            key = words.look(node.status, node.reason, node.left), reason
        found.setdefault(key, []).append(node)
    made = [
        Group(look, reason, words.words(reason), nodes) for (look, reason), nodes in found.items()
    ]
    return sorted(
        made,
        key=lambda group: (
            words.ORDER.index(group.look), group.reason not in _FIRST, -len(group.nodes)
        ),
    )  # fmt: skip


def headline(
    status: StatusAnswer, grouped: Sequence[Group], found: Sequence[Problem]
) -> tuple[str, str]:
    """Return how well all is, and that as one sentence.

    Args:
        grouped: all nodes.
        found: what is wrong, or chosen.
    """
    counts = dict.fromkeys(words.ORDER, 0)
    for group in grouped:
        counts[group.look] += len(group.nodes)
    nodes = counted(sum(counts.values()), "node")
    clauses = [
        problem.words for problem in found if problem.of_cluster and problem.look == words.BAD
    ]
    if len(clauses) > _MAX_CLAUSES:
        clauses[_MAX_CLAUSES - 1 :] = [f"{len(clauses) - _MAX_CLAUSES + 1} more things are wrong"]
    if status.cluster is None:
        clauses.insert(0, "the Swarm has not been read yet")
    if bad := counts[words.BAD]:
        clauses.append(f"{bad} of {nodes} {is_are(bad)} not ready")
    if counts[words.UNKNOWN]:
        clauses.append(f"of {counted(counts[words.UNKNOWN], 'node')} nothing is known")
    look = words.BAD if clauses else words.LEFT if counts[words.LEFT] else words.OK
    if counts[words.LEFT]:
        clauses.append(f"something is left on {counted(counts[words.LEFT], 'node')}")
    if clauses:
        return look, f"Not well: {', '.join(clauses)}."
    chosen = [
        problem.words for problem in found if problem.of_cluster and problem.look == words.CHOSEN
    ]
    if chosen:
        return words.CHOSEN, f"As somebody chose: {', '.join(chosen)}. Nothing else is wrong."
    fine, alone = counts[words.OK], counts[words.CHOSEN]
    by_choice = f"; {alone} left alone by choice" if alone else ""
    return words.OK, f"All is well: {fine} of {nodes} {is_are(fine)} ready{by_choice}."


def problems(
    session: Session, status: StatusAnswer, grouped: Sequence[Group], *, may_operate: bool
) -> list[Problem]:
    """Return what is wrong, the gravest first, and of what is as grave the cluster's first."""
    found = [*_of_cluster(status.model_dump(mode="json"), may_operate)]
    wrong = [
        group
        for group in grouped
        if group.look != words.OK and group.reason != Reason.CONDITIONS_STALE
    ]
    shown_of_all = [node.id for group in wrong for node in group.nodes[:MAX_NODES_OF_PROBLEM]]
    stored = session.execute(select(Node.id, Node.conditions).where(Node.id.in_(shown_of_all)))
    messages = {id_: _message(conditions) for id_, conditions in stored}
    for group in wrong:
        shown = group.nodes[:MAX_NODES_OF_PROBLEM]
        first = shown[0].id if len(group.nodes) == 1 else None
        found.append(
            Problem(
                group.look,
                group.reason,
                group.words,
                [(node.id, node.hostname, messages.get(node.id, "")) for node in shown],
                len(group.nodes) - len(shown),
                words.action(group.reason, first, may_operate=may_operate),
            )
        )
    return sorted(found, key=lambda problem: words.ORDER.index(problem.look))


def _of_cluster(answer: Mapping[str, Any], may_operate: bool) -> Iterator[Problem]:
    if answer["leader"] is None:
        message = (
            "nothing is looked at and nothing is removed until one does, within seconds; if none does, "
            "look at the controllers' logs"
        )
        yield Problem(
            words.BAD,
            words.NO_LEADER,
            words.words(words.NO_LEADER),
            [(None, None, message)],
            0,
            Action("Look at it", "/safety"),
            of_cluster=True,
        )
    seen: set[str] = set()
    for row in summary.of_cluster(answer):
        # One broker that is away is told by several conditions.
        if row["message"] in seen:
            continue
        seen.add(row["message"])
        chosen = row["reason"] in summary.CHOSEN or row["reason"] == Reason.CLUSTER_PAUSED
        yield Problem(
            words.CHOSEN if chosen else _look(row["status"]),
            row["reason"],
            words.words(row["reason"]),
            [(None, None, row["message"])],
            0,
            words.action(row["reason"], None, may_operate=may_operate),
            of_cluster=True,
        )


def _look(status: str) -> str:
    return words.UNKNOWN if status == Status.UNKNOWN else words.BAD


def is_are(number: int) -> str:
    """Return the verb for so many."""
    return "is" if number == 1 else "are"


def _message(conditions: Stored) -> str:
    """Return the message of a node's first condition that is not as it should be."""
    found = summary.abnormal(listed(conditions))
    return str(found[0]["message"]) if found else ""


def orphans(session: Session, mode: Mode) -> tuple[Mapping[str, int], Sequence[DeviceAnswer]]:
    """Return the number of devices that need attention by verdict, and some of them, orphans first."""
    counts: dict[str, int] = {}
    shown: list[tuple[Device, Node]] = []
    for verdict in (Verdict.ORPHAN, Verdict.CONFLICT, Verdict.SETTLING):
        query = queries.devices_query(None, None, verdict).where(NOT_IN_USE_SQL)
        counts[verdict.value] = (
            session.scalar(
                query.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
            )
            or 0
        )
        left = _MAX_DEVICES - len(shown)
        if counts[verdict.value] and left > 0:
            oldest_first = query.order_by(Device.verdict_at, Device.node_id).limit(left)
            shown += [(row[0], row[1]) for row in session.execute(oldest_first)]
    return counts, device_answers(session, shown, mode)


def removed(session: Session) -> Sequence[AuditAnswer]:
    """Return the last removals."""
    page = pages.page(session, Filters(stages=(Stage.APPLIED,)), limit=_MAX_REMOVED)
    return audit_answers(session, page.rows)


def pauses(session: Session) -> tuple[int, Sequence[Pause]]:
    """Return the number of paused nodes and networks, and those whose pause ends first."""
    found: list[Pause] = []
    total = 0
    for what, model, name, path in (
        ("node", Node, Node.hostname, "/nodes/"),
        ("network", Network, Network.name, "/networks/"),
    ):
        which = model.gone_at.is_(None), model.paused_at.is_not(None)
        total += session.scalar(select(func.count()).select_from(model).where(*which)) or 0
        query = select(
            model.id, name, model.paused_by, model.paused_reason, model.paused_until
        ).where(*which)
        ends_first = query.order_by(model.paused_until.is_(None), model.paused_until, name)
        for id_, given, by, reason, until in session.execute(ends_first.limit(_MAX_PAUSES)):
            found.append(Pause(what, given, f"{path}{id_}", by, reason, until))
    found.sort(key=lambda pause: (pause.until is None, pause.until))
    return total, found[:_MAX_PAUSES]
