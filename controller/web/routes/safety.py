"""The page about safety: modes, pauses, the breaker, and which removals are held back and why."""

from datetime import UTC, datetime
from itertools import islice

from fastapi import APIRouter, Depends, Request, Response

from contract.verdicts import Mode
from controller.api import acting
from controller.api.access import READ
from controller.api.answers.devices import DeviceAnswer
from controller.api.answers.on_node import with_shared_names
from controller.api.answers.safety import BreakerAnswer
from controller.api.context import Context
from controller.db.models import Cluster
from controller.safety import modes
from controller.safety.holding import Holding
from controller.safety.modes import EffectiveMode
from controller.safety.suppressed import suppressed, totals
from controller.views.restricted import restricted_networks, restricted_nodes
from controller.web import live
from controller.web.pages import render

_LIMIT = 200


def routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/safety", dependencies=[READ, Depends(context.turns.lists)])
    def get_safety(request: Request) -> Response:
        """Show what may be done, and what is held back."""
        now = datetime.now(UTC)
        with context.database.read() as session:
            marks = live.marks(session)
            cluster = session.get(Cluster, 1)
            effective = (
                EffectiveMode(context.mode, False, ("set in the controller's settings",))
                if cluster is None
                else modes.of_cluster(cluster, context.mode)
            )
            breaker = acting.breaker_answer(context, session)
            nodes = restricted_nodes(session, _LIMIT + 1)
            networks = restricted_networks(session, _LIMIT + 1)
            held = [
                DeviceAnswer.of(*row)
                for row in islice(
                    suppressed(session, Holding(session, context.mode, now), now), _LIMIT + 1
                )
            ]
            return render(
                request,
                "safety.html",
                marks=marks,
                cluster=cluster,
                effective=effective,
                look=_look(effective, cluster),
                sentence=_sentence(effective, cluster),
                breaker=breaker,
                tripped=_tripped(breaker),
                nodes=nodes[:_LIMIT],
                networks=networks[:_LIMIT],
                more=max(len(nodes), len(networks)) > _LIMIT,
                held=with_shared_names(session, held[:_LIMIT]),
                more_held=len(held) > _LIMIT,
                limit=_LIMIT,
                totals=totals(session),
            )

    return router


def _look(effective: EffectiveMode, cluster: Cluster | None) -> str:
    if cluster is not None and cluster.breaker_tripped_at is not None:
        return "bad"
    return "ok" if effective.mode is Mode.ENFORCE and not effective.paused else "chosen"


def _sentence(effective: EffectiveMode, cluster: Cluster | None) -> str:
    if effective.paused:
        return "The cluster is paused: no runs are started"
    if cluster is not None and cluster.breaker_tripped_at is not None:
        return "The cluster's breaker has tripped: nothing is removed"
    if effective.mode is Mode.OBSERVE:
        return "Mode observe: orphans are judged and reported, and not removed"
    return "Mode enforce: orphans that are proved dead are removed"


def _tripped(breaker: BreakerAnswer) -> str:
    """Return which breakers have tripped, as a phrase; empty: none has."""
    count = sum(node.tripped_at is not None for node in breaker.nodes)
    of_nodes = f"{count} {'node' if count == 1 else 'nodes'}"
    if breaker.tripped_at is not None:
        return f"The cluster's and those of {of_nodes}" if count else "The cluster's has"
    return f"Those of {of_nodes}" if count else ""
