"""Sends a notification to a target by its kind, and returns the answer."""

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from standardwebhooks import Webhook

from controller.db.states import TargetKind
from controller.notifications import mail, third_party
from controller.notifications.addresses import Lookup, Network, endpoint_of, resolve
from controller.notifications.errors import Answer, DeliveryError, TargetError
from controller.notifications.events import SITE
from controller.notifications.mail import Smtp
from controller.notifications.message import (
    Values,
    chat_of,
    iso,
    payload_of,
    subject_of,
    text_of,
    unmarked,
)
from controller.notifications.post import SECONDS, post

_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What the settings say about sending.

    Attributes:
        allowed: networks beside the public ones to which notifications may go.
        ca: PEM file of further authorities; empty: the system's alone.
        smtp: the server for mail; None: there is none.
        public_url: of the dashboard, without a slash at the end; empty: unknown.
        docs_url: of the documents, without a slash at the end.
        seconds: the longest time for one.
        lookup: resolves host names.
    """

    allowed: Sequence[Network] = ()
    ca: str = ""
    smtp: Smtp | None = None
    public_url: str = ""
    docs_url: str = SITE
    seconds: float = SECONDS
    lookup: Lookup = resolve

    def tls(self) -> ssl.SSLContext:
        """Return a context that verifies servers.

        Raises:
            DeliveryError: the file of the settings cannot be used.
        """
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ssl.SSLError) as error:
                message = error.strerror or "no PEM"
                raise DeliveryError(
                    f"VXLAN_OPERATOR_NOTIFY_CA: {self.ca} cannot be used: {message}"
                ) from error
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A notification with the target that it goes to.

    Attributes:
        id: of the delivery: the `webhook-id` of every attempt.
        notice_id: the same for all targets.
        target_id: 0: of a target that is only tried.
        secrets: that sign it, the newest first.
    """

    id: UUID
    notice_id: UUID
    target_id: int = 0
    kind: TargetKind
    address: str = field(repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)
    template: str | None = None
    created_at: datetime
    values: Values


def signatures(secrets: Sequence[str], id_: UUID, at: datetime, body: bytes) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks: one signature a secret."""
    at = at.astimezone(UTC)  # `sign` takes any other zone's figures for UTC.
    name = f"msg_{id_.hex}"
    signed = [Webhook(secret).sign(name, at, body.decode()) for secret in secrets]
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signed),
    }


class Sender:
    """Sends parcels; thread-safe."""

    def __init__(
        self,
        outgoing: Outgoing,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.outgoing = outgoing
        self._utcnow = utcnow

    def __call__(self, parcel: Parcel) -> Answer:
        """Send one.

        Raises:
            DeliveryError: the target did not take it.
        """
        try:
            if parcel.kind is TargetKind.EMAIL:
                return self._mail(parcel)
            if parcel.kind is TargetKind.APPRISE:
                safe = unmarked(parcel.values)
                return third_party.notify(
                    parcel.address,
                    title=subject_of(safe),
                    text=text_of(safe, parcel.template),
                    allowed=self.outgoing.allowed,
                    seconds=self.outgoing.seconds,
                )
            return self._post(parcel)
        except TargetError as error:
            raise DeliveryError(f"{error}; {error.hint}") from error

    def _mail(self, parcel: Parcel) -> Answer:
        if self.outgoing.smtp is None:
            raise DeliveryError(mail.NO_SERVER)
        return mail.send(
            self.outgoing.smtp,
            parcel.address.split(","),
            subject=subject_of(parcel.values),
            text=text_of(parcel.values, parcel.template),
            id_=parcel.id,
            at=self._utcnow(),
            tls=self.outgoing.tls(),
            seconds=self.outgoing.seconds,
        )

    def _post(self, parcel: Parcel) -> Answer:
        headers: dict[str, str] = dict(_JSON)
        if parcel.kind is TargetKind.SLACK:
            body = json.dumps(chat_of(parcel.values, parcel.template)).encode()
        elif parcel.kind is TargetKind.HEARTBEAT:
            body, headers = b"", {}
        else:
            body = payload_of(
                parcel.values,
                id_=str(parcel.notice_id),
                created_at=iso(parcel.created_at),
                template=parcel.template,
            )
            headers |= signatures(parcel.secrets, parcel.id, self._utcnow(), body)
        return post(
            endpoint_of(parcel.address),
            body,
            headers,
            tls=self.outgoing.tls(),
            allowed=self.outgoing.allowed,
            lookup=self.outgoing.lookup,
            seconds=self.outgoing.seconds,
        )
