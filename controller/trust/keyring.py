"""`Keyring`: the keys that this process knows, read again from the database every few seconds."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from contract.runtime.errors import OperatorError
from contract.signing.envelope import CONTROLLERS, KnownKey, Signer, node_address
from contract.signing.keys import PublicKey, SigningKey
from contract.signing.refusals import Reason
from contract.signing.succession import MAX_LINKS, Link, write
from controller.db.engine import Database
from controller.db.key_models import ControllerKey, NodeKey
from controller.db.states import ControllerKeyState, NodeKeyState
from controller.trust import own_key, store

log = structlog.get_logger(__name__)

_MIN_AGE_SECONDS: Final = 1.0
"""So old is what is known at least before an unknown key leads to another look."""
_PERIOD_SECONDS: Final = 5.0
_ALONE_SECONDS: Final = 30.0
"""The same while this process, which writes alone, has written nothing."""
_MAX_SHARE: Final = 0.02
"""Of the time, spent on reading keys: with thousands of nodes that takes a while."""
_KEYS: Final = select(
    NodeKey.id, NodeKey.node_id, NodeKey.public_key, NodeKey.state, NodeKey.broker_password
)
_REFUSED: Final = {
    NodeKeyState.PENDING: Reason.UNTRUSTED_KEY,
    NodeKeyState.REVOKED: Reason.REVOKED_KEY,
}


class _Known(NamedTuple):
    keys: Mapping[str, KnownKey]
    """By id."""
    of_nodes: Mapping[str, str]
    """Node id to the id of the key that counts."""
    broker_passwords: Mapping[str, str]
    """Id of a node's key to the digest of its password at the broker."""
    controllers: Sequence[str]
    """Public keys, as texts, that workers are to believe: what signs, and the next; none: as before."""
    signer: Signer
    succession: str = ""
    """How the keys before lead to the one that signs."""


class Keyring:
    """Keys of the nodes, and the controllers' own. Thread-safe.

    Args:
        file: of the controllers' key; after a rotation the next is read from beside it.
        key: the one that signs now.
    """

    def __init__(
        self,
        database: Database,
        file: Path,
        key: SigningKey,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._parsed: dict[str, PublicKey] = {}
        self._known = _Known({}, {}, {}, (), Signer(key, CONTROLLERS))
        self._read_at = -math.inf
        self._seen: int | None = None
        """The count of the database's news at the last step that read them."""

    @property
    def signer(self) -> Signer:
        """Seals as the controllers."""
        return self._known.signer

    @property
    def controllers(self) -> Sequence[str]:
        """The controllers' public keys that workers are to believe, at most two; none: those as before.

        None until all keys were read: the one that signs alone would take the next from the workers.
        """
        return self._known.controllers

    @property
    def succession(self) -> str:
        """How the controllers' keys before lead to the one that signs (`contract.signing.succession`)."""
        return self._known.succession

    @property
    def ids(self) -> set[str]:
        """The ids of all nodes' keys, also of those that are not believed."""
        return set(self._known.keys)

    def of_node(self, node_id: str) -> str | None:
        """Return the id of the key that counts for a node; None: there is none."""
        return self._known.of_nodes.get(node_id)

    def broker_password(self, kid: str) -> str | None:
        """Return the digest of the password that the node of a key has at the broker; None: it told none."""
        return self._known.broker_passwords.get(kid)

    def find(self, kid: str) -> KnownKey | None:
        """Find a node's key by its id; an unknown one leads to a look into the database, once a second."""
        found = self._known.keys.get(kid)
        if found is not None:
            return found
        if self._clock() - self._read_at > _MIN_AGE_SECONDS:
            self.look()
        else:
            with self._lock:
                pass  # A reading that has begun may be about to find it.
        return self._known.keys.get(kid)

    def hand_over(self, row: ControllerKey) -> None:
        """Vouch for the key that signs from now on, by the one that did until now.

        Raises:
            KeyStateError: this process has not the private keys of both.
        """
        self.check(row.id)
        if row.previous != self.signer.public.id:
            raise store.KeyStateError(
                f"this controller has no private key {row.previous}, which signs",
                "its log says why; or ask another controller (`vxctl --context`)",
            )
        row.vouched = self.signer.vouch(PublicKey.from_text(row.public_key))

    def check(self, key_id: str) -> None:
        """Check that this process has the private key of a controllers' key.

        Raises:
            KeyStateError: it has not, and could not sign with it.
        """
        try:
            own_key.load(self._file, key_id)
        except OperatorError as error:
            following = own_key.next_file(self._file)
            raise store.KeyStateError(
                f"this controller has no private key {key_id}",
                f"copy the file that `vxctl keys rotate` made to {following} on every controller",
            ) from error

    def step(self) -> float:
        """Read all keys; return the seconds until that is due again.

        Raises:
            SQLAlchemyError, OperatorError: as `refresh` does.
        """
        begin, count = self._clock(), self._database.news.count
        if (
            self._database.is_shared
            or count != self._seen
            or begin - self._read_at > _ALONE_SECONDS
        ):
            self.refresh()
            self._seen = count  # Not after an error, which is to be repeated.
        return max(_PERIOD_SECONDS, (self._clock() - begin) / _MAX_SHARE)

    def look(self) -> None:
        """Read all keys, as far as that is possible now; `step` tries again, and tells why it is not."""
        try:
            self.refresh()
        except (OperatorError, SQLAlchemyError) as error:
            # Others are still believed: nobody can have decided anything meanwhile.
            log.warning("keys cannot be read", error=str(error).partition("\n")[0])

    def refresh(self) -> None:
        """Read all keys.

        Raises:
            SQLAlchemyError: the database is away; what is known stays.
            OperatorError: the controllers' key was rotated, and this process does not have the new one;
                the nodes' keys were read all the same, and it signs as before, which no worker believes.
        """
        with self._lock:
            self._read_at = self._clock()  # Also if it fails: not again for each message.
            with self._database.read() as session:
                rows = session.execute(_KEYS).all()
                controllers = store.controller_keys(session)
            self._parsed = {
                row.id: self._parsed.get(row.id) or PublicKey.from_text(row.public_key)
                for row in rows
            }
            signer, failure = self._known.signer, None
            valid = [row for row in controllers if row.state is not ControllerKeyState.RETIRED]
            signing = [row.id for row in valid if row.state is ControllerKeyState.SIGNING]
            if signing and signing[0] != signer.public.id:
                try:
                    signer = Signer(own_key.load(self._file, signing[0]), CONTROLLERS)
                    own_key.promote(self._file, signing[0])
                except OperatorError as error:
                    failure = error
            self._known = _Known(
                {
                    row.id: KnownKey(
                        self._parsed[row.id], node_address(row.node_id), _REFUSED.get(row.state)
                    )
                    for row in rows
                },
                {row.node_id: row.id for row in rows if row.state is NodeKeyState.TRUSTED},
                {row.id: row.broker_password for row in rows if row.broker_password is not None},
                tuple(row.public_key for row in valid) if signing == [signer.public.id] else (),
                signer,
                _succession(controllers, signer.public.id),
            )
        if failure is not None:
            raise failure


def _succession(rows: Sequence[ControllerKey], key_id: str) -> str:
    """Return how keys before lead to this one, as far as each vouched for the next."""
    by_id = {row.id: row for row in rows}
    links: list[Link] = []
    row = by_id.get(key_id)
    while row is not None and row.previous and row.vouched and len(links) < MAX_LINKS:
        links.insert(0, Link(row.previous, row.public_key, row.vouched))
        row = by_id.get(row.previous)
    return write(links)
