"""The route that Prometheus scrapes."""

from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from controller.api.access import METRICS
from controller.api.context import Context
from controller.api.problem_types import BUSY, may_answer
from controller.views import metrics


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["metrics"])
    exposition = metrics.Exposition(
        metrics.registry(context.database, context.leading, context.health)
    )

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        dependencies=[METRICS, Depends(context.turns.metrics)],
        responses=may_answer(BUSY),
    )
    def get_metrics() -> Response:
        """Return all metrics in Prometheus's text format."""
        return Response(exposition.text(), media_type=CONTENT_TYPE_LATEST)

    return router
