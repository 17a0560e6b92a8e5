"""Notifications by mail and apprise: a real SMTP server on loopback that takes, refuses, hangs and lies."""

import email
import email.policy
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from controller.db.states import TargetKind
from controller.notifications import third_party
from controller.notifications.errors import DeliveryError, TargetError
from controller.notifications.mail import Smtp
from controller.notifications.message import values_of
from controller.notifications.send import Outgoing, Sender
from tests.certificates import make
from tests.controller_process import free_port
from tests.receivers import (
    LOOPBACK,
    SmtpReceiver,
    drip,
    endless,
    http_receiver,
    smtp_receiver,
)
from tests.unit.test_notification_sending import ID, VALUES, parcel

TO = "ops@example.com,night@example.com"


@pytest.fixture
def server() -> Iterator[SmtpReceiver]:
    with smtp_receiver() as found:
        yield found


def outgoing(server: SmtpReceiver, **others: Any) -> Outgoing:
    given: dict[str, Any] = {
        "host": "127.0.0.1", "port": server.port, "security": "plain",
        "sender": "vxlan-operator@example.com",
    }  # fmt: skip
    return replace(LOOPBACK, smtp=Smtp(**given | others))


def mail(server: SmtpReceiver, **others: Any) -> EmailMessage:
    """Send one, and return it as it came."""
    Sender(outgoing(server))(parcel(TO, TargetKind.EMAIL, **others))
    return email.message_from_string(server.mails[-1], policy=email.policy.default)


def test_a_mail_has_all_that_it_should(server: SmtpReceiver) -> None:
    got = mail(server)
    assert got["Subject"] == "[vxlan-operator] one: Orphan removed"
    assert got["From"] == "vxlan-operator@example.com"
    assert got["To"] == "ops@example.com, night@example.com"
    assert got["Message-ID"] == f"<{ID.hex}@vxlan-operator.invalid>"
    assert got["Auto-Submitted"] == "auto-generated"
    assert "where: node one" in got.get_content()


def test_a_hostile_name_adds_no_header(server: SmtpReceiver) -> None:
    evil = "x\r\nBcc: thief@example.com\r\n\r\nbody"
    got = mail(server, values=values_of(**VALUES | {"node": evil, "where": f"node {evil}"}))
    assert got["Bcc"] is None
    assert "\\r\\nBcc: thief@example.com" in got["Subject"]


@pytest.mark.parametrize(
    ("refuse", "error"),
    [
        ({"RCPT": "550 no such user here"}, "for none of the recipients: 550 no such user here"),
        ({"MAIL": "451 try later"}, "refuses: 451 try later"),
        ({"DATA": "554 no spam"}, "refuses: 554 no spam"),
        ({"EHLO": "500 what", "HELO": "500 what"}, "refuses: 500 what"),
    ],
)
def test_a_server_that_refuses(server: SmtpReceiver, refuse: dict[str, str], error: str) -> None:
    server.refuse = refuse
    with pytest.raises(DeliveryError, match=error):
        mail(server)
    assert not server.mails


def test_a_server_that_is_busy_hangs_or_is_not_there(server: SmtpReceiver) -> None:
    server.greeting = "421 too many connections"
    with pytest.raises(DeliveryError, match="refuses: 421 too many connections"):
        mail(server)
    server.greeting = ""
    with pytest.raises(DeliveryError, match=r"did not answer within 0\.4 s"):
        Sender(replace(outgoing(server), seconds=0.4))(parcel(TO, TargetKind.EMAIL))
    with pytest.raises(DeliveryError, match="cannot be reached: Connection refused"):
        Sender(outgoing(server, port=free_port()))(parcel(TO, TargetKind.EMAIL))
    with pytest.raises(DeliveryError, match="set VXLAN_OPERATOR_SMTP_HOST"):
        Sender(LOOPBACK)(parcel(TO, TargetKind.EMAIL))


def test_tls_is_verified_and_a_password_goes_through_it_alone(
    server: SmtpReceiver, tmp_path: Path
) -> None:
    pair = make(tmp_path, "server", algorithm="ec")
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(pair.certificate, pair.key)
    (tmp_path / "password").write_text("correct horse\n")
    login = {
        "security": "starttls", "user": "operator", "password_file": str(tmp_path / "password"),
    }  # fmt: skip
    with pytest.raises(DeliveryError, match="has no STARTTLS"):
        Sender(outgoing(server, **login))(parcel(TO, TargetKind.EMAIL))
    server.offers = ("STARTTLS", "AUTH PLAIN")
    with pytest.raises(DeliveryError, match=r"certificate of 127\.0\.0\.1 is not accepted"):
        Sender(outgoing(server, **login))(parcel(TO, TargetKind.EMAIL))
    assert server.logins == []
    known = replace(outgoing(server, **login), ca=str(pair.certificate))
    Sender(known)(parcel(TO, TargetKind.EMAIL))
    assert server.encrypted == [True]
    assert len(server.logins) == 1
    server.refuse = {"AUTH": "535 wrong password"}
    with pytest.raises(DeliveryError, match="refuses the login as operator: 535") as caught:
        Sender(known)(parcel(TO, TargetKind.EMAIL))
    assert "horse" not in str(caught.value)
    (tmp_path / "password").unlink()
    with pytest.raises(DeliveryError, match="set VXLAN_OPERATOR_SMTP_PASSWORD_FILE"):
        Sender(known)(parcel(TO, TargetKind.EMAIL))


def test_a_webhook_with_a_certificate_of_nobody_known_gets_nothing(tmp_path: Path) -> None:
    pair = make(tmp_path, "server", algorithm="ec")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    with http_receiver(tls) as receiver:
        url = receiver.url.replace("http:", "https:")
        with pytest.raises(DeliveryError, match=r"certificate of 127\.0\.0\.1 is not accepted"):
            Sender(LOOPBACK)(parcel(url))
        assert not receiver.received
        Sender(replace(LOOPBACK, ca=str(pair.certificate)))(parcel(url))
        assert len(receiver.received) == 1
        with pytest.raises(DeliveryError, match="VXLAN_OPERATOR_NOTIFY_CA: /nowhere cannot"):
            Sender(replace(LOOPBACK, ca="/nowhere"))(parcel(url))


SLOW = replace(LOOPBACK, seconds=60.0)
"""A child has to start."""


def test_apprise_speaks_to_its_services() -> None:
    with http_receiver() as receiver:
        url = f"json://127.0.0.1:{receiver.port}/secret"
        answer = Sender(SLOW)(parcel(url, TargetKind.APPRISE))
        assert answer.text == "JSON took it"
        assert b"Orphan removed" in receiver.received[0].body
        receiver.status, receiver.text = 500, "of /secret"
        with pytest.raises(DeliveryError) as caught:
            Sender(SLOW)(parcel(url, TargetKind.APPRISE))
        assert str(caught.value) == "JSON did not take it: it answered 500"
        count = len(receiver.received)
        with pytest.raises(DeliveryError, match="loopback address"):
            Sender(replace(SLOW, allowed=()))(parcel(url, TargetKind.APPRISE))
        assert len(receiver.received) == count
        # No redirect is followed, whatever the URL says.
        receiver.status, receiver.headers = 307, {"Location": receiver.url}
        with pytest.raises(DeliveryError):
            Sender(SLOW)(parcel(f"{url}?redirect=yes", TargetKind.APPRISE))
        assert len(receiver.received) == count + 1


@pytest.mark.parametrize(
    ("behaviour", "seconds", "error"),
    [
        (drip, 3.0, r"^no answer within 3 s$"),
        # Long before the deadline: it may have no more memory.
        (
            endless,
            120.0,
            r"^(JSON did not take it: no reason given|apprise ended before its answer)",
        ),
    ],
)
def test_apprise_is_bounded_in_time_and_memory(
    behaviour: Callable[[Any], None], seconds: float, error: str
) -> None:
    before = children()
    with http_receiver() as receiver:
        receiver.by_hand = behaviour
        url = f"json://127.0.0.1:{receiver.port}/secret"
        with pytest.raises(DeliveryError, match=error):
            Sender(replace(LOOPBACK, seconds=seconds))(parcel(url, TargetKind.APPRISE))
    assert children() <= before


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # A thread of the receiver has ended meanwhile.
            found.update((task / "children").read_text().split())
    return found


@pytest.mark.parametrize(
    "url",
    ["nonsense", "nosuch://x", "syslog://", " syslog://", "SYSLOG://", "mailto://u:p@a.example"],
)
def test_what_apprise_does_not_know_or_must_not_do(url: str) -> None:
    assert "knows no service of that form" in third_party.perform({"url": url})["refused"][0]


def test_apprise_must_verify_certificates() -> None:
    with pytest.raises(TargetError, match="verification of certificates off"):
        third_party.check("jsons://hooks.example/secret?verify=no")


@pytest.mark.parametrize(
    "url",
    [
        "pbul://TOKEN12345",
        f"pover://{'u' * 30}@{'t' * 30}",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5",
    ],
)
def test_a_token_in_the_place_of_a_host_is_no_name_to_ask_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        return []

    monkeypatch.setattr(third_party, "resolve", resolve)
    monkeypatch.setattr(third_party, "_send", lambda *_: None)
    request = {"url": url, "title": "t", "text": "x", "allowed": ""}
    assert "taken" in third_party.perform(request)
    assert asked == []
    assert "failed" in third_party.perform(request | {"url": "json://hooks.example/x"})
    assert asked == ["hooks.example"]


def test_without_apprise_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(TargetError) as caught:
        third_party.check("json://a.example")
    assert str(caught.value) == "the library apprise is not installed on this controller"
    assert "pip install 'vxlan-operator[controller,apprise]'" in caught.value.hint
