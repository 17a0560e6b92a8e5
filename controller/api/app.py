"""The app: its routes put together, and its errors."""

from fastapi import FastAPI

from contract import VERSION
from controller.api import audit, chain, explain, metrics, nodes, problems, requeue, safety
from controller.api.context import Context
from controller.api.same_site import SameSiteOnly


def build(context: Context) -> FastAPI:
    """Build the API."""
    app = FastAPI(title="vxlan-operator", version=VERSION)
    problems.install(app)
    app.add_middleware(SameSiteOnly, hosts=context.hosts)
    # The first path that matches answers: `chain` (/audit/verify) must come before `audit` (/audit/{id}).
    for part in (nodes, requeue, safety, chain, audit, explain, metrics):
        app.include_router(part.routes(context))
    return app
