"""Asking for a run by hand: through the API and `vxctl`, on real databases."""

import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from httpx import Response
from sqlalchemy import update

from contract.verdicts import Mode, Outcome, Stage, Verdict
from controller.api import IDENTITY_HEADER
from controller.api.app import build
from controller.api.context import Context
from controller.audit.append import append
from controller.cli import main
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Cluster, Node, Requeue
from controller.db.states import RunState
from controller.leadership.lease import LeaseLostError
from controller.runs.reports import ReportIntake
from controller.workqueue import queue, under_way
from controller.workqueue.priorities import Priority
from controller.workqueue.requeue import RequeueRequest, store
from tests import stored
from tests.api_client import TestClient, assert_problem, shared_app
from tests.controller_process import free_port
from tests.fake_clock import START
from tests.fake_swarm import node, snapshot, swarm_id
from tests.reports import believed, device, entry, report
from tests.servers import await_true
from tests.stored import RESYNC, audit, claim, contents, due_row, put, run_row
from tests.tokens import person

ONE, TWO = swarm_id("one"), swarm_id("two")
ALICE = {"actor": "alice@host", "reason": "disk swapped", "token": "t-1"}


class Api:
    """A client of the API, and how often the dispatcher's bell was rung."""

    def __init__(self, database: Database) -> None:
        self.rung = 0
        self.database = database
        self.app = shared_app(database, notify=self._notify)
        self.client = TestClient(self.app)

    def requeue(self, name: str = "one", **body: Any) -> Response:
        """Ask for a run."""
        headers = person(self.database, body)
        answer: Response = self.client.post(
            f"/api/v1/nodes/{name}/requeue", json=body, headers=headers
        )
        return answer

    def follow(self, token: str) -> Response:
        """What became of it."""
        answer: Response = self.client.get(f"/api/v1/requeues/{token}")
        return answer

    def _notify(self, _priority: Priority | None = None, /) -> None:
        self.rung += 1


@pytest.fixture
def api(database: Database) -> Api:
    """The API over two nodes at rest."""
    put(database)
    for claimed in claim(database).values():
        finish(database, claimed.run_id)
    return Api(database)


@pytest.mark.parametrize("lost", [False, True])
def test_a_leader_does_it_at_once_and_who_leads_no_longer_leaves_it_to_another(
    api: Api, database: Database, lost: bool
) -> None:
    def send(request: RequeueRequest) -> None:
        with database.write() as session:
            append(session, store(session, request, datetime.now(UTC)), datetime.now(UTC))
            if lost:
                raise LeaseLostError
            queue.claim(session, now=datetime.now(UTC), limit=1, timeout=RESYNC)

    context = Context(database, mode=Mode.ENFORCE, notify=api._notify, requeue=send)
    body = dict(ALICE)
    headers = person(database, body)
    client = TestClient(build(context))
    answer = client.post("/api/v1/nodes/one/requeue", json=body, headers=headers)
    assert answer.status_code == 202
    row = due_row(database)
    assert (row.priority == Priority.MANUAL, row.run_id is None, api.rung) == (
        lost,
        lost,
        int(lost),
    )
    assert (answer.json()["run"] is None) == lost
    assert [each.actor for each in audit(database)] == ["alice@host"]


def finish(
    database: Database, run_id: UUID, state: RunState = RunState.SUCCEEDED, error: str | None = None
) -> None:
    """Close a run."""
    with database.write() as session:
        assert stored.finish(session, run_id, state, now=START, resync=RESYNC, error=error)


def test_it_makes_the_node_due_at_once_and_says_who_and_why(api: Api, database: Database) -> None:
    answer = api.requeue(**ALICE)
    assert answer.status_code == 202
    told = answer.json()
    assert told.pop("requested_at")
    assert told == {
        "token": "t-1",
        "node_id": ONE,
        "node_name": "one",
        "node_state": "ready",
        "actor": "alice@host",
        "claimed_name": None,
        "reason": "disk swapped",
        "waits_for_run": None,
        "run": None,
        "not_sent_because": None,
    }
    row = due_row(database)
    assert row.priority == Priority.MANUAL
    assert row.reasons == ["requeued by alice@host: disk swapped", "resync"]
    assert api.rung == 1
    (recorded,) = audit(database)
    assert (recorded.stage, recorded.actor, recorded.node_id) == (
        Stage.REQUEUED,
        "alice@host",
        ONE,
    )
    assert recorded.reason == "disk swapped"


def test_nothing_has_to_be_said(api: Api, database: Database) -> None:
    told = api.client.post("/api/v1/nodes/one/requeue").json()
    assert (told["actor"], told["claimed_name"], told["reason"]) == ("admin", None, None)
    assert str(UUID(told["token"])) == told["token"]
    assert "requeued by admin" in due_row(database).reasons
    assert api.requeue("two").json()["token"] != told["token"]


def test_the_same_token_asks_only_once(api: Api, database: Database) -> None:
    first = api.requeue(**ALICE)
    before = contents(database)
    assert api.requeue(**ALICE).json() == first.json()
    assert contents(database) == before
    assert api.rung == 1

    claimed = claim(database, now=far_ahead())[ONE]
    finish(database, claimed.run_id)
    before = contents(database)
    again = api.requeue(**ALICE)
    assert again.status_code == 202
    assert again.json()["run"]["id"] == str(claimed.run_id)
    assert contents(database) == before


def far_ahead() -> Any:
    """The API's clock is the real one."""
    return START + timedelta(days=36500)


def test_the_same_token_for_another_node_is_refused(api: Api, database: Database) -> None:
    api.requeue(**ALICE)
    before = contents(database)
    answer = api.requeue("two", **ALICE)
    assert answer.status_code == 409
    assert "'t-1' stands for a request about node" in answer.json()["detail"]
    assert contents(database) == before


def test_a_token_told_twice_at_one_moment_asks_only_once(api: Api, database: Database) -> None:
    together = threading.Barrier(6)
    answers: list[Response] = []

    def ask() -> None:
        together.wait(60)
        answers.append(api.requeue(**ALICE))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [each.status_code for each in answers] == [202] * 6
    assert len({each.text for each in answers}) == 1
    assert (api.rung, len(audit(database))) == (1, 1)


def test_the_run_that_answers_is_found_by_the_token_and_knows_who_asked(
    api: Api, database: Database
) -> None:
    api.requeue(**ALICE)
    api.requeue(actor="bob", token="t-2")
    api.requeue(actor="alice@host", token="t-3")
    api.requeue("two", actor="carol", token="t-4")
    claims = claim(database, now=far_ahead())

    for token in ("t-1", "t-2", "t-3"):
        run = api.follow(token).json()["run"]
        assert (run["id"], run["state"]) == (str(claims[ONE].run_id), "running")
    assert run["actor"] == "alice@host, bob"
    assert api.follow("t-4").json()["run"]["actor"] == "carol"
    finish(database, claims[ONE].run_id)
    assert api.follow("t-1").json()["run"]["state"] == "succeeded"


def test_a_run_that_nobody_asked_for_is_the_controllers(api: Api, database: Database) -> None:
    claimed = claim(database, now=START + RESYNC * 2)[ONE]
    assert run_row(database, claimed.run_id).actor == "controller"
    told = api.requeue(**ALICE).json()
    assert (told["waits_for_run"], told["run"]) == (str(claimed.run_id), None)
    finish(database, claimed.run_id)
    assert api.follow("t-1").json()["run"] is None
    answering = claim(database, now=far_ahead())[ONE]
    assert api.follow("t-1").json()["run"]["id"] == str(answering.run_id) != str(claimed.run_id)


def test_the_names_of_many_are_bounded(api: Api, database: Database) -> None:
    for number in range(9):
        api.requeue(actor=f"{number}", token=f"t{number}")
    claimed = claim(database, now=far_ahead())[ONE]
    assert run_row(database, claimed.run_id).actor == "0, 1, 2, 3, 4 and 4 more"


def test_a_run_that_could_not_be_sent_answers_nothing(api: Api, database: Database) -> None:
    api.requeue(**ALICE)
    unsent = claim(database, now=far_ahead())[ONE]
    with database.write() as session:
        under_way.unclaim(session, unsent.run_id, now=far_ahead())
    assert api.follow("t-1").json()["run"] is None
    row = due_row(database)
    assert row.reasons == ["requeued by alice@host: disk swapped", "resync"]
    sent = claim(database, now=far_ahead())[ONE]
    assert api.follow("t-1").json()["run"]["id"] == str(sent.run_id)
    assert run_row(database, sent.run_id).actor == "alice@host"


PAUSED: dict[str, tuple[type[Node] | type[Cluster], dict[str, Any], str, str]] = {
    "node": (
        Node,
        {"paused_at": START, "paused_by": "bob", "paused_reason": "repair"},
        "node one is paused by bob: repair",
        "vxctl resume onezz",
    ),
    "label": (
        Node,
        {"label_ignore": True},
        "node one has the Swarm label vxlan-operator.ignore",
        "docker node update --label-rm vxlan-operator.ignore",
    ),
    "cluster": (
        Cluster,
        {"paused_at": START, "paused_by": "bob"},
        "the cluster is paused by bob",
        "vxctl resume --cluster",
    ),
}


@pytest.mark.parametrize("which", PAUSED)
def test_what_is_paused_is_not_requeued(api: Api, database: Database, which: str) -> None:
    table, values, problem, hint = PAUSED[which]
    with database.write() as session:
        session.execute(update(table).values(values))
    person(database, dict(ALICE))  # Else its token would be new.
    before = contents(database)
    answer = api.requeue(**ALICE)
    assert_problem(answer, 409, problem, hint=hint)
    assert contents(database) == before
    assert api.rung == 0


def test_an_unknown_token(api: Api) -> None:
    answer = api.follow("nosuch")
    assert answer.status_code == 404
    assert "'nosuch'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"actor": ""}, "actor"),
        ({"actor": "   "}, "actor"),
        ({"actor": "x" * 101}, "actor"),
        ({"actor": "a\nb"}, "actor"),
        ({"actor": "a\0b"}, "actor"),
        ({"actor": "a\u202eb"}, "actor"),
        ({"actor": 7}, "actor"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "\x1b[2J"}, "reason"),
        ({"token": ""}, "token"),
        ({"token": "x" * 65}, "token"),
        ({"token": "a/b"}, "token"),
        ({"token": ".."}, "token"),
        ({"token": "a\n"}, "token"),
        ({"bogus": 1}, "bogus"),
    ],
)
def test_a_bad_body_is_named(api: Api, database: Database, body: dict[str, Any], name: str) -> None:
    before = contents(database)
    answer = api.requeue(**body)
    assert answer.status_code == 422
    assert f"{name}: " in answer.json()["detail"]
    assert contents(database) == before


@pytest.mark.parametrize(
    "body", ["[]", "null,", "{", '{"actor": "\\ud800"}', '"x"', "\xff\xfe", "[" * 100_000]
)
def test_a_body_that_is_none(api: Api, database: Database, body: str) -> None:
    before = contents(database)
    answer = api.client.post(
        "/api/v1/nodes/one/requeue",
        content=body.encode("latin-1"),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in (400, 413, 422), answer.text
    assert contents(database) == before


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    """Where the API can be asked by `vxctl`."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            api.app, port=port, log_config=None, lifespan="off", headers=[(IDENTITY_HEADER, "1")]
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    await_true(lambda: server.started, "the API answers")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(60)


class Answering(threading.Thread):
    """A controller and a worker that let the next run of node `one` end so."""

    def __init__(self, database: Database, outcome: Outcome | None, error: str | None) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._outcome = outcome
        self._error = error
        self.start()

    def run(self) -> None:
        """Wait for the request, claim it, report."""
        await_true(lambda: due_row(self._database).priority == Priority.MANUAL, "it is asked for")
        claimed = claim(self._database, now=far_ahead())[ONE]
        if self._outcome is None:
            finish(self._database, claimed.run_id, RunState.LOST, "no report came")
            return
        told = report(
            claimed.run_id,
            outcome=self._outcome,
            error=self._error,
            devices=[device(1), device(2, Verdict.ORPHAN, removed=True)],
            entries=[
                entry(1, stage=Stage.APPLIED).model_copy(update={"run_id": claimed.run_id}),
                entry(2, stage=Stage.DETECTED),
            ],
        )
        ReportIntake(self._database, resync=RESYNC, notify=lambda *_: None).reports(
            [believed(told)]
        )


def vxctl(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """Run `vxctl requeue` in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["vxctl", "requeue", *arguments])
    monkeypatch.setattr("controller.cli.requeue._POLL_SECONDS", 0.02)
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.parametrize(
    ("outcome", "error", "status", "words"),
    [
        pytest.param(
            Outcome.DONE, None, 0, "succeeded, 2 device(s), 1 orphan(s), 1 removed", id="done"
        ),
        pytest.param(Outcome.FAILED, "no netlink", 1, "no netlink", id="failed"),
        pytest.param(Outcome.REFUSED, "too late", 1, "too late", id="refused"),
        pytest.param(None, None, 1, "no report came", id="lost"),
    ],
)
def test_waiting_tells_what_the_run_did(
    database: Database,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome | None,
    error: str | None,
    status: int,
    words: str,
) -> None:
    answering = Answering(database, outcome, error)
    ended = vxctl(
        "one", "--reason", "disk swapped", "--as", "alice", "--wait", "--url", url,
        monkeypatch=monkeypatch,
    )  # fmt: skip
    answering.join(60)
    said = capsys.readouterr()
    assert ended == status, said
    assert "one (onezz" in said.out
    assert words in said.out
    assert ("applied vx-001001-shopz in host: reason" in said.out) == (outcome is not None)
    assert "detected" not in said.out, "that is another run's"
    assert (said.err == "") == (status == 0)
    if status:
        assert said.err.startswith("the run ")
    with database.read() as session:
        (asked,) = session.query(Requeue).all()
    assert (asked.actor, asked.claimed_name, asked.reason) == ("admin", "alice", "disk swapped")


def test_waiting_as_json(
    database: Database,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answering = Answering(database, Outcome.DONE, None)
    arguments = ("one", "--token", "mine", "--wait", "-o", "json", "--url", url)
    assert vxctl(*arguments, monkeypatch=monkeypatch) == 0
    answering.join(60)
    told = answer(capsys)
    assert (told["token"], told["run"]["state"], told["run"]["removed"]) == ("mine", "succeeded", 1)
    assert [row["stage"] for row in told["audit"]] == ["requested", "applied"]

    assert vxctl(*arguments, monkeypatch=monkeypatch) == 0
    assert answer(capsys) == told, "a run that is over is told at once"


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON that was printed last, after what others have logged."""
    printed = capsys.readouterr().out
    return json.loads(printed[printed.index("{\n") :])


def test_waiting_in_vain_says_that_the_request_stands(
    database: Database,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("one", "--token", "mine", "--wait", "--timeout", "0.1s", "--url", url)
    assert vxctl(*arguments, monkeypatch=monkeypatch) == 3
    assert "not done after 0.1 s; the request remains (token mine)" in capsys.readouterr().err
    assert due_row(database).priority == Priority.MANUAL


def test_without_waiting_it_says_what_comes(
    database: Database,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def says(*arguments: str) -> str:
        vxctl(*arguments, "--url", url, monkeypatch=monkeypatch)
        return capsys.readouterr().out

    assert "the run starts now" in says("one", "--token", "a")
    assert json.loads(says("one", "--token", "a", "-o", "json"))["token"] == "a"
    claimed = claim(database, now=far_ahead())
    assert "the run starts now" in says("one", "--token", "a")
    assert "another one follows" in says("one", "--token", "b")
    finish(database, claimed[ONE].run_id)
    assert "already answered this request" in says("one", "--token", "a")
    put(database, snapshot(node("one", state="down"), "two"))
    arguments = ("one", "--token", "c", "--url", url)
    assert vxctl(*arguments, monkeypatch=monkeypatch) == 3, "it is stored, and not sent"
    assert "stored, but not sent: the Swarm reports the node as down" in capsys.readouterr().out


def test_where_no_worker_answers_it_says_so_at_once_and_at_the_end(
    database: Database,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC).step()
    arguments = ("one", "--wait", "--timeout", "0.1s", "--url", url)
    for _ in range(2):
        assert vxctl(*arguments, monkeypatch=monkeypatch) == 3
        said = capsys.readouterr()
        for words in (said.out, said.err):
            assert "NeverSeen: no worker has ever reported from this node" in words
        assert "starts now" not in said.out
        assert "under way" not in said.out
        claim(database, now=far_ahead())  # A run that nobody answers.


@pytest.mark.parametrize("given", ["0", "-1s", "25h", "2d", "soon", "", "1e3", "9" * 30])
def test_a_time_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    assert vxctl("one", "--wait", f"--timeout={given}", monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: --timeout ")
