"""`Reception`: opens what arrives from workers, hands on what is to be believed, and counts the rest."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from pydantic import BaseModel

from contract.messages import Hello, SignOfLife
from contract.queues import ALIVE_TASK, HELLO_TASK
from contract.runtime.errors import OperatorError
from contract.runtime.refusals import Refusals, refusals
from contract.signing.envelope import CONTROLLERS, Opened, Opener
from contract.signing.refusals import Reason, RefusedError
from contract.signing.replays import Replays
from controller.db.engine import Database
from controller.db.states import NodeKeyState
from controller.trust.introductions import introduce
from controller.trust.keyring import Keyring

_M = TypeVar("_M", bound=BaseModel)
_WINDOW: Final = 8
"""Messages of a node that may overtake each other; with thousands of nodes each takes memory."""
_MAX_INTRODUCTIONS: Final = 50
"""Keys that are looked at in a second; others come again a minute later."""
_INTRODUCTIONS: Final = frozenset({Reason.UNKNOWN_KEY, Reason.UNTRUSTED_KEY, Reason.WRONG_SENDER})
"""What a Hello may be refused for and still bring a key, or somebody's word for one.

WRONG_SENDER: the node left and joined the Swarm again, and has another id since.
"""


class Reception:
    """Opens messages of workers; one for each thread.

    Args:
        database: stores keys that are introduced.
        refused: counts what was refused.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        refused: Refusals = refusals,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._refused = refused
        self._utcnow = utcnow
        self._second = datetime.min.replace(tzinfo=UTC)
        self._introduced = 0
        self._opener = Opener(
            me=CONTROLLERS, lookup=keyring.find, replays=Replays(_WINDOW), now=utcnow
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
            take(opened)

        return handle

    def sign_of_life(self, raw: bytes) -> Opened[SignOfLife] | None:
        """Open a sign of life; None: it is refused. The caller must take none older than another."""
        try:
            return self._opener.open(
                raw.decode("utf-8", "replace"), ALIVE_TASK, SignOfLife, once=False
            )
        except RefusedError as error:
            self._refused.add(error)
            return None

    def _introduce(self, text: object) -> None:
        """Store the key that a Hello introduces; raise `RefusedError` if the Hello is to do no more."""
        opened = self._opener.introduction(text)
        if not self._may_store():
            raise RefusedError(Reason.UNTRUSTED_KEY, "too many keys are introduced", opened.kid)
        with self._database.write() as session:
            state = introduce(session, opened.payload, self._utcnow())
        if state is not NodeKeyState.TRUSTED:
            detail = "nobody vouches for its key: `vxctl node keys` shows it"
            raise RefusedError(Reason.UNTRUSTED_KEY, detail, opened.kid)
        with suppress(OperatorError):  # It knows the nodes' keys all the same.
            self._keyring.refresh()

    def _may_store(self) -> bool:
        """Whether to look at one more key now: anybody who can write to the broker can make them."""
        now = self._utcnow()
        if abs(now - self._second) >= timedelta(seconds=1):
            self._second, self._introduced = now, 0
        self._introduced += 1
        return self._introduced <= _MAX_INTRODUCTIONS
