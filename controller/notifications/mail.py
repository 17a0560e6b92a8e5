"""Mail by the SMTP server of the settings, with verified TLS unless the settings say plain."""

import smtplib
import ssl
from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final, Literal, NamedTuple
from uuid import UUID

from contract.runtime.errors import UsageError
from contract.runtime.secret_file import read_secret
from contract.runtime.text import printable
from controller.notifications.errors import Answer, DeliveryError
from controller.notifications.post import Deadline

NO_SERVER: Final = "there is no SMTP server: set VXLAN_OPERATOR_SMTP_HOST on the controllers"
PASSWORD_FILE: Final = "VXLAN_OPERATOR_SMTP_PASSWORD_FILE"  # noqa: S105 -- the name of a setting
_READY: Final = 220
Security = Literal["starttls", "tls", "plain"]


class Smtp(NamedTuple):
    """The server: the settings name it, so that no token of the API decides where a password goes.

    Attributes:
        security: STARTTLS, TLS from the start, or neither.
        user: empty: without login.
        password_file: read for each mail, so a new password counts at once.
    """

    host: str
    port: int
    security: Security
    sender: str
    user: str = ""
    password_file: str = ""


def send(
    smtp: Smtp,
    recipients: Sequence[str],
    *,
    subject: str,
    text: str,
    id_: UUID,
    at: datetime,
    tls: ssl.SSLContext,
    seconds: float,
) -> Answer:
    """Send a mail; its Message-ID is the same in every attempt.

    Raises:
        DeliveryError: the server took it for nobody.
    """
    message = EmailMessage()
    message["From"] = smtp.sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = printable(subject)
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{id_.hex}@vxlan-operator.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text, cte="quoted-printable")
    with Deadline(seconds) as deadline:
        try:
            refused = _send(smtp, message, recipients, tls, seconds, deadline)
        except UsageError as error:  # Of the password's file.
            raise DeliveryError(f"{error.problem}; {error.hint}") from error
        except (OSError, smtplib.SMTPException, ValueError) as error:
            if deadline.is_over or isinstance(error, TimeoutError):
                raise DeliveryError(f"{smtp.host} did not answer within {seconds:g} s") from error
            raise DeliveryError(_message(smtp, error)) from error
    if refused:
        # To send it again would send it twice to the others.
        return Answer(None, f"taken, but not for {', '.join(map(printable, refused))}")
    return Answer(None, f"{smtp.host} took the mail for {len(recipients)} recipient(s)")


def _send(
    smtp: Smtp,
    message: EmailMessage,
    recipients: Sequence[str],
    tls: ssl.SSLContext,
    seconds: float,
    deadline: Deadline,
) -> Sequence[str]:
    """Return the recipients that were refused."""
    with _connection(smtp, tls, seconds, deadline) as server:
        if smtp.security == "starttls":
            server.starttls(context=tls)
        if smtp.user:
            server.login(smtp.user, read_secret(smtp.password_file, PASSWORD_FILE))
        return list(server.send_message(message, to_addrs=list(recipients)))


def _connection(
    smtp: Smtp, tls: ssl.SSLContext, seconds: float, deadline: Deadline
) -> smtplib.SMTP:
    kind = _TlsFromTheStart(tls, deadline) if smtp.security == "tls" else _Plain(deadline)
    kind.timeout = (
        seconds + 1
    )  # So that the deadline ends it: smtplib makes a time-out of this a hang-up.
    try:
        code, text = kind.connect(smtp.host, smtp.port)
    except BaseException:
        kind.close()
        raise
    if code == _READY:
        return kind
    kind.close()
    raise smtplib.SMTPConnectError(code, text)


class _Plain(smtplib.SMTP):
    """Watched from its connection on: a greeting that never comes must end, too."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def _get_socket(self, host: str, port: int, timeout: float) -> "object":
        found = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        self._host = host  # As the constructor with a host does; STARTTLS checks this name.
        self._deadline.watch(found)
        return found


class _TlsFromTheStart(_Plain):
    def __init__(self, tls: ssl.SSLContext, deadline: Deadline) -> None:
        super().__init__(deadline)
        self._tls = tls

    def _get_socket(self, host: str, port: int, timeout: float) -> "object":
        found = super()._get_socket(host, port, timeout)
        return self._tls.wrap_socket(found, server_hostname=host)  # type: ignore[arg-type]


def _message(smtp: Smtp, error: Exception) -> str:
    where = f"{smtp.host}:{smtp.port}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        reasons = {_reply(code, text) for code, text in error.recipients.values()}
        return f"{where} takes the mail for none of the recipients: {'; '.join(sorted(reasons))}"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return (
            f"{where} refuses the login as {smtp.user}: {_reply(error.smtp_code, error.smtp_error)}"
        )
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{where} refuses: {_reply(error.smtp_code, error.smtp_error)}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"{where} has no STARTTLS or no login: see VXLAN_OPERATOR_SMTP_SECURITY"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {smtp.host} is not accepted: {error.verify_message}"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return f"{where} ended the connection"
    if isinstance(error, OSError) and error.strerror:
        return f"{where} cannot be reached: {error.strerror}"
    return f"{where} gives no valid answer ({type(error).__name__})"


def _reply(code: int, text: bytes | str) -> str:
    message = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {printable(message)[:200]}"
