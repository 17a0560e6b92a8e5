"""The stream that tells open pages which parts of the database changed, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import TypeAdapter

from controller.api.access import READ
from controller.api.context import Context
from controller.api.routes.watch import until_login_again
from controller.api.watch.broadcaster import Broadcaster
from controller.api.watch.stream import Stream
from controller.web.access import StillLoggedIn, cookie, session_of
from controller.web.live import PartAnswer, PartSource

BEAT_SECONDS: Final = 4.0
"""Between two events of a stream at the latest: a page that hears nothing for longer has lost it."""
_QUESTION: Final = "parts"
_PART: Final = TypeAdapter(PartAnswer)


def routes(context: Context) -> APIRouter:
    router = APIRouter()

    async def follow(request: Request) -> AsyncIterator[Stream]:
        broadcaster: Broadcaster = request.app.state.broadcaster
        found = session_of(request)
        check = (
            until_login_again(time.monotonic())
            if found is None
            else StillLoggedIn(found.id, cookie(request) or "", context.usage)
        )
        async with context.turns.lists.held():
            stream = await run_in_threadpool(
                broadcaster.follow,
                _QUESTION,
                lambda _: PartSource(),
                request.headers.get("last-event-id"),
                None,
                check,
            )
        try:
            yield stream
        finally:
            broadcaster.leave(stream)

    @router.get("/ui/stream", dependencies=[READ], response_class=EventSourceResponse)
    async def get_stream(
        stream: Annotated[Stream, Depends(follow)],
    ) -> AsyncIterable[ServerSentEvent]:
        """Name each part that changed; at first all, or those changed since `Last-Event-ID`.

        While the database cannot be used, `away` says so in place of each `beat`: the page knows nothing new.
        """

        def beat() -> ServerSentEvent:
            fault = context.health.database.fault
            if fault is None:
                return ServerSentEvent(raw_data="", event="beat")
            return ServerSentEvent(raw_data=fault.message, event="away")

        async for event in _with_beats(stream.events(), beat):
            if event.event in ("added", "modified") and event.raw_data is not None:
                part = _PART.validate_json(event.raw_data)
                yield ServerSentEvent(raw_data=part.mark, event=part.part, id=event.id)
            else:
                yield event

    return router


async def _with_beats(
    events: AsyncIterator[ServerSentEvent], beat: Callable[[], ServerSentEvent]
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events, and what `beat` returns where there is none for a while."""
    iterator = aiter(events)
    waiting = asyncio.ensure_future(anext(iterator))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=BEAT_SECONDS)
            if not done:
                yield beat()
                continue
            try:
                event = waiting.result()
            except StopAsyncIteration:
                return
            yield event
            waiting = asyncio.ensure_future(anext(iterator))
    finally:
        waiting.cancel()
