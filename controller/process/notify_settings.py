"""Settings of notifications: how they leave, and where the dashboard is that they link to."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from contract.runtime.errors import UsageError
from contract.runtime.settings import Settings
from controller.notifications.addresses import endpoint_of, networks_of
from controller.notifications.errors import TargetError
from controller.notifications.events import SITE
from controller.notifications.mail import Smtp
from controller.notifications.send import Outgoing

_SITE: Final = re.compile(r"(?P<server>https?://[^/]+)(?P<path>[/\w.~%-]*)", re.ASCII)
_SENDER: Final = re.compile(r"[^\s@<>,]{1,64}@[0-9A-Za-z.-]{1,253}")


def _networks(value: str) -> str:
    try:
        networks_of(value)
    except ValueError as error:
        raise ValueError("must be addresses or networks (CIDR) separated by commas") from error
    return value


def _url(value: str) -> str:
    try:
        if value:
            endpoint_of(value)
    except TargetError as error:
        raise ValueError("must be https://HOST[:PORT] or http://HOST[:PORT]") from error
    return value.rstrip("/")


def _site(value: str) -> str:
    found = _SITE.fullmatch(value or SITE)
    if found is None:
        raise ValueError("must be https://HOST[:PORT][/PATH] or http://HOST[:PORT][/PATH]")
    return _url(found["server"]) + found["path"].rstrip("/")


def _sender(value: str) -> str:
    if value and _SENDER.fullmatch(value) is None:
        raise ValueError("must be a mail address, such as vxlan-operator@example.com")
    return value


class NotifySettings(Settings):
    """Settings of a program that sends notifications."""

    public_url: Annotated[str, AfterValidator(_url)] = Field(
        "", description="URL of the dashboard as people reach it, for links in notifications"
    )
    docs_url: Annotated[str, AfterValidator(_site)] = Field(
        SITE,
        description="URL of a copy of the documents (`make site`), to which dashboard and notifications link",
    )
    notify_allow: Annotated[str, AfterValidator(_networks)] = Field(
        "",
        description="private addresses and networks (CIDR) to which notifications may go, separated by "
        "commas; public ones are allowed",
    )
    notify_ca: str = Field(
        "",
        description="PEM file of CAs for receivers of notifications, beside those of the system",
    )
    smtp_host: str = Field("", description="SMTP server for notifications by mail; none: no mail")
    smtp_port: int = Field(587, ge=1, le=65_535, description="its port")
    smtp_security: Literal["starttls", "tls", "plain"] = Field(
        "starttls",
        description="starttls, tls from the start, or plain: without TLS, in a trusted network",
    )
    smtp_from: Annotated[str, AfterValidator(_sender)] = Field(
        "", description="sender of the mails; needed with smtp_host"
    )
    smtp_user: str = Field("", description="user name for the SMTP server; none: without login")
    smtp_password_file: str = Field(
        "", description="file with the password of that user, read for each mail"
    )

    def outgoing(self) -> Outgoing:
        """Return how notifications leave.

        Raises:
            UsageError: the settings contradict each other.
        """
        return Outgoing(
            allowed=networks_of(self.notify_allow),
            ca=self.notify_ca,
            smtp=self._smtp(),
            public_url=self.public_url,
            docs_url=self.docs_url,
        )

    def _smtp(self) -> Smtp | None:
        if not self.smtp_host:
            return None
        if not self.smtp_from:
            raise UsageError(
                "smtp_host is set, and smtp_from is not",
                "set VXLAN_OPERATOR_SMTP_FROM to the sender of the mails",
            )
        if bool(self.smtp_user) != bool(self.smtp_password_file):
            raise UsageError(
                "a login at the SMTP server needs a user and a password",
                "set VXLAN_OPERATOR_SMTP_USER and VXLAN_OPERATOR_SMTP_PASSWORD_FILE, or neither",
            )
        if self.smtp_user and self.smtp_security == "plain":
            raise UsageError(
                "a password is not sent to an SMTP server without TLS",
                "set VXLAN_OPERATOR_SMTP_SECURITY=starttls, or leave user and password out",
            )
        return Smtp(
            self.smtp_host,
            self.smtp_port,
            self.smtp_security,
            self.smtp_from,
            self.smtp_user,
            self.smtp_password_file,
        )
