"""`watch=true`: a list and then its changes, whoever makes them, for many clients at little cost."""

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, update
from structlog.testing import capture_logs

from contract.verdicts import Mode, Stage, Verdict
from controller.access.tokens import Secret
from controller.access.trusted_proxy import TrustedProxy
from controller.api.app import build
from controller.api.context import Context
from controller.api.routes import watch as watching
from controller.api.watch import broadcaster as broadcasting
from controller.api.watch import history
from controller.api.watch import topic as topics
from controller.api.watch.broadcaster import Broadcaster
from controller.api.watch.changes import ChangeMarker
from controller.api.watch.sources import DeviceSource
from controller.api.watch.stream import Stream
from controller.db.access_models import ApiToken
from controller.db.engine import Database, open_database
from controller.db.models import Cluster, Device, Event, Node, Rejection, Run
from controller.db.states import Role, RunState
from controller.runs import counters
from tests.api_client import TestClient, assert_problem
from tests.audit_rows import add, row
from tests.fake_clock import START
from tests.fake_swarm import snapshot, swarm_id
from tests.follower import Follower, serving
from tests.servers import await_true
from tests.stored import put
from tests.tokens import HEADERS, give_token

ONE, TWO = swarm_id("one"), swarm_id("two")
LISTS = ["nodes", "devices", "runs", "audit", "events"]


HTTP = httpx.Client(headers=HEADERS, timeout=30)


def api(database: Database) -> FastAPI:
    """The API of a controller that does not lead."""
    give_token(database)
    return build(
        Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, leading=lambda: False)
    )


@pytest.fixture
def app(database: Database) -> FastAPI:
    """Its API; it knows nodes `one` and `two`, and a device."""
    put(database, snapshot("one", "two"))
    with database.write() as session:
        session.add(a_device(1))
    return api(database)


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    """Where it is served."""
    with serving(app) as url:
        yield url


def a_device(ifindex: int, **values: object) -> Device:
    """A device of node `one`."""
    return Device(
        **{
            "node_id": ONE,
            "netns": "host",
            "ifindex": ifindex,
            "name": f"vx-{ifindex:06x}-abcde",
            "vni": ifindex,
            "port": 4789,
            "verdict": Verdict.IN_USE,
            "reason": "r",
            "evidence": "e",
            "first_seen_at": START,
            "judged_at": START,
            "verdict_at": START,
        }
        | values
    )


def set_node(database: Database, name: str, **values: object) -> None:
    """Change columns of a node."""
    with database.write() as session:
        session.execute(update(Node).where(Node.id == swarm_id(name)).values(**values))


def test_nodes_first_and_then_their_changes(url: str, database: Database) -> None:
    listed = HTTP.get(f"{url}/api/v1/nodes").json()["items"]
    with Follower(url, "nodes") as follower:
        assert follower.answer.headers["content-type"].startswith("text/event-stream")
        first = follower.until("synced")
        assert [each.event for each in first] == ["added", "added"]
        assert [each.data for each in first] == listed
        set_node(database, "two", paused_at=START, paused_by="alice")
        heard = follower.next()
        assert heard.event == "modified"
        assert heard.data == HTTP.get(f"{url}/api/v1/nodes").json()["items"][1]
        assert heard.data["paused_by"] == "alice"
        put(database, snapshot("one", "two", "three"))
        added = follower.next()
        assert (added.event, added.data["hostname"]) == ("added", "three")
        put(database, snapshot("one", "two"))
        removed = follower.next()
        assert (removed.event, removed.data) == ("removed", added.data)
        assert follower.is_silent()


def test_what_every_run_moves_is_no_event(url: str, database: Database) -> None:
    with Follower(url, "nodes") as follower:
        follower.until("synced")
        set_node(database, "one", worker_seen_at=START, last_run_at=START, last_run_id=uuid4())
        set_node(database, "two", last_error="broken")
        heard = follower.next()
        assert (heard.data["hostname"], heard.data["last_error"]) == ("two", "broken")
        assert follower.is_silent()

    def is_told() -> bool:
        with Follower(url, "nodes") as follower:
            return follower.next().data["worker_seen_at"] is not None

    await_true(is_told, "a new client gets the present times")


def test_devices_count_for_their_nodes(url: str, database: Database) -> None:
    with Follower(url, "nodes") as nodes, Follower(url, "devices", node="one") as devices:
        nodes.until("synced")
        (first,) = devices.until("synced")
        assert first.data["ifindex"] == 1
        with database.write() as session:
            session.add(a_device(2, verdict=Verdict.ORPHAN))
        assert nodes.next().data["devices"] == {"in_use": 1, "orphan": 1}
        added = devices.next()
        assert (added.event, added.data["ifindex"]) == ("added", 2)
        assert added.data == HTTP.get(f"{url}/api/v1/devices").json()["items"][1]
        with database.write() as session:
            session.execute(update(Device).where(Device.ifindex == 2).values(reason="why"))
        changed = devices.next()
        assert (changed.event, changed.data["reason"]) == ("modified", "why")
        with database.write() as session:
            session.execute(delete(Device).where(Device.ifindex == 2))
        assert devices.next() == ("removed", devices_id(changed.id), changed.data)
        assert nodes.next().data["devices"] == {"in_use": 1}


def devices_id(last: str | None) -> str:
    """The id after this one."""
    token, _, number = (last or "").partition("-")
    return f"{token}-{int(number) + 1}"


def test_what_a_filter_no_longer_matches_is_removed(url: str, database: Database) -> None:
    with database.write() as session:
        session.execute(
            update(Cluster).values(conditions_at=START, conditions_until=START.replace(year=2100))
        )
    with (
        Follower(url, "devices", verdict="orphan") as orphans,
        Follower(url, "nodes", ready="Unknown") as unknown,
    ):
        assert orphans.until("synced") == []
        unknown.until("synced")
        with database.write() as session:
            session.execute(update(Device).values(verdict=Verdict.ORPHAN))
        assert orphans.next().event == "added"
        with database.write() as session:
            session.execute(update(Device).values(verdict=Verdict.IN_USE))
        assert orphans.next().event == "removed"
        ready = {"status": "Unknown", "reason": "A", "message": "m", "since": START.isoformat()}
        set_node(database, "one", conditions={"Ready": ready})
        assert unknown.next().event == "added"
        set_node(database, "one", conditions={"Ready": ready | {"status": "True"}})
        assert unknown.next().event == "removed"


def a_run(number: int, **values: object) -> Run:
    """A run of node `one`, requested so many seconds after the start."""
    return Run(
        **{
            "id": uuid4(),
            "node_id": ONE,
            "state": RunState.RUNNING,
            "priority": 0,
            "reasons": ["resync"],
            "generation": 1,
            "requested_at": START.replace(minute=number // 60, second=number % 60),
            "deadline": START,
        }
        | values
    )


def test_runs_from_their_request_to_their_end(url: str, database: Database) -> None:
    runs = [a_run(number, state=RunState.SUCCEEDED, closed_at=START) for number in range(5)]
    ids = [str(run.id) for run in runs]
    with database.write() as session:
        session.add_all(runs)
    with (
        Follower(url, "runs", limit=3) as follower,
        Follower(url, "runs", state="running") as running,
    ):
        assert [each.data["id"] for each in follower.until("synced")] == ids[2:]
        assert running.until("synced") == []
        new = a_run(7)
        with database.write() as session:
            session.add(new)
        added = follower.next()
        assert (added.event, added.data["id"]) == ("added", str(new.id))
        assert running.next().event == "added"
        with database.write() as session:
            session.execute(update(Run).where(Run.id == new.id).values(state=RunState.LOST))
        ended = follower.next()
        assert (ended.event, ended.data["state"]) == ("modified", "lost")
        assert running.next().event == "removed"


def test_many_runs_at_once_are_all_heard(url: str, database: Database) -> None:
    with Follower(url, "runs") as follower:
        follower.until("synced")
        for first in (0, 2500):
            with database.write() as session:
                session.add_all([a_run(number % 3600) for number in range(first, first + 2500)])
            heard = {follower.next().data["id"] for _ in range(2500)}
            assert len(heard) == 2500


def number_row(number: int, **values: object) -> dict[str, Any]:
    """An audit row so many seconds after the start."""
    return row(START + timedelta(seconds=number), **values)


def test_audit_rows_in_the_order_in_which_they_were_stored(url: str, database: Database) -> None:
    add(database, number_row(1), number_row(2), number_row(3, stage=Stage.PAUSED))
    with Follower(url, "audit", limit=2) as follower, Follower(url, "audit", stage="paused") as few:
        first = follower.until("synced")
        assert [each.event for each in first] == ["added", "added"]
        assert [each.data["stage"] for each in few.until("synced")] == ["paused"]
        add(database, number_row(4), number_row(5, stage=Stage.PAUSED))
        heard = [follower.next(), follower.next()]
        assert [each.event for each in heard] == ["added", "added"]
        listed = HTTP.get(f"{url}/api/v1/audit").json()["items"]
        stored = sorted(listed, key=lambda each: int(each["id"]))
        assert [each.data for each in [*first, *heard]] == stored[1:]
        assert few.next().data["stage"] == "paused"
        assert few.is_silent()


def test_a_client_that_comes_back_misses_nothing(url: str, database: Database) -> None:
    with Follower(url, "nodes") as follower:
        follower.until("synced")
        set_node(database, "one", last_error="first")
        last = follower.next().id
    set_node(database, "one", last_error="second")
    set_node(database, "two", last_error="third")
    with Follower(url, "nodes", last) as follower:
        assert follower.until("synced") == []
        assert {follower.next().data["last_error"] for _ in range(2)} == {"second", "third"}


@pytest.mark.parametrize(
    "last",
    ["", "x", "0123456789ab-5", "0123456789ab-rows", "audit-5", "9" * 500, "audit-" + "9" * 18],
)
def test_a_client_that_comes_back_too_late_gets_all_rows(url: str, last: str) -> None:
    with Follower(url, "nodes", last) as follower:
        assert len(follower.until("synced")) == 2


def test_an_interrupted_list_is_no_place_to_go_on_at(url: str) -> None:
    with Follower(url, "nodes") as follower:
        last = follower.next().id
    with Follower(url, "nodes", last) as follower:
        assert len(follower.until("synced")) == 2


def test_audit_rows_are_followed_over_a_restart(url: str, database: Database) -> None:
    add(database, *(number_row(number) for number in range(1, 6)))
    with Follower(url, "audit") as follower:
        heard = [follower.next() for _ in range(3)]
    with serving(api(database)) as other:
        add(database, *(number_row(number) for number in range(6, 9)))
        for more, asked in ((5, {"last": heard[-1].id}), (6, {"after": heard[-1].data["id"]})):
            with Follower(other, "audit", limit=1, **asked) as follower:
                rows = [each.data["id"] for each in follower.until("synced")]
                assert rows == [heard[-1].data["id"] + number for number in range(1, more + 1)]
                add(database, number_row(100 + len(str(asked))))
                assert follower.next().data["id"] > rows[-1]
        with Follower(other, "audit", f"audit-{10**17}") as follower:
            assert follower.until("synced") == []


def an_event(name: str | None, message: str, minutes: int) -> Event:
    """A change of a condition of a node; None: of the cluster."""
    return Event(
        at=START + timedelta(minutes=minutes),
        node_id=name and swarm_id(name),
        node_name=name,
        type="Ready",
        status="True",
        reason="Converged",
        message=message,
    )


def test_events_first_and_then_what_happens_from_every_source(url: str, database: Database) -> None:
    def store(*rows: Event | Rejection) -> None:
        with database.write() as session:
            session.add_all(rows)

    def told(follower: Follower) -> str:
        heard = follower.next()
        assert heard.event == "added"
        return str(heard.data["message"])

    store(an_event("one", "a", 1), an_event("two", "b", 2), an_event(None, "c", 3))
    with (
        Follower(url, "events", limit=2) as every,
        Follower(
            url, "events", node="one", since=(START + timedelta(minutes=2)).isoformat()
        ) as one,
    ):
        assert [row.data["message"][-1] for row in every.until("synced")] == ["b", "c"]
        assert [row.data["message"][-1] for row in one.until("synced")] == ["c"]
        store(an_event("two", "d", 4))
        store(an_event("one", "e", 5))
        assert told(every).endswith("d")
        assert told(every).endswith("e")
        assert told(one).endswith("e")
        add(database, row(START + timedelta(minutes=7), stage=Stage.PAUSED, reason="f"))
        rejection = Rejection(
            task_id=swarm_id("t9"), node_id=ONE, at=START, seen_at=START + timedelta(minutes=6), error="g"
        )  # fmt: skip
        store(rejection)
        for follower in (every, one):
            assert {told(follower)[-1] for _ in range(2)} == {"f", "g"}


def test_events_that_come_into_sight_as_newer_ones_are_deleted_are_no_news(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "NEWEST", 3)
    with database.write() as session:
        session.add_all([an_event("one", str(number), number) for number in range(5)])
    with serving(app) as url, Follower(url, "events") as follower:
        assert [row.data["message"][-1] for row in follower.until("synced")] == ["2", "3", "4"]
        with database.write() as session:
            session.execute(delete(Event).where(Event.message.in_(["3", "4"])))
        with database.write() as session:
            session.add(an_event("one", "9", 9))
        assert follower.next().data["message"][-1] == "9"


def test_a_client_that_is_too_slow_is_told_and_ended(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "KEPT_EVENTS", 3)
    with serving(app) as url:
        host, port = url.removeprefix("http://").split(":")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
        slow.connect((host, int(port)))
        slow.sendall(
            b"GET /api/v1/nodes?watch=true HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            + f"Authorization: {HEADERS['Authorization']}\r\n\r\n".encode()
        )
        with slow, Follower(url, "nodes") as follower:
            follower.until("synced")
            # More than the buffers of both sides hold, which are some megabytes.
            for number in range(30):
                set_node(database, "one", last_error=f"{number}" + "x" * 1_000_000)
                assert follower.next().event == "modified"
            slow.settimeout(10)
            received = b""
            while piece := slow.recv(1_000_000):
                received += piece
                if b"0\r\n\r\n" in received[-10:]:
                    break
            assert b"event: end" in received
            assert b"/problems/too-slow" in received
            assert follower.is_silent(0.1)


def test_too_many_clients_are_refused(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "MAX_CLIENTS", 2)
    with serving(app) as url:
        with Follower(url, "nodes") as one, Follower(url, "devices") as two:
            one.until("synced")
            two.until("synced")
            refused = HTTP.get(f"{url}/api/v1/nodes", params={"watch": "true"})
            assert_problem(refused, 503, "2 clients")
            assert refused.headers["retry-after"] == "5"

        def is_free() -> bool:
            with Follower(url, "nodes") as three:
                return three.answer.status_code == 200

        await_true(is_free, "clients that left make room")


def test_too_many_rows_cannot_be_followed(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "MAX_ROWS", 2)
    monkeypatch.setattr(topics, "MAX_ROWS", 2)
    with serving(app) as url:
        with Follower(url, "devices") as follower:
            follower.until("synced")
            with database.write() as session:
                session.add_all([a_device(2), a_device(3)])
            end = follower.next()
            assert (end.event, end.data["status"]) == ("end", 422)
            assert follower.ends()
        refused = HTTP.get(f"{url}/api/v1/devices", params={"watch": "true"})
        assert_problem(refused, 422, "watch", "narrow it down")


@pytest.mark.parametrize("path", LISTS)
def test_streams_end_when_the_controller_stops(app: FastAPI, path: str) -> None:
    with serving(app) as url:
        follower = Follower(url, path)
        follower.__enter__()
        follower.until("synced")
    end = follower.next()
    assert (end.event, end.data["type"]) == ("end", "/problems/stopping")
    assert follower.ends()
    follower.__exit__()


def test_streams_end_when_the_database_is_away(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "_AWAY_SECONDS", 0.1)
    database = open_database(f"sqlite:///{tmp_path}/controller.db")
    put(database)
    with serving(api(database)) as url, Follower(url, "nodes") as follower:
        follower.until("synced")
        with database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE nodes RENAME TO gone")
        end = follower.next()
        assert (end.event, end.data["status"]) == ("end", 503)
        assert follower.ends()
    database.close()


@pytest.mark.parametrize("broken", ["a list", "the thread"])
def test_an_unforeseen_error_ends_the_streams_and_no_more(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    refresh, changed = topics.Topic.refresh, ChangeMarker.changed
    failing = [False]

    def fail_once(it_is: bool) -> None:
        if it_is and failing[0]:
            failing[0] = False
            raise TypeError("unforeseen")

    def failing_refresh(self: topics.Topic, *arguments: Any, **more: Any) -> bool:
        fail_once(broken == "a list" and isinstance(self.source, DeviceSource))
        return refresh(self, *arguments, **more)

    def failing_changed(self: ChangeMarker) -> bool:
        fail_once(broken == "the thread")
        return changed(self)

    monkeypatch.setattr(topics.Topic, "refresh", failing_refresh)
    monkeypatch.setattr(ChangeMarker, "changed", failing_changed)
    errors = counters.WATCH_ERRORS
    before = errors._value.get()
    with serving(app) as url, Follower(url, "nodes") as nodes:
        nodes.until("synced")
        with Follower(url, "devices") as devices, capture_logs() as logs:
            (row,) = devices.until("synced")
            failing[0] = True
            set_node(database, "one", last_error="x")
            end = devices.next()
            assert (end.event, end.data["type"]) == ("end", "/problems/internal")
            assert devices.ends()
        assert errors._value.get() == before + 1
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert "unforeseen" in str(line["exc_info"])
        if broken == "a list":
            assert nodes.next().data["last_error"] == "x"
        else:
            assert nodes.next().event == "end"
        with Follower(url, "devices", row.id) as devices:
            assert len(devices.until("synced")) == 1
            with database.write() as session:
                session.add(a_device(2))
            assert devices.next().data["ifindex"] == 2


@pytest.mark.parametrize(
    ("path", "parameters", "status", "words"),
    [
        ("nodes", {"watch": "maybe"}, 422, "watch"),
        ("nodes", {"watch": "maybe", "fields": "id"}, 422, "watch"),
        ("nodes", {"watch": "true", "cursor": "x"}, 409, "cursor"),
        ("audit", {"watch": "Yes", "fields": "id"}, 409, "fields"),
        ("nodes", {"watch": "true", "nosuch": "x"}, 422, "nosuch"),
        ("nodes", {"watch": "true", "ready": "x"}, 422, "ready"),
        ("devices", {"watch": "true", "node": "nosuch"}, 404, "nosuch"),
        ("devices", {"watch": "TRUE", "network": "nosuch"}, 404, "nosuch"),
        ("runs", {"watch": "1", "node": "nosuch"}, 404, "nosuch"),
        ("audit", {"watch": "yes", "run": "nosuch"}, 404, "nosuch"),
        ("networks", {"watch": "true"}, 422, "watch"),
        ("events", {"watch": "true", "node": "nosuch"}, 404, "nosuch"),
        ("events", {"watch": "true", "node": "one", "network": "shop"}, 409, "combined"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    app: FastAPI, path: str, parameters: dict[str, str], status: int, words: str
) -> None:
    assert_problem(TestClient(app).get(f"/api/v1/{path}", params=parameters), status, words)


@pytest.mark.parametrize("path", LISTS)
def test_without_watch_it_is_a_list(app: FastAPI, path: str) -> None:
    for parameters in ({}, {"watch": "false"}):
        answer = TestClient(app).get(f"/api/v1/{path}", params=parameters)
        assert answer.json()["items"] is not None
    assert_problem(TestClient(app).post(f"/api/v1/{path}?watch=true"), 405)


def test_nothing_is_read_without_clients_or_changes(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, read = [0], [0]
    left: list[Stream] = []
    changed, refresh, leave = ChangeMarker.changed, topics.Topic.refresh, Broadcaster.leave

    def counting_changed(self: ChangeMarker) -> bool:
        asked[0] += 1
        return changed(self)

    def counting_refresh(self: topics.Topic, *arguments: object, **more: bool) -> bool:
        read[0] += 1
        return refresh(self, *arguments, **more)  # type: ignore[arg-type]

    def counting_leave(self: Broadcaster, stream: Stream) -> None:
        leave(self, stream)
        left.append(stream)

    monkeypatch.setattr(Broadcaster, "leave", counting_leave)
    monkeypatch.setattr(ChangeMarker, "changed", counting_changed)
    monkeypatch.setattr(topics.Topic, "refresh", counting_refresh)
    with serving(app) as url:
        with Follower(url, "nodes") as follower:
            follower.until("synced")
            await_true(lambda: asked[0] > 1, "the database is asked whether it changed")
            before = read[0]
            polled = asked[0] + 3
            await_true(lambda: asked[0] >= polled, "it is asked again")
            assert read[0] == before
            set_node(database, "one", last_error="x")
            follower.next()
        await_true(lambda: left, "the client's stream is given up")
        time.sleep(1)
        quiet = asked[0]
        time.sleep(1)
        assert asked[0] == quiet


def test_a_revoked_token_ends_the_stream(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "CHECK_SECONDS", 0.1)
    other = Secret("0ea0ea00", f"vxo_0ea0ea00_{'B' * 43}")
    headers = give_token(database, other, "other", Role.READ)
    with serving(app) as url, Follower(url, "nodes") as stays:
        stays.until("synced")
        with Follower(url, "nodes", headers=headers) as follower:
            follower.until("synced")
            with database.write() as session:
                session.execute(
                    update(ApiToken).where(ApiToken.id == other.id).values(revoked_at=START)
                )
            end = follower.next()
            assert (end.event, end.data["status"]) == ("end", 401)
            assert "revoked" in end.data["detail"]
            assert follower.ends()
        set_node(database, "one", last_error="x")
        assert stays.next().event == "modified"


def test_a_token_that_expires_ends_the_stream(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "CHECK_SECONDS", 0.1)
    other = Secret("0ea0ea01", f"vxo_0ea0ea01_{'B' * 43}")
    headers = give_token(database, other, "short", Role.READ)
    with serving(app) as url, Follower(url, "audit", headers=headers) as follower:
        follower.until("synced")
        past = datetime.now(UTC) - timedelta(seconds=1)
        with database.write() as session:
            session.execute(update(ApiToken).where(ApiToken.id == other.id).values(expires_at=past))
        end = follower.next()
        assert (end.event, end.data["type"]) == ("end", "/problems/unauthenticated")
        assert "expired" in end.data["detail"]
        assert follower.ends()


def test_a_stream_by_the_proxys_login_is_ended_for_a_new_login(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has lost the group meanwhile is refused then; a token's stream goes on."""
    monkeypatch.setattr(broadcasting, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(watching, "PROXY_SECONDS", 0.5)
    put(database, snapshot("one"))
    proxy = TrustedProxy.of("127.0.0.1", "Remote-User", "Remote-Groups", {Role.READ: "staff"})
    give_token(database)
    app = build(Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, proxy=proxy))
    alice = {"Remote-User": "alice", "Remote-Groups": "staff"}
    with serving(app) as url, Follower(url, "nodes") as stays:
        stays.until("synced")
        with Follower(url, "nodes", headers=alice) as follower:
            (one,) = follower.until("synced")
            end = follower.next()
            assert (end.event, end.data["type"]) == ("end", "/problems/login-again")
            assert follower.ends()
        assert one.id is not None
        last = one.id.replace("rows", "0")
        with Follower(url, "nodes", last, headers=alice) as again:
            assert again.next().event == "synced", "nothing was missed, nothing comes twice"
        lost = httpx.get(
            f"{url}/api/v1/nodes?watch=true", headers=alice | {"Remote-Groups": "guests"}
        )
        assert_problem(lost, 403, "in no group")
        set_node(database, "one", last_error="x")
        assert stays.next().event == "modified"


@pytest.mark.parametrize("path", LISTS)
def test_nobody_follows_without_a_token(app: FastAPI, path: str) -> None:
    client = TestClient(app)
    del client.headers["Authorization"]
    assert_problem(client.get(f"/api/v1/{path}", params={"watch": "true"}), 401)


def test_conditions_that_nobody_derives_any_more_are_an_event(url: str, database: Database) -> None:
    """Nothing is written then: only time passes."""
    with database.write() as session:
        session.execute(
            update(Cluster).values(conditions_at=START, conditions_until=START + timedelta(days=1))
        )
    ready = {"status": "True", "reason": "Converged", "message": "m", "since": START.isoformat()}
    set_node(database, "one", conditions={"Ready": ready})
    with Follower(url, "nodes") as follower:
        follower.until("synced")
        with database.write() as session:
            past = START - timedelta(days=36_500)
            session.execute(update(Cluster).values(conditions_at=past, conditions_until=past))
        heard = follower.next()
        assert heard.data["conditions"][0]["reason"] == "ConditionsStale"
