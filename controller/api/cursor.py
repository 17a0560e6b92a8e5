"""Cursors of the audit trail's pages: opaque to clients, and good only for the question they came from."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from controller.audit.queries.pages import RowKey

_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended.

    Attributes:
        position: the next page begins behind it.
        since, until: the question's bounds, as they were at its first page: `2h` is not moved on.
    """

    position: RowKey
    since: datetime | None
    until: datetime | None

    def encode(self, question: Sequence[tuple[str, str]]) -> str:
        """As text for a URL; `question`: the parameters that it belongs to."""
        values = [_VERSION, _number(self.position.at), self.position.id, _number(self.since)]
        says = json.dumps([*values, _number(self.until), _digest(question)], separators=(",", ":"))
        return base64.urlsafe_b64encode(says.encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str, question: Sequence[tuple[str, str]]) -> "Cursor":
        """Read one.

        Raises:
            ValueError: it is none, or of another question.
        """
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            version, at, number, since, until, digest = json.loads(raw)
            known = version == _VERSION and 0 <= _integer(number) < 2**63
            cursor = cls(RowKey(_moment(at), number), _optional(since), _optional(until))
        except (ValueError, TypeError, OverflowError, RecursionError):
            known = False
        if not known:
            raise ValueError("is not one that this API gave; leave it out to begin anew")
        if digest != _digest(question):
            raise ValueError(
                "belongs to another question; repeat the parameters of the page that it came with"
            )
        return cursor


def _digest(question: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(sorted(question)).encode()).hexdigest()[:16]


def _number(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _integer(value: object) -> int:
    if type(value) is not int:
        raise ValueError
    return value


def _moment(microseconds: object) -> datetime:
    return _EPOCH + timedelta(microseconds=_integer(microseconds))


def _optional(microseconds: object) -> datetime | None:
    return None if microseconds is None else _moment(microseconds)
