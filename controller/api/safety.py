"""Routes by which people hold the operator back: pause, mode, and the breaker."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Body
from sqlalchemy.orm import Session

from contract.verdicts import Mode
from controller.api.answers.safety import BreakerAnswer, BreakerResetAnswer, DecisionAnswer
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, NetworkName, NodeFilter, NodeName
from controller.db import lookup
from controller.db.models import Cluster, Node
from controller.safety import breaker, decisions, modes
from controller.safety.decisions import Attribution, Target
from controller.safety.modes import Effective
from controller.views import queries


class SaidMode(ActorAndReason):
    """Who sets which mode, and why; `default` leaves it to whoever else has a say."""

    mode: Literal["observe", "enforce", "default"]


SaidBody = Annotated[ActorAndReason, Body()]
_NOTHING: Final = ActorAndReason()

Find = Callable[[Session], Target]
Act = Callable[[Session, Target, Attribution], bool]


def routes(context: Context) -> APIRouter:
    """Build them."""
    router = APIRouter(prefix="/api/v1")
    database = context.database

    def decide(find: Find, said: ActorAndReason, act: Act) -> DecisionAnswer:
        with database.write() as session:
            target = find(session)
            changed = act(session, target, _word(said))
            effective = _effective(target, queries.known_cluster(session), context.mode)
            answer = DecisionAnswer.of(target, effective, changed=changed)
        context.notify()
        return answer

    @router.post("/nodes/{node}/pause")
    def pause_node(node: NodeName, said: SaidBody = _NOTHING) -> DecisionAnswer:
        """Start no more runs of a node."""
        return decide(partial(lookup.find_node, given=node), said, decisions.pause)

    @router.post("/nodes/{node}/resume")
    def resume_node(node: NodeName, said: SaidBody = _NOTHING) -> DecisionAnswer:
        """Undo a pause, and look at the node at once."""
        return decide(partial(lookup.find_node, given=node), said, decisions.resume)

    @router.post("/nodes/{node}/mode")
    def set_node_mode(node: NodeName, said: SaidMode) -> DecisionAnswer:
        """Say what may be done on a node."""
        return decide(partial(lookup.find_node, given=node), said, _mode(said))

    @router.post("/networks/{network}/pause")
    def pause_network(network: NetworkName, said: SaidBody = _NOTHING) -> DecisionAnswer:
        """Remove no more devices of a network."""
        return decide(partial(lookup.find_network, given=network), said, decisions.pause)

    @router.post("/networks/{network}/resume")
    def resume_network(network: NetworkName, said: SaidBody = _NOTHING) -> DecisionAnswer:
        """Undo a pause, and look at the nodes with devices of the network at once."""
        return decide(partial(lookup.find_network, given=network), said, decisions.resume)

    @router.post("/networks/{network}/mode")
    def set_network_mode(network: NetworkName, said: SaidMode) -> DecisionAnswer:
        """Say what may be done to a network's devices."""
        return decide(partial(lookup.find_network, given=network), said, _mode(said))

    @router.post("/cluster/pause")
    def pause_cluster(said: SaidBody = _NOTHING) -> DecisionAnswer:
        """Start no more runs at all."""
        return decide(queries.known_cluster, said, decisions.pause)

    @router.post("/cluster/resume")
    def resume_cluster(said: SaidBody = _NOTHING) -> DecisionAnswer:
        """Undo a pause of everything, and look at every node."""
        return decide(queries.known_cluster, said, decisions.resume)

    @router.post("/cluster/mode")
    def set_cluster_mode(said: SaidMode) -> DecisionAnswer:
        """Say what may be done anywhere, instead of the controller's settings."""
        return decide(queries.known_cluster, said, _mode(said))

    @router.get("/breaker")
    def breaker_state() -> BreakerAnswer:
        """What counts against which limit, and what has tripped."""
        with database.read() as session:
            return _breaker(session, context)

    @router.post("/breaker/reset")
    def reset_breaker(node: NodeFilter = None, said: SaidBody = _NOTHING) -> BreakerResetAnswer:
        """Let a node remove again, or without one everybody; removals so far no longer count."""
        with database.write() as session:
            names = breaker.reset(session, lookup.maybe_node(session, node), _word(said))
            answer = BreakerResetAnswer(reset=names, breaker=_breaker(session, context))
        context.notify()
        return answer

    return router


def _word(said: ActorAndReason) -> Attribution:
    return Attribution(said.actor, said.reason, datetime.now(UTC))


def _mode(said: SaidMode) -> Act:
    mode = None if said.mode == "default" else Mode(said.mode)
    return partial(decisions.set_mode, mode=mode)


def _effective(target: Target, cluster: Cluster, configured: Mode) -> Effective:
    if isinstance(target, Cluster):
        return modes.of_cluster(target, configured)
    if isinstance(target, Node):
        return modes.of_node(target, cluster, configured)
    return modes.of_network_anywhere(target, cluster, configured)


def _breaker(session: Session, context: Context) -> BreakerAnswer:
    limits = context.breaker
    state = breaker.state(session, limits, datetime.now(UTC))
    return BreakerAnswer.of(queries.cluster(session), state, limits)
