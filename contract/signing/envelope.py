r"""The envelope: `Signer` seals a message, `Opener` opens one if it is to be believed.

An envelope is one text, the single argument of a Celery task:

    vxs1.KID.SIGNATURE.HEADER\n
    PAYLOAD

KID (16 hex digits) names the key, SIGNATURE is 86 characters of base64url. HEADER is one line of JSON:
audience, sender, task, issued, expires (microseconds since 1970) and nonce. PAYLOAD is the message's JSON.
The signature is over `DOMAIN`, HEADER, the line feed and PAYLOAD, byte for byte as they stand here: what is
verified is what is parsed, and nothing is parsed before it was verified. The header has exactly one
spelling.

    signer = Signer(key, node_address(node_id))
    text = signer.seal(report.model_dump_json(), audience=CONTROLLERS, task=REPORT_TASK)

    opener = Opener(me=CONTROLLERS, lookup=known_keys, replays=Replays())
    opened = opener.open(text, REPORT_TASK, ReconcileReport)    # or RefusedError
    opened.payload, opened.kid
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from contract.messages import Hello
from contract.queues import HELLO_TASK
from contract.signing.bounds import BOUNDS
from contract.signing.dates import MAX_SKEW, Dates
from contract.signing.keys import SIGNATURE_CHARACTERS, PublicKey, SigningKey, encoded
from contract.signing.refusals import Reason, RefusedError
from contract.signing.replays import Microseconds, Replays
from contract.signing.succession import vouch

Payload = TypeVar("Payload", bound=BaseModel)

DOMAIN: Final = b"vxlan-operator/1\0"
"""Before the signed bytes: a signature for another purpose is none of a message."""

MARK: Final = "vxs1."
"""What every envelope begins with; another version of it begins with something else."""

CONTROLLERS: Final = "controllers"
"""The address of all controllers of a cluster."""

_KID: Final = slice(len(MARK), len(MARK) + 16)
_SIGNATURE: Final = slice(_KID.stop + 1, _KID.stop + 1 + SIGNATURE_CHARACTERS)
_SIGNED: Final = _SIGNATURE.stop + 1
_MAX_HEADER_BYTES: Final = 500


def node_address(node_id: str) -> str:
    """Return the address of a node's worker: `node:<Swarm id>`."""
    return f"node:{node_id}"


_Address = Annotated[str, StringConstraints(pattern=r"^(controllers|node:[0-9a-z]{25})$")]


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    audience: _Address
    sender: _Address
    task: Annotated[str, StringConstraints(max_length=100)]
    issued: Microseconds
    expires: Microseconds
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{22}$")]


class KnownKey(NamedTuple):
    """A key that a receiver knows.

    Attributes:
        owner: the address for which it may sign, and no other.
        refused: why its messages are refused all the same: UNTRUSTED_KEY or REVOKED_KEY; None: believed.
    """

    key: PublicKey
    owner: str
    refused: Reason | None = None


class Opened(NamedTuple, Generic[Payload]):
    """A message that may be believed, as far as its sender may.

    Attributes:
        kid: id of the key that vouched for it.
        sender: address of the owner of that key.
        issued: by the sender's clock.
    """

    payload: Payload
    kid: str
    sender: str
    issued: datetime

    def alive_at(self, now: datetime) -> datetime:
        """Return when its sender was alive for sure: now, unless it is older than clocks may differ.

        A broker may keep messages back: old ones must not make a dead sender look alive.
        """
        return now if now - self.issued <= MAX_SKEW else self.issued


class Bound(Protocol):
    """Bounds how much the messages of one sender may cost the receiver."""

    def check(self, sender: str, kid: str, /) -> None:
        """Raise `RefusedError` if whatever names a key of this sender is to be dropped unread."""

    def spend(self, sender: str, kid: str, task: str, size: int, /) -> None:
        """Take what a message of so many bytes costs, whose signature is right; or raise `RefusedError`."""


def _now() -> datetime:
    return datetime.now(UTC)


class Signer:
    """Seals messages of one sender. Thread-safe.

    Args:
        sender: `CONTROLLERS`, or `node_address` of a node.
    """

    def __init__(self, key: SigningKey, sender: str, now: Callable[[], datetime] = _now) -> None:
        self._key = key
        self._sender = sender
        self._now = now
        self._dates = Dates()

    @property
    def public(self) -> PublicKey:
        """The key by which the messages are verified."""
        return self._key.public

    def vouch(self, key: PublicKey) -> str:
        """Vouch for the controllers' next key, as those who sign now."""
        return vouch(self._key, key)

    def seal(self, payload: str, *, audience: str, task: str) -> str:
        """Seal a message, valid from now for the lifetime of its task (`BOUNDS`).

        Args:
            payload: the message's JSON (`model_dump_json()`).
            audience: `CONTROLLERS`, or `node_address` of a node.
            task: one of `BOUNDS`.
        """
        issued = _microseconds(self._dates.next(self._now()))
        header = _Header(
            audience=audience,
            sender=self._sender,
            task=task,
            issued=issued,
            expires=issued + BOUNDS[task].lifetime // timedelta(microseconds=1),
            nonce=encoded(secrets.token_bytes(16)),
        )
        signed = f"{header.model_dump_json()}\n{payload}"
        signature = self._key.sign(DOMAIN + signed.encode())
        return f"{MARK}{self._key.public.id}.{signature}.{signed}"


class Opener:
    """Opens envelopes for one receiver. Not thread-safe.

    Args:
        me: address of the receiver: an envelope for another is refused.
        lookup: finds a key by its id; None: unknown.
        replays: remembers what was opened.
        now: this machine's clock.
        bound: of what each sender may cost; None: there is none.
    """

    def __init__(
        self,
        *,
        me: str,
        lookup: Callable[[str], KnownKey | None],
        replays: Replays,
        now: Callable[[], datetime] = _now,
        bound: Bound | None = None,
    ) -> None:
        self._me = me
        self._lookup = lookup
        self._replays = replays
        self._now = now
        self._bound = bound

    def open(
        self, text: object, task: str, model: type[Payload], *, once: bool = True
    ) -> Opened[Payload]:
        """Open an envelope that arrived as `task`; only then is it remembered as seen.

        Args:
            text: the argument of the task, of whatever type it came.
            model: of the payload. Its `node_id` must be the sender's node; if controllers sent it, the
                receiver's.
            once: refuse it the next time. False for what is read again and again, as signs of life are: then
                the caller must compare `Opened.issued` with the newest that it had, and take nothing older.

        Raises:
            RefusedError: it is not to be believed. Nothing was remembered.
        """
        envelope = _Envelope.split(text, task)
        known = self._lookup(envelope.kid)
        if known is None:
            raise RefusedError(Reason.UNKNOWN_KEY, "its key is not known here", envelope.kid)
        if known.refused is not None:
            raise RefusedError(known.refused, "its key is not believed", envelope.kid)
        if self._bound is not None:
            self._bound.check(known.owner, envelope.kid)
        return self._open(envelope, known, task, model, once=once, bound=self._bound)

    def introduction(self, text: object) -> Opened[Hello]:
        """Open a Hello by a key that is not known: it brings its public key along, and proves that it has it.

        That proves nothing else: anybody can make a key. It may lead to a row about the key and to nothing
        more, until its `join` or `change` was verified (`contract.signing.join`), or a person vouched for it.

        Raises:
            RefusedError: it brings no key, or is not signed by it, or as `open` says.
        """
        envelope = _Envelope.split(text, HELLO_TASK)
        hello = envelope.payload(Hello)
        if hello.introduction is None:
            raise RefusedError(Reason.UNKNOWN_KEY, "its key is not known here", envelope.kid)
        try:
            key = PublicKey.from_text(hello.introduction.key)
        except ValueError:
            raise RefusedError(Reason.MALFORMED, "its key is none", envelope.kid) from None
        if key.id != envelope.kid:
            other = "it is signed by another key than it introduces"
            raise RefusedError(Reason.BAD_SIGNATURE, other, envelope.kid)
        known = KnownKey(key, node_address(hello.node_id))
        return self._open(envelope, known, HELLO_TASK, Hello, once=False)

    def _open(
        self,
        envelope: "_Envelope",
        known: KnownKey,
        task: str,
        model: type[Payload],
        *,
        once: bool,
        bound: Bound | None = None,
    ) -> Opened[Payload]:
        kid = envelope.kid
        # By the key itself, not by its id: two keys of one id are one in 2**64 tries, and still two keys.
        if not known.key.verifies(envelope.signature, DOMAIN + envelope.signed):
            raise RefusedError(Reason.BAD_SIGNATURE, "its signature is wrong", kid)
        if bound is not None:
            bound.spend(known.owner, kid, task, len(envelope.signed))
        header = envelope.header()
        for reason, wrong in (
            (Reason.WRONG_AUDIENCE, header.audience != self._me),
            (Reason.WRONG_SENDER, header.sender != known.owner),
            (Reason.WRONG_TASK, header.task != task),
        ):
            if wrong:
                raise RefusedError(reason, "it is signed for another use", kid)
        self._check_times(header, task, kid)
        if once:
            latest = _microseconds(self._now() + MAX_SKEW)
            self._replays.check(kid, header.nonce, header.issued, latest)
        payload = envelope.payload(model)
        node = header.audience if header.sender == CONTROLLERS else header.sender
        if node_address(str(getattr(payload, "node_id", ""))) != node:
            raise RefusedError(Reason.WRONG_SENDER, "it speaks of another node", kid)
        if once:
            self._replays.add(kid, header.nonce, header.issued)
        return Opened(payload, kid, header.sender, _time(header.issued))

    def _check_times(self, header: _Header, task: str, kid: str) -> None:
        now = _microseconds(self._now())
        ahead, lifetime = header.issued - now, header.expires - header.issued
        if ahead > _whole(MAX_SKEW):
            text = f"it is dated {ahead / 1e6:.0f} s ahead of this machine's clock"
            raise RefusedError(Reason.FROM_THE_FUTURE, text, kid)
        if not 0 < lifetime <= _whole(BOUNDS[task].lifetime):
            raise RefusedError(Reason.MALFORMED, "it is valid for too long", kid)
        if now > header.expires:
            late = (now - header.expires) / 1e6
            text = f"it expired {late:.0f} s ago, or this machine's clock is ahead"
            raise RefusedError(Reason.EXPIRED, text, kid)


class _Envelope(NamedTuple):
    """An envelope's parts, as they came."""

    kid: str
    signature: str
    signed: bytes

    @classmethod
    def split(cls, text: object, task: str) -> "_Envelope":
        """Take an envelope apart, within the bounds of its task; its parts may be anything."""
        if not isinstance(text, str) or not text.startswith(MARK):
            raise RefusedError(Reason.UNSIGNED, "it is no envelope of this version")
        limit = BOUNDS[task].size
        if len(text) > limit:
            raise RefusedError(Reason.TOO_LARGE, f"it has more than {limit} bytes")
        kid, signature = text[_KID], text[_SIGNATURE]
        dots = text[_KID.stop : _KID.stop + 1] + text[_SIGNED - 1 : _SIGNED]
        if dots != ".." or not all(character in "0123456789abcdef" for character in kid):
            raise RefusedError(Reason.MALFORMED, "its envelope is not well-formed")
        try:
            signed = text[_SIGNED:].encode()
        except UnicodeEncodeError:
            raise RefusedError(Reason.MALFORMED, "it is not Unicode", kid) from None
        if len(signed) > limit:
            raise RefusedError(Reason.TOO_LARGE, f"it has more than {limit} bytes", kid)
        return cls(kid, signature, signed)

    def header(self) -> _Header:
        text = self.signed[: self._header_end()]
        header = _parsed(_Header, text, self.kid)
        # One spelling alone: no key twice, no spaces, no escapes, that another parser might read differently.
        if header.model_dump_json().encode() != text:
            raise RefusedError(Reason.MALFORMED, "its header is not spelt as ours", self.kid)
        return header

    def payload(self, model: type[Payload]) -> Payload:
        return _parsed(model, self.signed[self._header_end() + 1 :], self.kid)

    def _header_end(self) -> int:
        end = self.signed.find(b"\n", 0, _MAX_HEADER_BYTES)
        if end < 0:
            raise RefusedError(Reason.MALFORMED, "it has no header", self.kid)
        return end


def _parsed(model: type[Payload], text: bytes, kid: str) -> Payload:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors(include_input=False, include_url=False)[0])
        # Field names that are ours; a key that a sender chose is not shown.
        where = ".".join(str(part) for part in first["loc"] if part in model.model_fields)
        detail = f"{where or 'it'} is not valid ({first['type']}), of {error.error_count()} errors"
        raise RefusedError(Reason.MALFORMED, detail, kid) from None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _whole(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _microseconds(time: datetime) -> int:
    return _whole(time - _EPOCH)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
