"""`Reception`: opens what arrives from workers, hands on what is to be believed, and counts the rest."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from pydantic import BaseModel

from contract.messages import Hello, SignOfLife
from contract.queues import ALIVE_TASK, HELLO_TASK
from contract.runtime.errors import OperatorError
from contract.runtime.refusals import OF_KEYS, Refusals, refusals
from contract.signing.envelope import CONTROLLERS, Opened, Opener
from contract.signing.refusals import Reason, RefusedError
from contract.signing.replays import Replays
from controller.db.engine import Database
from controller.db.key_models import NodeKey
from controller.db.models import Cluster
from controller.db.states import NodeKeyState
from controller.trust.introductions import introduce, take_password
from controller.trust.keyring import Keyring
from controller.trust.quota import Quota

_M = TypeVar("_M", bound=BaseModel)
_WINDOW: Final = 8
"""Messages of a node that may overtake each other; with thousands of nodes each takes memory."""
_MAX_INTRODUCTIONS: Final = 50
"""Keys that are looked at in a second; others come again a minute later."""
_INTRODUCTIONS: Final = frozenset({Reason.UNKNOWN_KEY, Reason.UNTRUSTED_KEY, Reason.WRONG_SENDER})
"""What a Hello may be refused for and still bring a key, or somebody's word for one.

WRONG_SENDER: the node left and joined the Swarm again, and has another id since.
"""


_PASSWORD_SECONDS: Final = 10
"""A key's new password at the broker is taken once in so long: each is a write, and a user's new rules."""


class _TooEarlyError(Exception):
    """No Swarm was read yet, so no node is known: a worker that was first comes again in a minute."""


class Reception:
    """Opens messages of workers; one for each thread.

    Args:
        database: stores keys that are introduced.
        refused: counts what was refused.
        quota: bounds the messages of each node; None: nothing does.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        refused: Refusals = refusals,
        quota: Quota | None = None,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._refused = refused
        self._utcnow = utcnow
        self._second = datetime.min.replace(tzinfo=UTC)
        self._introduced = 0
        self._passwords: dict[str, datetime] = {}
        """When a password was taken, by key, of the last seconds."""
        self._replays = Replays(_WINDOW)
        self._opener = Opener(
            me=CONTROLLERS, lookup=keyring.find, replays=self._replays, now=utcnow, bound=quota
        )

    def handler(
        self, task: str, model: type[_M], take: Callable[[Opened[_M]], None]
    ) -> Callable[[object], None]:
        """Return the function of a Celery task, which calls `take` with a message that was opened."""

        def handle(text: object) -> None:
            try:
                opened = self._opener.open(text, task, model)
            except RefusedError as error:
                self._refused.add(error)
                return
            take(opened)

        return handle

    def hello(self, take: Callable[[Opened[Hello]], None]) -> Callable[[object], None]:
        """Return the function of the task of Hellos, which also takes a key that a worker introduces."""

        def handle(text: object) -> None:
            try:
                try:
                    opened = self._opener.open(text, HELLO_TASK, Hello)
                except RefusedError as error:
                    if error.reason not in _INTRODUCTIONS:
                        raise
                    self._introduce(text)
                    opened = self._opener.open(text, HELLO_TASK, Hello)
            except RefusedError as error:
                self._refused.add(error)
                return
            except _TooEarlyError:
                return
            self._keep_password(opened)
            take(opened)

        return handle

    def sign_of_life(self, raw: bytes, *, again: bool) -> Opened[SignOfLife] | None:
        """Open a sign of life; None: it is refused. The caller must take none older than another.

        Args:
            again: whether the node's sign before was refused, too. Else a key that is not believed is no
                news: in the moment in which a worker replaces its key a sign comes too late, or too early.
        """
        try:
            return self._opener.open(
                raw.decode("utf-8", "replace"), ALIVE_TASK, SignOfLife, once=False
            )
        except RefusedError as error:
            self._refused.add(error, shown=again or error.reason not in OF_KEYS)
            return None

    def _introduce(self, text: object) -> None:
        """Store the key that a Hello introduces; raise `RefusedError` or `_TooEarlyError` if that is all."""
        opened = self._opener.introduction(text)
        if not self._may_store():
            raise RefusedError(Reason.UNTRUSTED_KEY, "too many keys are introduced", opened.kid)
        with self._database.write() as session:
            if session.get(Cluster, 1) is None:
                raise _TooEarlyError
            state = introduce(session, opened, self._utcnow())
        if state is not NodeKeyState.TRUSTED:
            detail = "nobody vouches for its key: `vxctl node keys` shows it"
            raise RefusedError(Reason.UNTRUSTED_KEY, detail, opened.kid)
        with suppress(OperatorError):  # It knows the nodes' keys all the same.
            self._keyring.refresh()
        # Else each node that ever was a member would take memory for as long as this process runs.
        self._replays.keep(self._keyring.ids)

    def _keep_password(self, opened: Opened[Hello]) -> None:
        """Store the digest of the password that a believed node has at the broker, if it is new."""
        password = opened.payload.broker_password
        if password is None or password == self._keyring.broker_password(opened.kid):
            return
        now, pause = self._utcnow(), timedelta(seconds=_PASSWORD_SECONDS)
        self._passwords = {kid: at for kid, at in self._passwords.items() if abs(now - at) < pause}
        if opened.kid in self._passwords:
            return  # Its worker says it again until it may log in.
        self._passwords[opened.kid] = now
        with self._database.write() as session:
            row = session.get(NodeKey, opened.kid)
            if row is not None:
                take_password(row, opened, now)

    def _may_store(self) -> bool:
        """Whether to look at one more key now: anybody who can write to the broker can make them."""
        now = self._utcnow()
        if abs(now - self._second) >= timedelta(seconds=1):
            self._second, self._introduced = now, 0
        self._introduced += 1
        return self._introduced <= _MAX_INTRODUCTIONS
