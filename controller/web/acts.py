"""What a person can do on a page: its target, what it will do in words, and carrying it out once."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Final
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.access.roles import Identity
from controller.api import acting
from controller.api.acting import Act as Change
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, ParameterError
from controller.api.routes.safety import (
    MAX_PAUSE_SECONDS,
    ModeBody,
    PauseBody,
    pausing,
    setting_mode,
)
from controller.db import lookup
from controller.db.audit_models import AuditRow
from controller.db.models import Cluster, Network, Node, Requeue
from controller.db.pauses import describe_pause
from controller.safety import breaker, decisions, modes
from controller.safety.decisions import Decision, Target
from controller.timespec import parse_duration
from controller.views import queries
from controller.views.steps import requeued_row
from controller.workqueue.requeue import RequeueRequest

MAX_ROWS: Final = 100
"""Audit rows of one act that are shown; a reset of all breakers makes one a breaker."""
_IDS: Final = UUID("6f0c3a52-6f6e-4c64-9a1e-0d3b8f0a7f11")
"""The namespace of audit rows that pages make."""

Field_ = Annotated[str, Field(max_length=4000)]


class Act(StrEnum):
    """An act; the last part of its path."""

    REQUEUE = "requeue"
    PAUSE = "pause"
    RESUME = "resume"
    MODE = "mode"
    RESET = "breaker-reset"


TITLES: Final = {
    Act.REQUEUE: "Look again now at",
    Act.PAUSE: "Pause",
    Act.RESUME: "Resume",
    Act.MODE: "Set the mode of",
    Act.RESET: "Reset the breaker of",
}


class Typed(BaseModel):
    """The fields of a form as they were typed, right or wrong.

    Attributes:
        node, network: id or name; both empty: the cluster.
        end: of a pause: a duration, or an ISO time with a zone; empty: until resumed.
        once: a UUID for each form: the same act with the same one and the same fields is carried out once.
    """

    model_config = ConfigDict(extra="forbid")

    node: Field_ = ""
    network: Field_ = ""
    reason: Field_ = ""
    end: Field_ = ""
    mode: Field_ = ""
    once: Field_ = ""


@dataclass(frozen=True, slots=True)
class Form:
    """What a form says before anything is done.

    Attributes:
        name: of the target, with its kind.
        back: the path of the page about the target.
        effects: what the act will do, in sentences.
        now: how it is now, in sentences.
    """

    title: str
    name: str
    back: str
    effects: Sequence[str]
    now: Sequence[str]


def find(session: Session, typed: Typed) -> Target:
    """Return the target of a form.

    Raises:
        UnknownError, AmbiguousError, NoClusterError: there is none, or there are several.
        ParameterError: both a node and a network are given.
    """
    if typed.node and typed.network:
        raise ParameterError("network", "cannot be combined with node", "give one of them")
    if typed.node:
        return lookup.find_node(session, typed.node)
    if typed.network:
        return lookup.find_network(session, typed.network)
    return queries.known_cluster(session)


def form(session: Session, act: Act, typed: Typed, context: Context) -> Form:
    """Return what a form says; raises as `find` does."""
    target = find(session, typed)
    _check(act, target)
    name = decisions.describe(target)
    return Form(
        title=f"{TITLES[act]} {name}",
        name=name,
        back=path_of(target),
        effects=_EFFECTS[act](target, name),
        now=[*_now(session, target, context)],
    )


def path_of(target: Target) -> str:
    """Return the path of the page about a target."""
    if isinstance(target, Cluster):
        return "/safety"
    return f"/nodes/{target.id}" if isinstance(target, Node) else f"/networks/{target.id}"


def _check(act: Act, target: Target) -> None:
    if act is Act.REQUEUE and not isinstance(target, Node):
        raise ParameterError(
            "node", "is missing", "only a node can be requeued: give its id or name"
        )
    if act is Act.RESET and isinstance(target, Network):
        raise ParameterError(
            "network", "has no breaker", "give a node, or neither for all breakers"
        )


def _of_requeue(_: Target, name: str) -> list[str]:
    return [
        f"A requeue: {name} gets a run now, before all others and whatever its backoff.",
        "Its worker reads the kernel and judges every device again.",
        "It removes the orphans that are proved dead, unless something holds them back.",
    ]


def _of_pause(target: Target, name: str) -> list[str]:
    again = (
        [f"It is {describe_pause(target)}: this changes only when that ends."]
        if target.paused_at is not None
        else []
    )
    if isinstance(target, Network):
        what = f"No device of {name} is removed on any node, until the pause ends or is ended by a person."
    else:
        of = "any node" if isinstance(target, Cluster) else name
        what = f"No more runs of {of} are started, until the pause ends or is ended by a person."
    return [
        *again,
        what,
        "Leaked devices stay meanwhile, and tasks may be rejected because of them.",
        "A run under way is finished.",
    ]


def _of_resume(target: Target, name: str) -> list[str]:
    pause = describe_pause(target)
    if pause is None:
        return [f"{_upper(name)} is not paused, so this changes nothing."]
    concerned = "it gets a run at once"
    if isinstance(target, Cluster):
        concerned = "every node gets a run at once"
    elif isinstance(target, Network):
        concerned = "the nodes with devices of it get a run at once"
    return [f"{_upper(name)} is {pause}.", f"The pause ends, and {concerned}."]


def _of_mode(target: Target, name: str) -> list[str]:
    concerned = {Cluster: "every node", Node: "the node"}.get(
        type(target), "each node with its devices"
    )
    return [
        f"The mode of {name} is set, and {concerned} gets a run at once.",
        "The strictest of the modes of the cluster, the node and the network counts.",
    ]


def _of_reset(target: Target, name: str) -> list[str]:
    if isinstance(target, Cluster):
        what = "All breakers that have tripped are reset: that of the cluster and those of nodes."
    else:
        what = f"The breaker of {name} is reset, if it has tripped."
    return [
        what,
        "Orphans are removed again at once, and removals so far count no more.",
        "So find out first why so many devices leaked.",
    ]


_EFFECTS: Final = {
    Act.REQUEUE: _of_requeue,
    Act.PAUSE: _of_pause,
    Act.RESUME: _of_resume,
    Act.MODE: _of_mode,
    Act.RESET: _of_reset,
}


def _now(session: Session, target: Target, context: Context) -> list[str]:
    effective = modes.of_target(target, queries.known_cluster(session), context.mode)
    paused = ", paused" if effective.paused else ""
    return [f"Effective mode: {effective.mode}{paused} ({effective.reason})."]


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def carry_out(context: Context, caller: Identity, act: Act, typed: Typed) -> None:
    """Do what a form says, by the function of the API's route; a second time it does nothing more.

    Raises:
        ValueError: a field is invalid (pydantic's `ValidationError`, too).
        ParameterError, UnknownError, AmbiguousError, NoClusterError, PausedError, TokenTakenError: as the
            route answers.
    """
    once = sealed(typed)
    with context.database.read() as session:
        _check(act, find(session, typed))
    if act is Act.REQUEUE:
        body = ActorAndReason(reason=typed.reason)
        token = str(_id(caller, act, typed, once))
        acting.request_run(context, RequeueRequest(typed.node, token, caller.name, body.reason))
        return
    change, body = _change(act, typed)
    decision = Decision(
        caller.name, body.reason, datetime.now(UTC), id=_id(caller, act, typed, once)
    )
    if change is None:
        acting.reset_breaker(context, typed.node or None, decision)
    else:
        acting.decide(context, partial(find, typed=typed), decision, change)


def _change(act: Act, typed: Typed) -> tuple[Change | None, ActorAndReason]:
    """Return what changes the target (None: a reset of breakers), and the checked body."""
    reason = {"reason": typed.reason}
    if act is Act.PAUSE:
        pause = PauseBody.model_validate(reason | end_of(typed.end))
        return pausing(pause), pause
    if act is Act.MODE:
        mode = ModeBody.model_validate(reason | {"mode": typed.mode})
        return setting_mode(mode), mode
    body = ActorAndReason.model_validate(reason)
    return (decisions.resume if act is Act.RESUME else None), body


def end_of(text: str) -> dict[str, float | str]:
    """Return the end of a pause as the API takes it; nothing if none was typed.

    Raises:
        ValueError: it is neither a duration nor a time, or a duration of over a year.
    """
    text = text.strip()
    if not text:
        return {}
    with suppress(ValueError, OverflowError):
        if datetime.fromisoformat(text).tzinfo is not None:
            return {"until": text}
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError:
        raise ValueError(
            f"for how long: {text!r} is neither a duration (30m, 2h, 3d) nor a time with its zone "
            "(2030-05-01T14:00:00Z)"
        ) from None
    except OverflowError:
        seconds = math.inf
    if seconds > MAX_PAUSE_SECONDS:
        raise ValueError(f"for how long: {text!r} is over a year; leave it empty for no end")
    return {"seconds": seconds}


def sealed(typed: Typed) -> UUID:
    """Return the UUID of a form with what was typed: sent again with other fields it is another act.

    Raises:
        ValueError: `once` is no UUID.
    """
    return uuid5(UUID(typed.once), json.dumps([typed.mode, typed.end, typed.reason]))


def _id(caller: Identity, act: Act, typed: Typed, once: UUID) -> UUID:
    """Return the id of the act: no form of another person, act or target can have the same."""
    said = [caller.name, act.value, typed.node, typed.network, str(once)]
    return uuid5(_IDS, json.dumps(said))


def recorded(
    session: Session, caller: Identity, act: Act, typed: Typed, once: str
) -> tuple[Sequence[AuditRow], Requeue | None]:
    """Return the audit rows that an act made, and the request for a run, if it was one.

    Args:
        once: of the form, `sealed`.

    Raises:
        ValueError: `once` is no UUID.
    """
    id_ = _id(caller, act, typed, UUID(once))
    if act is Act.REQUEUE:
        request = session.get(Requeue, str(id_))
        row = None if request is None else requeued_row(session, request)
        return ([] if row is None else [row]), request
    ids = breaker.rows_of(id_, MAX_ROWS)
    query = select(AuditRow).where(AuditRow.entry_id.in_(ids)).order_by(AuditRow.id)
    return session.scalars(query).all(), None
