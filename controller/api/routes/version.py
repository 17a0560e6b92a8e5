"""The route that tells versions."""

import platform

from fastapi import APIRouter

from contract import VERSION
from controller.api.access import READ
from controller.api.answers.version import VersionAnswer, WorkersAnswer
from controller.api.context import Context
from controller.db import schema
from controller.views import queries


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["status"])

    @router.get("/api/v1/version", dependencies=[READ])
    def get_version() -> VersionAnswer:
        """Return the versions of the controller, its database schema, and the workers."""
        with context.database.read() as session:
            found = schema.version(session.connection())
            return VersionAnswer(
                version=VERSION,
                python=platform.python_version(),
                database=session.get_bind().dialect.name,
                schema_current=found.current,
                schema_newest=found.head,
                workers=[
                    WorkersAnswer(version=version, nodes=nodes)
                    for version, nodes in queries.worker_versions(session)
                ],
            )

    return router
