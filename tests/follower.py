"""A client that follows a list of the HTTP API, and an API behind a real socket in this process."""

import asyncio
import json
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Self

import httpx
from fastapi import FastAPI

from controller.process.http import HttpServer
from tests.controller_process import free_port
from tests.servers import await_true
from tests.tokens import HEADERS

_TIMEOUT_SECONDS = 60.0


class Heard(NamedTuple):
    """An event."""

    event: str
    id: str | None
    data: dict[str, Any]


@contextmanager
def serving(app: FastAPI, port: int | None = None) -> Iterator[str]:
    """Serve an API on a loopback port, a free one unless told, until the end of the block; the URL."""
    port = port or free_port()
    server = HttpServer(app, ending=app.state.end_streams, host="127.0.0.1", port=port)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        await_true(lambda: server.started, "the API is served")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(_TIMEOUT_SECONDS)
        assert not thread.is_alive()


class Follower:
    """Follows a list; use it as a context manager.

    Args:
        path: below /api/v1, without `watch=true`.
        last: the id of the last event that was heard before.
        headers: who follows.
    """

    def __init__(
        self,
        url: str,
        path: str,
        last: str | None = None,
        headers: Mapping[str, str] = HEADERS,
        **parameters: Any,
    ) -> None:
        resumed = {} if last is None else {"Last-Event-ID": last}
        self._client = httpx.Client(
            base_url=f"{url}/api/v1/", timeout=httpx.Timeout(10.0, read=None)
        )
        self._asked = self._client.stream(
            "GET",
            path,
            params={"watch": "true", **parameters},
            headers={**headers, **resumed},
        )
        self._heard: queue.Queue[Heard | None] = queue.Queue()

    def __enter__(self) -> Self:
        self.answer = self._asked.__enter__()
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        # The thread still waits for the socket, which keeps a connection that is only closed.
        with suppress(OSError):
            stream = self.answer.extensions["network_stream"]
            stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._client.close()

    def next(self) -> Heard:
        """The next event; waits for it."""
        heard = self._heard.get(timeout=_TIMEOUT_SECONDS)
        assert heard is not None, "the stream has ended"
        return heard

    def until(self, event: str) -> list[Heard]:
        """All events before one of this kind, which is left out."""
        return [*iter(self.next_but(event), None)]

    def next_but(self, event: str) -> Any:
        """A function that returns the next event, or None if it is of this kind."""

        def one() -> Heard | None:
            heard = self.next()
            return None if heard.event == event else heard

        return one

    def is_silent(self, seconds: float = 0.7) -> bool:
        """Whether nothing comes for a while."""
        try:
            self._heard.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def ends(self) -> bool:
        """Whether nothing comes any more; waits for that."""
        return self._heard.get(timeout=_TIMEOUT_SECONDS) is None

    def _listen(self) -> None:
        fields: dict[str, str] = {}
        try:
            for line in self.answer.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    data = json.loads(fields["data"])
                    self._heard.put(Heard(fields["event"], fields.get("id"), data))
                    fields = {}
        except (httpx.TransportError, httpx.StreamError, AttributeError, OSError):
            pass
        self._heard.put(None)
