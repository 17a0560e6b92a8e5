"""Notifications on their way: to real servers on loopback, which hang, lie, redirect and refuse."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from controller.db.states import TargetKind
from controller.notifications.addresses import endpoint_of, forbidden
from controller.notifications.errors import DeliveryError, TargetError
from controller.notifications.message import values_of
from controller.notifications.send import Outgoing, Parcel, Sender, signatures
from tests.controller_process import free_port
from tests.receivers import (
    LOOPBACK,
    HttpReceiver,
    drip,
    endless,
    hang,
    http_receiver,
)

ID = UUID("11111111-2222-4333-8444-555555555555")
SECRETS = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
VALUES = values_of(
    title="Orphan removed", event="orphan_removed", state="done", where="node one", why="dead",
    todo="nothing", time="2026-05-01T12:00:00Z", node="one", count=1, swarm="s1",
)  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def parcel(address: str, kind: TargetKind = TargetKind.WEBHOOK, **others: Any) -> Parcel:
    given: dict[str, Any] = {
        "id": ID, "notice_id": ID, "kind": kind, "address": address, "secrets": SECRETS[:1],
        "created_at": AT, "values": VALUES,
    }  # fmt: skip
    return Parcel(**given | others)


def test_a_webhook_is_signed_and_the_library_verifies_it(receiver: HttpReceiver) -> None:
    answer = Sender(LOOPBACK)(parcel(receiver.url))
    assert (answer.status, answer.text) == (200, "ok")
    (got,) = receiver.received
    assert got.path == "/hook/secret"
    assert got.headers["webhook-id"] == f"msg_{ID.hex}"
    body = Webhook(SECRETS[0]).verify(got.body, got.headers)
    assert body["type"] == "orphan_removed"
    assert body["timestamp"] == "2026-05-01T12:00:00Z"
    assert body["data"]["count"] == 1
    assert body["data"]["where"] == "node one"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRETS[1]).verify(got.body, got.headers)


def test_during_a_rotation_both_secrets_sign(receiver: HttpReceiver) -> None:
    Sender(LOOPBACK)(parcel(receiver.url, secrets=SECRETS))
    (got,) = receiver.received
    for secret in SECRETS:
        Webhook(secret).verify(got.body, got.headers)


def test_a_time_of_another_zone_is_signed_as_the_same_time() -> None:
    body, elsewhere = b"{}", AT.astimezone(timezone(timedelta(hours=9)))
    assert signatures(SECRETS, ID, elsewhere, body) == signatures(SECRETS, ID, AT, body)


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_what_hangs_ends_at_the_deadline(
    receiver: HttpReceiver, behaviour: Callable[[Any], None]
) -> None:
    receiver.by_hand = behaviour
    begin = time.monotonic()
    with pytest.raises(DeliveryError, match=r"no answer within 0\.5 s"):
        Sender(replace(LOOPBACK, seconds=0.5))(parcel(receiver.url))
    assert time.monotonic() - begin < 60  # Far from the ninety seconds of either.


def test_of_ten_gigabytes_the_beginning_is_read(receiver: HttpReceiver) -> None:
    receiver.by_hand = endless
    answer = Sender(LOOPBACK)(parcel(receiver.url))
    assert (answer.status, set(answer.text), len(answer.text)) == (200, {"y"}, 2048)


def test_a_redirect_is_not_followed(receiver: HttpReceiver) -> None:
    receiver.status, receiver.headers = 302, {"Location": receiver.url}
    with pytest.raises(DeliveryError, match="answered 302: redirects are not followed"):
        Sender(LOOPBACK)(parcel(receiver.url))
    assert len(receiver.received) == 1


def test_an_error_says_what_was_answered_and_when_to_come_again(receiver: HttpReceiver) -> None:
    receiver.status, receiver.text, receiver.headers = 429, "slow down", {"Retry-After": "17"}
    with pytest.raises(DeliveryError, match="answered 429: slow down") as caught:
        Sender(LOOPBACK)(parcel(receiver.url))
    assert caught.value.retry_after == 17


@pytest.mark.parametrize(
    ("path", "answer", "shown"),
    [
        ("/services/T0/B0/SECRET", "Cannot POST /services/T0/B0/SECRET", "Cannot POST ***"),
        ("/services/T0/B0/SECRET", "no token secret of T0", "no token *** of T0"),
        ("/a?key=SECRET%2Fx", "/a?key=SECRET%2Fx: SECRET/x is wrong", "***: *** is wrong"),
        ("/", "Cannot POST /", "Cannot POST /"),
    ],
)
def test_an_answer_that_repeats_the_url_shows_no_secret(
    receiver: HttpReceiver, path: str, answer: str, shown: str
) -> None:
    receiver.status, receiver.text = 404, answer
    with pytest.raises(DeliveryError) as caught:
        Sender(LOOPBACK)(parcel(f"http://127.0.0.1:{receiver.port}{path}"))
    assert str(caught.value) == f"it answered 404: {shown}"
    assert caught.value.answer is not None  # Whose text `vxctl notify test` shows.
    assert caught.value.answer.text == shown


def test_nobody_listens() -> None:
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1 refuses connections to port"):
        Sender(LOOPBACK)(parcel(f"http://127.0.0.1:{free_port()}/"))


def test_a_name_that_resolves_to_the_metadata_service_is_refused_though_all_is_allowed() -> None:
    everything = replace(
        LOOPBACK, allowed=(ip_network("0.0.0.0/0"),), lookup=lambda *_: ["169.254.169.254"]
    )
    with pytest.raises(DeliveryError, match=r"hooks\.example is 169\.254\.169\.254, a cloud's"):
        Sender(everything)(parcel("https://hooks.example/x"))


def test_the_address_that_was_checked_is_connected_to(receiver: HttpReceiver) -> None:
    """A name that would resolve otherwise a moment later is not asked again."""
    answers = iter([["127.0.0.1"]])
    outgoing = replace(LOOPBACK, lookup=lambda *_: next(answers))
    Sender(outgoing)(parcel(f"http://rebinding.invalid:{receiver.port}/"))
    assert receiver.received[0].headers["host"] == f"rebinding.invalid:{receiver.port}"


def test_one_forbidden_address_among_others_is_enough(receiver: HttpReceiver) -> None:
    outgoing = replace(LOOPBACK, lookup=lambda *_: ["127.0.0.1", "fe80::1%eth0"])
    with pytest.raises(DeliveryError, match="link-local"):
        Sender(outgoing)(parcel(f"http://two.invalid:{receiver.port}/"))
    assert not receiver.received


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"), ("::1", "loopback"), ("10.1.2.3", "private"),
        ("192.168.0.1", "private"), ("100.64.0.1", "private"), ("fc00::1", "private"),
        ("240.0.0.1", "private"), ("::ffff:127.0.0.1", "loopback"), ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"), ("::127.0.0.1", "loopback"),
        ("::ffff:0:10.0.0.1", "private"), ("64:ff9b:1::7f00:1", "loopback"),
    ],
)  # fmt: skip
def test_addresses_within_need_a_setting(address: str, word: str) -> None:
    why = forbidden(ip_address(address), ())
    assert why is not None
    assert word in why
    assert "VXLAN_OPERATOR_NOTIFY_ALLOW" in why


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.1.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "0.0.0.0",
     "::", "224.0.0.1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
     "168.63.129.16", "fd20:ce::254", "::169.254.169.254", "::ffff:0:169.254.169.254",
     "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::",
     "64:ff9b:1:7:a9:fea9:fe00:0"],
)  # fmt: skip
def test_some_addresses_are_never_allowed(address: str) -> None:
    all_networks = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert "never allowed" in str(forbidden(ip_address(address), all_networks))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert forbidden(ip_address(address), ()) is None


@pytest.mark.parametrize(
    "url",
    ["", "hooks.example", "ftp://a/", "http://", "http://u:p@a/", "http://a:99999/", "http://a/ b",
     "http://a/\r\nX: y", "http://[::1/", "file:///etc/passwd", "https://a/" + "x" * 2000],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(TargetError) as caught:
        endpoint_of(url)
    assert "u:p" not in str(caught.value)


def test_a_chat_gets_its_format(receiver: HttpReceiver) -> None:
    Sender(LOOPBACK)(parcel(receiver.url, TargetKind.SLACK))
    (got,) = receiver.received
    assert "webhook-signature" not in got.headers
    assert json.loads(got.body)["text"].startswith("one: Orphan removed\n```\nwhere: node one\n")


def test_the_repr_of_a_parcel_shows_no_secret() -> None:
    shown = repr(parcel("https://hooks.slack.com/services/SECRET"))
    assert "SECRET" not in shown
    assert "whsec_" not in shown


def test_without_settings_no_address_within_is_allowed() -> None:
    assert Outgoing().allowed == ()
