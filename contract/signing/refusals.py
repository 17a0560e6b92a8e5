"""Why a message is refused: a closed set of reasons, and the error that carries one."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a message did nothing; a label of `vxlan_operator_messages_refused_total`."""

    UNSIGNED = "unsigned"
    """It is no envelope."""
    UNKNOWN_KEY = "unknown_key"
    UNTRUSTED_KEY = "untrusted_key"
    """A node introduced itself with this key, and nobody vouched for it."""
    REVOKED_KEY = "revoked_key"
    BAD_SIGNATURE = "bad_signature"
    """Forged, or changed on the way."""
    WRONG_AUDIENCE = "wrong_audience"
    """For another node, or for the other side."""
    WRONG_SENDER = "wrong_sender"
    """Signed by a key of somebody else than it says, or about another node than its sender."""
    WRONG_TASK = "wrong_task"
    EXPIRED = "expired"
    FROM_THE_FUTURE = "from_the_future"
    REPLAYED = "replayed"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    """Its sender has sent more than any honest one does."""
    MALFORMED = "malformed"


class RefusedError(Exception):
    """A message that does nothing; its text is short and quotes nothing of the message.

    Attributes:
        reason: one of a closed set.
        kid: id of the key that the message names, which may be a lie until its signature was verified.
    """

    def __init__(self, reason: Reason, detail: str, kid: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.kid = kid
