"""`vxctl notify` and its routes: what people type, what they see, and what is in the audit trail."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.verdicts import Mode, Stage
from controller.api.app import build
from controller.api.context import Context
from controller.cli import client as cli_client
from controller.cli.commands import app as vxctl_app
from controller.db.engine import Database, open_database
from controller.notifications.mail import Smtp
from tests.api_client import TestClient, assert_problem
from tests.receivers import LOOPBACK, HttpReceiver, endless, http_receiver
from tests.stored import audit, put

TARGETS = "/api/v1/notifications"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(open_database(f"sqlite:///{tmp_path / 'c.db'}")) as found:
        put(found)
        yield found


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    context = Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, outgoing=LOOPBACK)
    with TestClient(build(context)) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def add(client: TestClient, **body: Any) -> Any:
    return client.post(TARGETS, json={"name": "ops", "kind": "webhook"} | body)


def test_a_secret_is_shown_once_and_the_url_never(
    client: TestClient, receiver: HttpReceiver, database: Database
) -> None:
    answer = add(client, address=receiver.url)
    assert answer.status_code == 201
    secret = answer.json()["secret"]
    assert secret.startswith("whsec_")
    shown = client.get(TARGETS).text
    assert secret not in shown
    assert "hook/secret" not in shown
    assert json.loads(shown)["items"][0]["address"] == f"http://127.0.0.1:{receiver.port}/***"
    again = client.post(f"{TARGETS}/ops/rotate", json={}).json()
    assert again["secret"] not in (secret, None)
    assert again["rotation_until"] is not None
    trail = [row.reason for row in audit(database) if row.stage is Stage.NOTIFY_CHANGED]
    assert trail[0].startswith("notification target ops (webhook, http://127.0.0.1:")
    assert "new secret" in trail[1]
    assert not any("hook" in row.replace("webhook", "") or "whsec" in row for row in trail)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"address": "ftp://x/"}, "not one of http or https"),
        ({"address": "https://u:p@x/"}, "has a user name"),
        ({"address": "https://x/\x1b"}, "control characters"),
        ({"address": "https://x/", "template": "$nodee"}, "what there is not: $nodee"),
        ({"address": "https://x/", "events": ["nosuch"]}, "events"),
        ({"address": "https://x/", "every_seconds": 60}, "only a heartbeat has an interval"),
        ({"address": "ops@example.com", "kind": "email"}, "no SMTP server"),
        ({"address": "nonsense", "kind": "apprise"}, "apprise knows no service"),
        ({"address": "https://x/", "kind": "heartbeat", "template": "x"}, "has no events and no"),
        ({"address": "https://x/", "kind": "heartbeat", "remind_seconds": 0}, "reminds of nothing"),
        ({"address": "https://x/", "remind_seconds": 599}, "every 10 minutes to 30 days"),
    ],
)
def test_what_cannot_be_added(client: TestClient, body: dict[str, Any], detail: str) -> None:
    # What the specification can say is 422, what it cannot is 409.
    status = 422 if detail in ("control characters", "events") else 409
    assert_problem(add(client, **body), status, detail)
    assert client.get(TARGETS).json()["items"] == []


def test_the_reason_of_a_change_is_in_the_trail(
    client: TestClient, receiver: HttpReceiver, database: Database
) -> None:
    add(client, address=receiver.url, reason="for add")
    client.post(f"{TARGETS}/ops/mute", json={"seconds": 60, "reason": "for mute"})
    for action in ("test", "unmute", "rotate", "remove"):
        client.post(f"{TARGETS}/ops/{action}", json={"reason": f"for {action}"})
    trail = [row.reason for row in audit(database) if row.stage is Stage.NOTIFY_CHANGED]
    ends = [row.rpartition(": ")[2] for row in trail]
    assert ends == [f"for {name}" for name in ("add", "mute", "test", "unmute", "rotate", "remove")]


def test_mail_addresses_are_checked(database: Database) -> None:
    outgoing = replace(LOOPBACK, smtp=Smtp("h", 25, "plain", "a@example.com"))
    context = Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, outgoing=outgoing)
    with TestClient(build(context)) as client:
        bad = add(client, kind="email", address="ops@example.com,not an address")
        assert_problem(bad, 409, "'not an address' is no mail address")
        good = add(client, kind="email", address="ops@example.com, b@example.com")
    assert good.json()["address"] == "ops@example.com, b@example.com"
    assert good.json()["secret"] is None


def test_names_are_unique_and_unknown_ones_are_said_so(
    client: TestClient, receiver: HttpReceiver
) -> None:
    add(client, address=receiver.url)
    assert_problem(add(client, address=receiver.url), 409, "there is a target 'ops' already")
    for action, body in (("test", {}), ("mute", {"seconds": 60}), ("unmute", {}), ("remove", {})):
        answer = client.post(f"{TARGETS}/other/{action}", json=body)
        assert_problem(answer, 404, "no notification target 'other'", "vxctl notify list")


def test_the_answer_of_a_test_is_shown_bounded_and_harmless(
    client: TestClient, receiver: HttpReceiver
) -> None:
    add(client, address=receiver.url)
    receiver.status, receiver.text = 403, "no\x1b[31m\nsecond\n" + "x\n" * 50 + "y" * 5000
    answer = client.post(f"{TARGETS}/ops/test", json={}).json()
    assert (answer["taken"], answer["status"]) == (False, 403)
    assert answer["lines"] == ["no\\x1b[31m", "second", "x", "x", "x"]
    receiver.by_hand = endless
    answer = client.post(f"{TARGETS}/ops/test", json={}).json()
    assert (answer["taken"], answer["lines"]) == (True, ["y" * 200])


def test_a_heartbeat_cannot_be_muted_and_no_mute_is_for_ever(
    client: TestClient, receiver: HttpReceiver
) -> None:
    add(client, address=receiver.url, kind="heartbeat")
    answer = client.post(f"{TARGETS}/ops/mute", json={"seconds": 60})
    assert_problem(answer, 409, "a heartbeat cannot be muted")
    answer = client.post(f"{TARGETS}/ops/mute", json={"seconds": 31 * 86_400})
    assert_problem(answer, 422, "seconds")


@pytest.fixture
def vxctl(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`vxctl` in this process, which asks the app."""

    def post(_: object, *path: str, body: Any = None, **__: Any) -> Any:
        found = client.post("/api/v1/" + "/".join(path), json=body)
        assert found.status_code < 300, found.text
        return found.json()

    monkeypatch.setattr(cli_client.Client, "post", post)
    monkeypatch.setattr(
        cli_client.Client, "get", lambda _, path, **__: client.get(f"/api/v1/{path}").json()
    )

    def run(*arguments: str, status: int = 0) -> str:
        found = vxctl_app(["notify", *arguments], standalone_mode=False)
        assert (found or 0) == status
        return capsys.readouterr().out

    return run


def test_what_people_type(
    vxctl: Callable[..., str], receiver: HttpReceiver, tmp_path: Path
) -> None:
    assert "no notification targets: `vxctl notify add`" in vxctl("list")
    (tmp_path / "text").write_text("$title on $node\n")
    shown = vxctl("add", "ops", "webhook", receiver.url, "--template", str(tmp_path / "text"))
    assert "is added; see whether it works: `vxctl notify test ops`" in shown
    assert shown.splitlines()[-1].startswith("whsec_")
    assert vxctl("test", "ops") == "It took the test: status 200\nIts answer begins:\n  ok\n"
    assert json.loads(receiver.received[0].body)["data"]["text"] == "Test of a notification on "
    receiver.status = 500
    assert "It did not take the test: it answered 500: ok" in vxctl("test", "ops", status=3)
    assert json.loads(vxctl("list", "-o", "json"))[0]["remind_seconds"] == 86_400
    assert "every 24h" in vxctl("list")
    assert "is muted until" in vxctl("mute", "ops", "--for", "2h", "--reason", "works")
    assert "muted until" in vxctl("list")
    assert "is not muted" in vxctl("unmute", "ops")
    assert "has a new secret; the former signs beside it until" in vxctl("rotate", "ops")
    assert vxctl("list", "-o", "name") == "notification/ops\n"
    assert "is removed" in vxctl("remove", "ops")
    for given, stored in (("off", None), ("4h", 14_400)):
        vxctl("add", "ops", "webhook", receiver.url, "--remind-every", given)
        assert json.loads(vxctl("list", "-o", "json"))[0]["remind_seconds"] == stored
        vxctl("remove", "ops")
