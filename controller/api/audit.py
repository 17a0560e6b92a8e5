"""Routes about the audit trail."""

from typing import Annotated

from fastapi import APIRouter, Query

from controller import queries
from controller.api.context import Context
from controller.api.parameters import Limit, NodeFilter
from controller.api.schema import AuditAnswer


def routes(context: Context) -> APIRouter:
    """Build them."""
    router = APIRouter(prefix="/api/v1/audit")
    database = context.database

    @router.get("")
    def audit(
        node: NodeFilter = None,
        before: Annotated[
            int | None, Query(ge=1, lt=2**63, description="the last id of the page before")
        ] = None,
        limit: Limit = 100,
    ) -> list[AuditAnswer]:
        """The newest audit rows first."""
        with database.read() as session:
            rows = queries.audit(
                session, node=queries.maybe_node(session, node), before=before, limit=limit
            )
            return [AuditAnswer.of(row) for row in rows]

    return router
