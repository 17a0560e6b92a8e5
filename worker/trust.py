"""`Trust`: whom a worker believes, and the key by which it is believed; in files beside the journal.

`node.key` is this node's private key, made at the first start. `trust.json` has the controllers' public
keys, at first those of the join token or of the settings; from then on the controllers themselves tell the
next one, in a request that is signed by the present one. `node.key.previous` is there from a rotation of
this node's key, by a request or by `vxlan-worker key rotate`, until the controllers have said that they
believe the new key.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Self

import structlog
from pydantic import BaseModel, Field, ValidationError

from contract.messages import KEY_KEPT, MAX_TEXT, Introduction, KeyId, KeyText, ReconcileRequest
from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.files import open_regular, replacing
from contract.runtime.key_file import make_key, read_key
from contract.signing.envelope import CONTROLLERS, KnownKey
from contract.signing.join import JoinToken, change_key
from contract.signing.keys import PublicKey, SigningKey
from contract.signing.succession import follow

log = structlog.get_logger(__name__)

_MAX_BYTES: Final = 10_000


class _Stored(BaseModel):
    version: int = 1
    controllers: Annotated[tuple[KeyText, ...], Field(max_length=2)] = ()
    given: KeyText | None = None
    """What the settings named last: what they still name later may have been replaced long ago."""


class Paths:
    """The files of a worker's keys, in the folder of its journal."""

    def __init__(self, journal: Path) -> None:
        folder = journal.parent
        self.key = folder / "node.key"
        self.previous = folder / "node.key.previous"
        self.next = folder / "node.key.next"
        self.trust = folder / "trust.json"
        self.heard = folder / "heard.json"
        self.password = folder / "broker.password"


class Trust:
    """A node's key and the controllers' keys. Not thread-safe but for `key` and `introduction`.

    Args:
        node_id: of this node.
        token: vouches for this node's key; None: a person has to.

    Attributes:
        key: of this node.
        controllers: the keys that are believed; at least one.
        kept: why the key was not replaced when that was asked for last; nothing, if it was, or was not asked.
    """

    def __init__(
        self,
        paths: Paths,
        node_id: str,
        key: SigningKey,
        stored: _Stored,
        token: JoinToken | None,
    ) -> None:
        self._paths = paths
        self._node_id = node_id
        self._token = token
        self._given = stored.given
        self._previous = _previous(paths, key)
        self._believed = False
        self.key = key
        self.kept: Sequence[str] = ()
        self.controllers = tuple(map(PublicKey.from_text, stored.controllers))

    @classmethod
    def open(
        cls,
        paths: Paths,
        node_id: str,
        *,
        token: JoinToken | None,
        given: PublicKey | None,
        token_file: str = "",
    ) -> Self:
        """Read the keys; make this node's at the first start. Nobody else may have the folder open.

        Args:
            given: the controllers' key by the settings, or by the join token; None: neither is set. It is
                believed instead of all others when it is another than at the last start.
            token_file: where a token should be; shown if one would be needed.

        Raises:
            OperatorError: a file cannot be read or written, or no key of the controllers is known.
        """
        stored = read_trust(paths)
        if given is not None and given.text != stored.given:
            stored = _Stored(controllers=(given.text,), given=given.text)
            _write(paths, stored)
        if not stored.controllers:
            missing = f", and there is no join token in {token_file}" if token_file else ""
            raise UsageError(
                f"no key of the controllers is known here{missing}: this worker would believe nobody",
                "set VXLAN_OPERATOR_JOIN_TOKEN_FILE (or --join-token-file) to a file with a join token: "
                "`vxctl node join-token create` prints one",
            )
        if token_file and token is None:
            log.warning(
                "went on without a join token: its file is missing or empty", file=token_file
            )
        key = read_key(paths.key) or make_key(paths.key)
        return cls(paths, node_id, key, stored, token)

    def lookup(self, kid: str) -> KnownKey | None:
        """Find a controllers' key by its id."""
        for key in self.controllers:
            if key.id == kid:
                return KnownKey(key, CONTROLLERS)
        return None

    def heed(self, request: ReconcileRequest, kid: str) -> bool:
        """Believe the controllers' next key; return whether they believe this node's.

        Args:
            kid: id of the key that signed the request.
        """
        self._believed = request.node_key == self.key.public.id
        if self._believed and self._previous is not None:
            self._previous = None
            with suppress(OSError):  # It is of no use to anybody, and removed after a later start.
                self._paths.previous.unlink(missing_ok=True)
            log.info("the controllers believe the new key of this node", key=request.node_key)
        self._pin(request.controller_keys, kid)
        return self._believed

    def follow(self, succession: object, kid: str) -> bool:
        """Believe a key that the controllers' keys before vouch for; return whether it is believed now.

        This worker was away during a rotation, or its join token was made before.

        Args:
            succession: what came beside a message: `contract.signing.succession`.
            kid: id of the key that signed it.
        """
        key = follow(succession, self.controllers, kid)
        return key is not None and self._store((key,))

    def rotate(self, key_id: str | None) -> bool:
        """Replace this node's key, if it is that one and no rotation is under way; return whether it was.

        The new key is on disk before it is used; if that fails, the present one stays, and the controllers
        ask again.

        Args:
            key_id: of the key that the controllers want replaced; None: of none.
        """
        present, self.kept = self.key, ()
        if key_id != present.public.id or self._previous is not None:
            return False
        try:
            following = rotate(self._paths)
        except OperatorError as error:
            log.error(  # noqa: TRY400
                "this node's key cannot be replaced, as the controllers ask",
                error=error.problem,
                hint=error.hint,
            )
            self.kept = (f"{KEY_KEPT}: {error.problem}"[:MAX_TEXT],)
            return False
        self._previous, self.key, self._believed = present, following, False
        log.info("this node has a new key", key=following.public.id, previous=present.public.id)
        return True

    def introduction(self) -> Introduction | None:
        """Return what makes this node's key known; None: the controllers said that they believe it."""
        if self._believed:
            return None
        # Taken once, in this order: meanwhile, in another thread, `heed` may set the previous one to None, or
        # `rotate` set it and then the key.
        public, previous = self.key.public, self._previous
        return Introduction(
            key=public.text,
            join=None if self._token is None else self._token.prove(self._node_id, public),
            change=None if previous is None else change_key(previous, self._node_id, public),
        )

    @property
    def controller_ids(self) -> tuple[KeyId, ...]:
        """The ids of the controllers' keys."""
        return tuple(key.id for key in self.controllers)

    def _pin(self, texts: Sequence[KeyText], kid: str) -> None:
        if not texts or set(texts) == {key.text for key in self.controllers}:
            return
        try:
            keys = tuple(map(PublicKey.from_text, texts))
        except ValueError:
            log.warning("ignored keys of the controllers: one is none")
            return
        if kid not in {key.id for key in keys}:
            log.warning(
                "ignored keys of the controllers: the one that signed them is not among them"
            )
            return
        self._store(keys)

    def _store(self, keys: tuple[PublicKey, ...]) -> bool:
        """Believe these keys of the controllers from now on; return whether that is on disk."""
        stored = _Stored(controllers=tuple(key.text for key in keys), given=self._given)
        try:
            _write(self._paths, stored)
        except OperatorError as error:
            # The controllers wait until this worker says that it has the key.
            log.error("the controllers' next key cannot be stored", error=error.problem)  # noqa: TRY400
            return False
        log.info("the controllers' keys changed", keys=[key.id for key in keys])
        self.controllers = keys
        return True


def read_trust(paths: Paths) -> _Stored:
    """Read whom a worker believes; nobody, if it was not started yet.

    Raises:
        OperatorError: the file is there, and cannot be read.
    """
    try:
        with open_regular(paths.trust, "rb") as file:
            return _Stored.model_validate_json(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return _Stored()
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise OperatorError(
            f"the controllers' keys in {paths.trust} cannot be read: {why}",
            f"move it away, and give the worker a join token again: mv {paths.trust} {paths.trust}.bad",
        ) from error


def rotate(paths: Paths) -> SigningKey:
    """Make a node's next key; return it.

    Raises:
        OperatorError: there is no key yet, or the last rotation is not over, or a file cannot be written.
    """
    present = read_key(paths.key)
    if present is None:
        raise OperatorError(
            f"there is no key {paths.key} yet", "start the worker first: vxlan-worker run"
        )
    if _previous(paths, present) is not None:
        raise OperatorError(
            "the controllers have not said yet that they believe the key of the last rotation",
            "start the worker with that key: `systemctl restart vxlan-worker`, or restart its container",
        )
    try:
        # Whenever this ends, `node.key` is one of the two, and the previous one is not lost.
        paths.next.unlink(missing_ok=True)
        key = make_key(paths.next)
        paths.previous.hardlink_to(paths.key)
        paths.next.replace(paths.key)
    except OSError as error:
        raise OperatorError(
            f"the key {paths.key} cannot be replaced: {error.strerror}",
            f"ls -l {paths.key.parent}",
        ) from error
    return key


def _previous(paths: Paths, present: SigningKey) -> SigningKey | None:
    """Read the key that the present one replaces; None: there is none, or the rotation was cut short."""
    previous = read_key(paths.previous)
    if previous is not None and previous.public == present.public:
        with suppress(OSError):  # `rotate` says why it is in the way.
            paths.previous.unlink(missing_ok=True)
        return None
    return previous


def _write(paths: Paths, stored: _Stored) -> None:
    try:
        paths.trust.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(paths.trust) as file:
            file.write(stored.model_dump_json().encode())
    except OSError as error:
        raise OperatorError(
            f"the controllers' keys cannot be written to {paths.trust}: {error.strerror}",
            f"ls -ld {paths.trust.parent}",
        ) from error
