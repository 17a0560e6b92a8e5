"""What people do, by a route of the API or a page of the dashboard: requeue, decide, reset breakers."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from controller.api.answers.on_node import with_shared_names
from controller.api.answers.runs import RequeueAnswer, RunAnswer
from controller.api.answers.safety import BreakerAnswer, BreakerResetAnswer, DecisionAnswer
from controller.api.context import Context
from controller.audit.append import append
from controller.db import lookup
from controller.db.models import Cluster, Node, Requeue, Run
from controller.leadership.lease import LeaseLostError
from controller.safety import breaker, modes
from controller.safety.decisions import Decision, Target
from controller.views import queries
from controller.workqueue import requeue
from controller.workqueue.priorities import Priority
from controller.workqueue.requeue import RequeueRequest

Find = Callable[[Session], Target]
Act = Callable[[Session, Target, Decision], bool]


def request_run(context: Context, request: RequeueRequest) -> RequeueAnswer:
    """Store a request for a run, and send it if this process leads; otherwise the leader finds it.

    Raises:
        UnknownError, AmbiguousError: no or several nodes have this name.
        PausedError: the node is paused.
        TokenTakenError: the token was used for another node.
    """
    _store(context, request)
    with context.database.read() as session:
        return requeue_answer(context, session, session.get_one(Requeue, request.token))


def _store(context: Context, request: RequeueRequest) -> None:
    if context.requeue is not None and context.leading():
        # If another leads by now, it finds the request that is stored below: once, by its token.
        with suppress(LeaseLostError):
            context.requeue(request)
            return
    now = datetime.now(UTC)
    with context.database.write() as session:
        entries = requeue.store(session, request, now)
        append(session, entries, now)
    if entries:
        context.notify(Priority.MANUAL)


def requeue_answer(context: Context, session: Session, request: Requeue) -> RequeueAnswer:
    """Return the answer about a request for a run."""
    node = session.get_one(Node, request.node_id)
    run = None if request.run_id is None else session.get(Run, request.run_id)
    answers = [] if run is None else [RunAnswer.of(run, node)]
    with_shared_names(session, answers, history=True)
    return RequeueAnswer.from_row(
        request,
        node_name=node.hostname,
        node_state=node.state,
        waits_for_run=node.due.run_id if request.run_id is None else None,
        run=next(iter(answers), None),
        not_sent_because=_not_sent(context, session, node) if run is None else None,
    )


def _not_sent(context: Context, session: Session, node: Node) -> str | None:
    """Return why a request waits, and until when; None: it is sent in a moment."""
    if node.state == "down":
        return "the Swarm reports the node as down; it is sent when the node is back"
    if (fault := context.health.broker.fault) is not None:
        return f"{fault.message}; it is sent as soon as that works"
    if not context.leading() and queries.leader(session) is None:
        return "no controller leads; it is sent when one does"
    return None


def decide(context: Context, find: Find, decision: Decision, act: Act) -> DecisionAnswer:
    """Carry out a decision about the target that `find` returns, and wake the dispatcher.

    Raises:
        UnknownError, AmbiguousError, NoClusterError: of `find`.
    """
    with context.database.write() as session:
        target = find(session)
        changed = act(session, target, decision)
        cluster = queries.known_cluster(session)
        effective = modes.of_target(target, cluster, context.mode)
        answer = DecisionAnswer.of(target, effective, changed=changed)
    context.notify()
    return answer


def reset_breaker(context: Context, node: str | None, decision: Decision) -> BreakerResetAnswer:
    """Reset the breaker of a node, or with None all breakers, and wake the dispatcher.

    Raises:
        UnknownError, AmbiguousError: no or several nodes have this name.
    """
    with context.database.write() as session:
        names = breaker.reset(session, lookup.maybe_node(session, node), decision)
        answer = BreakerResetAnswer(reset=names, breaker=breaker_answer(context, session))
    context.notify()
    return answer


def breaker_answer(context: Context, session: Session) -> BreakerAnswer:
    """Return the removals that count, the limits, and the breakers that have tripped."""
    state = breaker.state(session, context.breaker, datetime.now(UTC))
    return BreakerAnswer.of(session.get(Cluster, 1), state, context.breaker)
