"""The route that Prometheus scrapes."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from controller.api.context import Context
from controller.views import metrics


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["metrics"])
    registry = metrics.registry(context.database, context.leading)

    @router.get("/metrics", response_class=Response)
    def get_metrics() -> Response:
        """Return all metrics in Prometheus's text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
