"""Routes that hold the operator back: pause, mode, and breaker."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Query
from pydantic import AwareDatetime, BeforeValidator, Field
from sqlalchemy.orm import Session

from contract.verdicts import Mode
from controller.access.roles import Identity
from controller.api import acting
from controller.api.access import OPERATE, READ, Caller
from controller.api.acting import Act, Find
from controller.api.answers.safety import BreakerAnswer, BreakerResetAnswer, DecisionAnswer
from controller.api.context import Context
from controller.api.parameters import (
    ActorAndReason,
    ContradictionError,
    NetworkName,
    NodeFilter,
    NodeName,
)
from controller.api.problem_types import AMBIGUOUS, CONTRADICTION, NO_CLUSTER, UNKNOWN, may_answer
from controller.db import lookup
from controller.db.sql_functions import database_time
from controller.safety import decisions
from controller.safety.decisions import Decision, Target
from controller.views import queries

MAX_PAUSE_SECONDS: Final = 366 * 86_400


class ModeBody(ActorAndReason):
    """Mode, actor and reason; `default` removes the mode that was set."""

    mode: Literal["observe", "enforce", "default"]


def _text(value: Any) -> str:
    """Refuse a number, which pydantic would take for seconds since 1970."""
    if not isinstance(value, str):
        raise ValueError("must be an ISO 8601 time with a zone")  # noqa: TRY004 -- of pydantic
    return value


class PauseBody(ActorAndReason):
    """Actor, reason, and the end of the pause: at most one of `seconds` and `until`."""

    seconds: Annotated[
        float | None,
        Field(
            strict=True,
            gt=0,
            le=MAX_PAUSE_SECONDS,
            description="length of the pause; null: until resumed",
        ),
    ] = None
    until: Annotated[
        Annotated[AwareDatetime, BeforeValidator(_text)] | None,
        Field(description="end of the pause, by the database's clock"),
    ] = None

    def end(self, now: datetime) -> datetime | None:
        """Return the end of the pause.

        Raises:
            ContradictionError: it is over already, too far away, or given twice.
        """
        if self.seconds is not None and self.until is not None:
            raise ContradictionError("until", "cannot be combined with seconds", "give one of them")
        if self.seconds is not None:
            return now + timedelta(seconds=self.seconds)
        if self.until is None:
            return None
        try:
            left = self.until - now
        except OverflowError:
            left = timedelta.max
        if not timedelta(0) < left <= timedelta(seconds=MAX_PAUSE_SECONDS):
            raise ContradictionError(
                "until",
                "must be in the future, and within a year",
                f"now is {now.isoformat(timespec='seconds')}",
            )
        return self.until


DecisionBody = Annotated[ActorAndReason, Body()]
PauseBodyOrNone = Annotated[PauseBody, Body()]
_NO_REASON: Final = ActorAndReason()
_BY_NAME: Final = may_answer(UNKNOWN, AMBIGUOUS, NO_CLUSTER)
_OF_CLUSTER: Final = may_answer(NO_CLUSTER)
_PAUSE_BY_NAME: Final = may_answer(UNKNOWN, AMBIGUOUS, NO_CLUSTER, CONTRADICTION)
_PAUSE_OF_CLUSTER: Final = may_answer(NO_CLUSTER, CONTRADICTION)
_NO_END: Final = PauseBody()


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["safety"])
    database = context.database

    def decide(find: Find, caller: Identity, body: ActorAndReason, act: Act) -> DecisionAnswer:
        return acting.decide(context, find, _decision(caller, body), act)

    @router.post("/nodes/{node}/pause", responses=_PAUSE_BY_NAME, dependencies=[OPERATE])
    def pause_node(
        caller: Caller, node: NodeName, body: PauseBodyOrNone = _NO_END
    ) -> DecisionAnswer:
        """Start no more runs of a node, until it is resumed or the pause ends."""
        return decide(partial(lookup.find_node, given=node), caller, body, pausing(body))

    @router.post("/nodes/{node}/resume", responses=_BY_NAME, dependencies=[OPERATE])
    def resume_node(
        caller: Caller, node: NodeName, body: DecisionBody = _NO_REASON
    ) -> DecisionAnswer:
        """End a node's pause, and run it at once."""
        return decide(partial(lookup.find_node, given=node), caller, body, decisions.resume)

    @router.post("/nodes/{node}/mode", responses=_BY_NAME, dependencies=[OPERATE])
    def set_node_mode(caller: Caller, node: NodeName, body: ModeBody) -> DecisionAnswer:
        """Set the mode of a node."""
        return decide(partial(lookup.find_node, given=node), caller, body, setting_mode(body))

    @router.post("/networks/{network}/pause", responses=_PAUSE_BY_NAME, dependencies=[OPERATE])
    def pause_network(
        caller: Caller, network: NetworkName, body: PauseBodyOrNone = _NO_END
    ) -> DecisionAnswer:
        """Remove no more devices of a network, until it is resumed or the pause ends."""
        return decide(partial(lookup.find_network, given=network), caller, body, pausing(body))

    @router.post("/networks/{network}/resume", responses=_BY_NAME, dependencies=[OPERATE])
    def resume_network(
        caller: Caller, network: NetworkName, body: DecisionBody = _NO_REASON
    ) -> DecisionAnswer:
        """End a network's pause, and run the nodes with devices of the network at once."""
        return decide(partial(lookup.find_network, given=network), caller, body, decisions.resume)

    @router.post("/networks/{network}/mode", responses=_BY_NAME, dependencies=[OPERATE])
    def set_network_mode(caller: Caller, network: NetworkName, body: ModeBody) -> DecisionAnswer:
        """Set the mode of a network's devices."""
        return decide(partial(lookup.find_network, given=network), caller, body, setting_mode(body))

    @router.post("/cluster/pause", responses=_PAUSE_OF_CLUSTER, dependencies=[OPERATE])
    def pause_cluster(caller: Caller, body: PauseBodyOrNone = _NO_END) -> DecisionAnswer:
        """Start no more runs of any node, until the cluster is resumed or the pause ends."""
        return decide(queries.known_cluster, caller, body, pausing(body))

    @router.post("/cluster/resume", responses=_OF_CLUSTER, dependencies=[OPERATE])
    def resume_cluster(caller: Caller, body: DecisionBody = _NO_REASON) -> DecisionAnswer:
        """End the cluster's pause, and run every node."""
        return decide(queries.known_cluster, caller, body, decisions.resume)

    @router.post("/cluster/mode", responses=_OF_CLUSTER, dependencies=[OPERATE])
    def set_cluster_mode(caller: Caller, body: ModeBody) -> DecisionAnswer:
        """Set the mode of the cluster, instead of the mode in the controller's settings."""
        return decide(queries.known_cluster, caller, body, setting_mode(body))

    @router.get("/breaker", dependencies=[READ])
    def get_breaker() -> BreakerAnswer:
        """Return the removals that count, the limits, and the breakers that have tripped."""
        with database.read() as session:
            return acting.breaker_answer(context, session)

    @router.post("/breaker/reset", responses=_BY_NAME, dependencies=[OPERATE])
    def reset_breaker(
        caller: Caller, node: Annotated[NodeFilter, Query()] = None, body: DecisionBody = _NO_REASON
    ) -> BreakerResetAnswer:
        """Reset the breaker of a node, or without a node all breakers; past removals no longer count."""
        return acting.reset_breaker(context, node, _decision(caller, body))

    return router


def _decision(caller: Identity, body: ActorAndReason) -> Decision:
    return Decision(caller.name, body.reason, datetime.now(UTC), body.claimed_name)


def pausing(body: PauseBody) -> Act:
    """Return the act that pauses its target until the end that the body says."""

    def act(session: Session, target: Target, decision: Decision) -> bool:
        until = body.end(database_time(session))
        return decisions.pause(session, target, decision, until=until)

    return act


def setting_mode(body: ModeBody) -> Act:
    """Return the act that sets, or removes, the mode of its target."""
    mode = None if body.mode == "default" else Mode(body.mode)
    return partial(decisions.set_mode, mode=mode)
