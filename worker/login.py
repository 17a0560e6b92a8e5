"""`Login`: this node's own user of the broker, whose password the worker makes.

The controllers learn the SHA-256 of the password in a Hello that the node's key signs, and the leader makes
the user. Until then the worker has the login of its settings, which may add messages for the controllers and
read none.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import structlog
from celery import Celery

from contract.messages import PasswordDigest
from contract.queues import HELLO_TASK
from contract.runtime.acl import digest, node_user
from contract.runtime.broker import HINT_EXPIRES, MAX_WAITING, celery_app, queue_for_controller
from contract.runtime.broker_errors import advice, login_refused
from contract.runtime.broker_settings import Broker
from contract.runtime.errors import OperatorError
from contract.runtime.password_file import make_password, read_password
from contract.runtime.startup import UnavailableError
from contract.runtime.text import redacted
from contract.runtime.throttle import Throttle

log = structlog.get_logger(__name__)

_TELL_SECONDS: Final = 10.0
"""Minimum seconds between Hellos by the login of the settings."""
_POLL_SECONDS: Final = 0.5
_LOG_SECONDS: Final = 60.0
_CONNECT_SECONDS: Final = 3.0


class Login:
    """A node's user and its password; the file is made at the first start.

    Args:
        given: the broker with the login of the settings.

    Attributes:
        app: sends and receives as this node's user.
        password: SHA-256 of its password.
    """

    def __init__(self, given: Broker, node_id: str, password: str) -> None:
        self._user = node_user(node_id)
        self._given = celery_app("worker", given)
        self._due = Throttle(_TELL_SECONDS)
        self._log_due = Throttle(_LOG_SECONDS)
        self.app: Celery = celery_app("worker", given.of(self._user, password))
        self.password: PasswordDigest = digest(password)

    @classmethod
    def open(cls, given: Broker, node_id: str, file: Path) -> Self:
        """Read the password, or make it.

        Raises:
            OperatorError: its file cannot be read or written.
        """
        return cls(given, node_id, read_password(file) or make_password(file))

    def enter(self, hello: Callable[[str], str], *, patience: float) -> None:
        """Wait until this node's user may log in; meanwhile tell the controllers of it.

        Args:
            hello: makes a signed Hello with a reason.
            patience: seconds.

        Raises:
            UnavailableError: it may not yet, or the broker cannot be reached.
        """
        deadline = time.monotonic() + patience
        while True:
            refused = self._refusal()
            if refused is None:
                log.info("this node's user of the broker works", user=self._user)
                return
            self._tell(hello)
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"the broker does not know this node's user {self._user} yet: {refused}",
                    "start a controller with VXLAN_OPERATOR_BROKER_ACL=true, which makes it once this node's "
                    "key is trusted: `vxctl node keys`",
                )
            time.sleep(_POLL_SECONDS)

    def refused(self, error: BaseException, hello: Callable[[str], str]) -> None:
        """Tell the controllers of this node's user again, if an error says that the broker refuses it.

        Redis may have lost it, or the database its password. Raises nothing.
        """
        if not login_refused(error):
            return
        try:
            self._tell(hello)
        except OperatorError as failure:
            if self._log_due.is_due():
                log.warning(
                    "this node's user of the broker cannot be introduced",
                    error=failure.problem,
                    hint=failure.hint,
                )

    def _refusal(self) -> str | None:
        """Return why this node's user may not log in; None: it may."""
        try:
            with self.app.connection_for_write(connect_timeout=_CONNECT_SECONDS) as connection:
                connection.channel()
        except Exception as error:
            if login_refused(error):
                return redacted(str(error))
            raise _unavailable(error) from error
        return None

    def _tell(self, hello: Callable[[str], str]) -> None:
        if not self._due.is_due():
            return
        queue = queue_for_controller()
        try:
            with (
                self._given.connection_for_write(connect_timeout=_CONNECT_SECONDS) as connection,
                self._given.amqp.Producer(connection) as producer,
            ):
                waiting = queue(producer.channel).queue_declare().message_count
                if waiting >= MAX_WAITING:
                    log.warning("Hello dropped: the controller's queue is full", waiting=waiting)
                    return
                self._given.send_task(
                    HELLO_TASK,
                    args=[hello("it introduces its user of the broker")],
                    queue=queue,
                    declare=[],
                    expires=HINT_EXPIRES,
                    producer=producer,
                )
        except Exception as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the broker cannot be used: {redacted(str(error))}",
        advice(error) or "start Redis, or set VXLAN_OPERATOR_BROKER_URL (redis://HOST:6379/0)",
    )
