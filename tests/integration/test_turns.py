"""Expensive answers wait for each other, and cheap ones for none of them."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from httpx import ASGITransport, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.types import ASGIApp

from contract.verdicts import Mode
from controller.api.app import build
from controller.api.context import Context
from controller.api.routes import chain
from controller.api.turns import BusyError, Turn
from controller.audit import verify
from controller.db.engine import Database
from controller.views import metrics
from controller.views.metrics import Exposition
from tests.api_client import TestClient, assert_problem
from tests.stored import put
from tests.tokens import HEADERS, give_token

VERIFY = "/api/v1/audit/verify"
CHEAP = ["/healthz", "/api/v1/status", "/api/v1/nodes", "/api/v1/audit"]


@pytest.fixture
def app(sqlite: Database) -> ASGIApp:
    """The API of a controller that knows a node."""
    put(sqlite)
    give_token(sqlite)
    return build(Context(sqlite, mode=Mode.ENFORCE, notify=lambda *_: None))


def ask(app: ASGIApp) -> httpx.AsyncClient:
    """A client that can send many requests at a time."""
    return httpx.AsyncClient(
        transport=ASGITransport(app), base_url="http://127.0.0.1:8479", headers=HEADERS
    )


class Slow:
    """A function that ends when it may, and says how many of it ran at a time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._running = 0
        self.most = 0
        self.calls = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Call the function once it may."""
        with self._lock:
            self._running += 1
            self.calls += 1
            self.most = max(self.most, self._running)
        self.begun.set()
        assert self.go_on.wait(60)
        with self._lock:
            self._running -= 1
        return self._function(*arguments, **more)


def test_cheap_answers_come_before_the_first_expensive_one_ends(
    app: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(verify.step)
    monkeypatch.setattr(verify, "step", slow)

    async def attack() -> list[Response]:
        async with ask(app) as client:
            many = [asyncio.create_task(client.get(VERIFY)) for _ in range(45)]
            await asyncio.to_thread(slow.begun.wait, 60)
            for path in CHEAP:
                assert (await client.get(path)).status_code == 200
            for _ in range(20):
                answer = await client.post("/api/v1/nodes/one/requeue")
                assert answer.status_code == 202, answer.text
            refused = [each.result() for each in many if each.done()]
            assert len(refused) == 40  # One is answered, and four wait.
            for answer in refused:
                assert_problem(answer, 429, "verification", "again in 5 s")
                assert answer.headers["retry-after"] == "5"
            slow.go_on.set()
            return await asyncio.gather(*many)

    statuses = [answer.status_code for answer in asyncio.run(attack())]
    assert statuses.count(200) == 5
    assert (slow.most, slow.calls) == (1, 5)


def test_an_export_keeps_its_turn_until_it_is_sent(
    app: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = Slow(lambda: b"{}\n")
    monkeypatch.setattr(chain, "export", lambda *_arguments, **_more: (pieces() for _ in range(3)))

    async def attack() -> None:
        async with ask(app) as client:
            one = asyncio.create_task(client.get("/api/v1/audit/export"))
            await asyncio.to_thread(pieces.begun.wait, 60)
            two = asyncio.create_task(client.get("/api/v1/audit/export"))
            assert (await client.get("/api/v1/status")).status_code == 200
            await asyncio.sleep(0.1)
            assert (pieces.calls, one.done(), two.done()) == (1, False, False)
            pieces.go_on.set()
            assert (await one).text == (await two).text == "{}\n" * 3

    asyncio.run(attack())
    assert (pieces.most, pieces.calls) == (1, 6)


def test_a_request_that_waits_for_too_long_is_refused() -> None:
    async def attack() -> None:
        turn = Turn("verification", waiting=1, seconds=0.05)
        holder = turn()
        await anext(holder)
        with pytest.raises(BusyError, match=r"took over 0\.05 s"):
            await anext(turn())
        await _end(holder)
        again = turn()
        await anext(again)
        await _end(again)

    asyncio.run(attack())


async def _end(turn: AsyncIterator[None]) -> None:
    with pytest.raises(StopAsyncIteration):
        await anext(turn)


def test_many_scrapers_cost_what_one_does(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(generate_latest)
    slow.go_on.set()
    monkeypatch.setattr(metrics, "generate_latest", slow)
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 1000.0)

    async def scrape() -> list[Response]:
        async with ask(app) as client:
            return await asyncio.gather(*(client.get("/metrics") for _ in range(8)))

    answers = asyncio.run(scrape())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert slow.calls == 1


def test_a_scrape_is_kept_for_a_second() -> None:
    now = [100.0]
    made = CollectorRegistry()
    gauge = GaugeMetricFamily("a", "A.")

    class Counting:
        """A collector that counts its scrapes."""

        scrapes = 0

        def collect(self) -> list[Any]:
            """See `Collector`."""
            self.scrapes += 1
            return [gauge]

    counting = Counting()
    made.register(counting)
    before = counting.scrapes
    exposition = Exposition(made, lambda: now[0])
    for step, scrapes in ((0.0, 1), (0.9, 1), (0.2, 2), (0.5, 2), (1.0, 3)):
        now[0] += step
        assert exposition.text()
        assert counting.scrapes - before == scrapes


TIMED = pytest.mark.parametrize("path", ["audit", "audit/export", "audit/stats"])
NAMED = pytest.mark.parametrize("name", ["since", "until"])


@TIMED
@NAMED
@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00.000001+00:01",
        "999999999w",
        "99999999d",
    ],
)
def test_a_time_beyond_the_calendar_is_its_first_or_last(
    app: ASGIApp, path: str, name: str, time: str
) -> None:
    answer = TestClient(app).get(f"/api/v1/{path}", params={name: time})
    assert answer.status_code == 200
    last = answer.text.splitlines()[-1]
    assert isinstance(json.loads(last), dict)


@TIMED
@NAMED
@pytest.mark.parametrize(
    "time",
    [
        "2026-02-30",
        "10000-01-01",
        "-1d",
        "2026-01-01T24:00:01Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+99:99",
        "\0",
        "٢٠٢٦-01-01",
    ],
)
def test_an_impossible_time_is_refused(app: ASGIApp, path: str, name: str, time: str) -> None:
    answer = TestClient(app).get(f"/api/v1/{path}", params={name: time})
    assert_problem(answer, 422, name)
