"""A controller's dashboard on a loopback port, in a thread of this process, over the cluster of `world`."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import httpx
import structlog

from contract.verdicts import Mode
from controller.access.tokens import Secret
from controller.api.context import Context
from controller.db.engine import Database, open_database
from controller.health.live import Health
from controller.process.controller import listen
from controller.process.http import HttpServer
from controller.web.app import Served
from tests.browser.world import World
from tests.controller_process import free_port
from tests.servers import await_true

_STOP_SECONDS: Final = 60.0


class Dashboard:
    """The dashboard, and the cluster that it shows; a context manager.

    Args:
        folder: for the database.
        more: for the `Context`.

    Attributes:
        url: without a slash at the end.
        health: what the controller knows of its broker and database.
    """

    def __init__(self, folder: Path, **more: Any) -> None:
        # Not by `configure_logging`, whose loggers stay as they are: later tests in this process read logs.
        self._logging = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        self.database: Database = open_database(f"sqlite:///{folder / 'controller.db'}")
        self.world = World(self.database)
        self._more = more
        self._cookies: dict[str, tuple[str, str]] = {}
        self._begin(free_port())

    def _begin(self, port: int) -> None:
        settings: dict[str, Any] = {
            "mode": Mode.ENFORCE,
            "notify": lambda *_: None,
            "health": _well(),
        } | self._more
        context = Context(self.database, **settings)
        self.health = context.health
        served = Served(context)
        listener = listen(f"127.0.0.1:{port}")
        self._port = port
        self.url = f"http://127.0.0.1:{self._port}"
        self._server = HttpServer(served, ending=served.end_streams)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="dashboard", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        await_true(lambda: self._server.started, "the dashboard has started")
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self.database.close()
        structlog.configure(**self._logging)

    def _end(self) -> None:
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody answers: the controller is killed, and started again at the same port afterwards."""
        self._server.force_exit = True
        self._end()
        yield
        self._begin(self._port)
        self.__enter__()

    def cookie(self, secret: Secret) -> tuple[str, str]:
        """Name and value of the cookie of a session that was begun with a token; one for each token."""
        if secret.text not in self._cookies:
            answer = httpx.post(f"{self.url}/login", data={"token": secret.text}, timeout=60)
            assert answer.status_code == 303, answer.text
            ((name, value),) = answer.cookies.items()
            self._cookies[secret.text] = name, value
        return self._cookies[secret.text]


@contextmanager
def database_away(dashboard: Dashboard, folder: Path) -> Iterator[None]:
    """The database cannot be opened."""
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    dashboard.database.engine.dispose()
    try:
        yield
    finally:
        hidden.rename(folder)
        dashboard.database.engine.dispose()


def _well() -> Health:
    """Broker, database and audit trail were tested a moment ago, for ever."""
    now = datetime.now(UTC)
    health = Health(lambda: now)
    for monitor in (health.broker, health.database, health.trail):
        monitor.succeeded()
    return health
