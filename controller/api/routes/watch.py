"""Routes that follow a list: the same paths as the lists, asked with `watch=true`."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.orm import Session
from starlette.routing import Match
from starlette.types import Scope

from controller.access import store
from controller.access.store import UnauthenticatedError
from controller.api.access import READ, identity
from controller.api.audit_parameters import AuditListing
from controller.api.context import Context
from controller.api.parameters import TRUE, ContradictionError, Followed
from controller.api.problem_types import LOGIN_AGAIN, UNAUTHENTICATED
from controller.api.routes.devices import DeviceListing
from controller.api.routes.events import EventListing
from controller.api.routes.nodes import NodeListing
from controller.api.routes.runs import RunListing
from controller.api.watch.broadcaster import Broadcaster
from controller.api.watch.history import AuditSource, EventSource, RunSource
from controller.api.watch.sources import DeviceSource, NodeSource
from controller.api.watch.stream import Stream
from controller.api.watch.topic import Ended, Source
from controller.db import lookup
from controller.views import events

PROXY_SECONDS: Final = 300.0
"""Of a stream to a user of the trusted proxy, whose login and groups only the next request can show."""
_LOGIN_AGAIN: Final = Ended(
    LOGIN_AGAIN, f"the proxy's login is checked every {PROXY_SECONDS:.0f} s"
)


class WatchRoute(APIRoute):
    """A route for requests with `watch=true`; others are left to the list at the same path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether this route answers a request."""
        match, child = super().matches(scope)
        if match is Match.FULL:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("watch", [""])
            if given[-1].lower() in TRUE:
                return match, child
        return Match.NONE, {}


def routes(context: Context, broadcaster: Broadcaster) -> APIRouter:
    # The routes of the lists describe them in the specification.
    router = APIRouter(
        prefix="/api/v1",
        route_class=WatchRoute,
        default_response_class=EventSourceResponse,
        include_in_schema=False,
    )

    @asynccontextmanager
    async def follow(
        request: Request,
        listing: Followed,
        question: Hashable,
        source: Callable[[Session], Source],
        limit: int | None = None,
    ) -> AsyncIterator[Stream]:
        if listing.cursor is not None:
            raise ContradictionError(
                "cursor", "cannot be combined with watch", "leave one of them out"
            )
        last_event_id = request.headers.get("last-event-id")
        async with context.turns.lists.held():
            stream = await run_in_threadpool(
                broadcaster.follow, question, source, last_event_id, limit, _check_of(request)
            )
        try:
            yield stream
        finally:
            broadcaster.leave(stream)

    async def nodes_stream(
        request: Request, listing: Annotated[NodeListing, Query()]
    ) -> AsyncIterator[Stream]:
        question = ("nodes", listing.ready)
        async with follow(
            request, listing, question, lambda _: NodeSource(listing.ready)
        ) as stream:
            yield stream

    async def devices_stream(
        request: Request, listing: Annotated[DeviceListing, Query()]
    ) -> AsyncIterator[Stream]:
        def source(session: Session) -> Source:
            node = lookup.maybe_node(session, listing.node)
            network = lookup.maybe_network(session, listing.network)
            return DeviceSource(context.mode, node, network, listing.verdict)

        question = ("devices", listing.node, listing.network, listing.verdict)
        async with follow(request, listing, question, source) as stream:
            yield stream

    async def runs_stream(
        request: Request, listing: Annotated[RunListing, Query()]
    ) -> AsyncIterator[Stream]:
        def source(session: Session) -> Source:
            return RunSource(lookup.maybe_node(session, listing.node), listing.state)

        question = ("runs", listing.node, listing.state)
        async with follow(request, listing, question, source, listing.limit) as stream:
            yield stream

    async def audit_stream(
        request: Request, listing: Annotated[AuditListing, Query()]
    ) -> AsyncIterator[Stream]:
        def source(session: Session) -> Source:
            return AuditSource(context.database, listing.filters(session), context.trace_url)

        asked = listing.model_dump_json(exclude={"limit", "after", "watch"})
        async with follow(request, listing, ("audit", asked), source, listing.limit) as stream:
            if listing.after is not None:
                stream.start_after(listing.after)
            yield stream

    async def events_stream(
        request: Request, listing: Annotated[EventListing, Query()]
    ) -> AsyncIterator[Stream]:
        listing.check()

        def source(session: Session) -> Source:
            of = events.scope(session, node=listing.node, network=listing.network)
            return EventSource(of.node_id, of.network_id, listing.since)

        question = ("events", listing.node, listing.network, listing.since)
        async with follow(request, listing, question, source, listing.limit) as stream:
            yield stream

    streams: dict[str, Callable[..., object]] = {
        "/nodes": nodes_stream,
        "/devices": devices_stream,
        "/runs": runs_stream,
        "/audit": audit_stream,
        "/events": events_stream,
    }
    for path, stream in streams.items():
        router.get(path, dependencies=[READ])(_following(stream))
    return router


def _following(
    stream_of: Callable[..., object],
) -> Callable[..., AsyncIterable[ServerSentEvent]]:
    """Return the function of a route that sends the events of a stream."""

    async def watch(
        stream: Annotated[Stream, Depends(stream_of)],
    ) -> AsyncIterable[ServerSentEvent]:
        async for event in stream.events():
            yield event

    return watch


def _check_of(request: Request) -> Callable[[Session], Ended | None]:
    """Return what says why the caller may not follow any more; None: the caller still may."""
    if not identity(request).by_proxy:
        return _StillValid(request.headers.get("authorization", "").partition(" ")[2].strip(" "))
    return until_login_again(time.monotonic())


def until_login_again(began: float) -> Callable[[Session], Ended | None]:
    """Return what ends a stream to a user of the trusted proxy some time after it began (monotonic)."""
    return lambda _: _LOGIN_AGAIN if time.monotonic() - began >= PROXY_SECONDS else None


@dataclass(frozen=True, slots=True)
class _StillValid:
    """Whether a token is still valid; equal for all clients that have the same."""

    token: str = field(repr=False)

    def __call__(self, session: Session) -> Ended | None:
        try:
            store.identify(session, self.token, datetime.now(UTC))
        except UnauthenticatedError as error:
            return Ended(UNAUTHENTICATED, str(error))
        return None
