"""The matrix of nodes and networks, and the page of one cell."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from controller.api.access import READ
from controller.api.context import Context
from controller.api.parameters import ParameterError
from controller.web import live, matrix, words
from controller.web.matrix import Search
from controller.web.pages import render

_MAX_NAME = 255
_MAX_PAGE = 1000

Name = Annotated[str, Query(max_length=_MAX_NAME)]


def routes(context: Context) -> APIRouter:
    router = APIRouter(dependencies=[Depends(context.turns.status)])

    @router.get("/matrix", dependencies=[READ])
    def get_matrix(
        request: Request,
        node: Name = "",
        network: Name = "",
        everything: Annotated[bool, Query()] = False,
        page: Annotated[int, Query(ge=0, le=_MAX_PAGE)] = 0,
    ) -> Response:
        """Show the nodes on which something is not as it should be, or those that were searched for."""
        search = Search(node.strip(), network.strip(), everything, page)
        with context.database.read() as session:
            marks = live.marks(session)
            found = matrix.matrix(session, search, datetime.now(UTC))
        query = request.url.query
        return render(
            request,
            "matrix.html",
            marks=marks,
            matrix=found,
            search=search,
            here=f"/matrix?{query}" if query else "/matrix",
        )

    @router.get("/matrix/cell", dependencies=[READ])
    def get_cell(
        request: Request,
        node: Annotated[str, Query(max_length=_MAX_NAME)],
        network: Annotated[str | None, Query(max_length=_MAX_NAME)] = None,
        vni: Annotated[int | None, Query(ge=0, lt=2**24)] = None,
    ) -> Response:
        """Tell everything about a network on a node."""
        if network is None and vni is None:
            raise ParameterError("network", "is missing", "give a network or a vni")
        with context.database.read() as session:
            marks = live.marks(session)
            found = matrix.details(session, context.mode, node=node, network=network, vni=vni)
            return render(
                request,
                "cell.html",
                marks=marks,
                details=found,
                proofs=words.PROOFS,
                urgencies=words.URGENCIES,
                here=f"/matrix/cell?{request.url.query}",
            )

    return router
