"""Opaque cursors of lists: the sort key of a page's last row, bound to the parameters of the request.

A cursor contains the key itself, so it stays good when that row is gone. A client must not look inside.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, Literal, TypeVar

from fastapi import Request
from pydantic import TypeAdapter

from controller.api.parameters import Listing

Row = TypeVar("Row")
Key = TypeVar("Key", bound=tuple[object, ...])

_VERSION = Literal[1]


class CursorError(Exception):
    """No page has this cursor; `hint` says how to go on."""

    def __init__(self, problem: str, hint: str = "leave it out to start at the first page") -> None:
        super().__init__(f"cursor: {problem}")
        self.hint = hint


class Cursors(Generic[Key]):
    """The cursors of one list.

    Args:
        key: the type of its sort key, a NamedTuple of texts, numbers (0 to 2**63 - 1), UUIDs and UTC times.
    """

    def __init__(self, key: type[Key]) -> None:
        # Strict: a value of another type is no cursor of this list.
        self._adapter: TypeAdapter[tuple[int, Key, str]] = TypeAdapter(tuple[_VERSION, key, str])  # type: ignore[valid-type]

    def after(self, request: Request, listing: Listing) -> Key | None:
        """Return the key after which the page starts; None: it is the first page.

        Raises:
            CursorError: the cursor is invalid, or belongs to a request with other parameters.
        """
        return None if listing.cursor is None else self.decode(listing.cursor, question(request))

    def page(
        self, request: Request, listing: Listing, rows: Sequence[Row], key: Callable[[Row], Key]
    ) -> tuple[Sequence[Row], str | None]:
        """Return the page's rows and its `next`, from rows of which one more than the limit was read."""
        page = rows[: listing.limit]
        if len(rows) <= listing.limit:
            return page, None
        return page, self.encode(key(page[-1]), question(request))

    def encode(self, key: Key, question: str) -> str:
        """Return a cursor as text for a URL."""
        packed = self._adapter.dump_json((1, key, question))
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()

    def decode(self, text: str, question: str) -> Key:
        """Return the key in a cursor; raise as `after` does."""
        found = self._parse(text)
        if found is None:
            raise CursorError("is not a cursor of this list")
        key, asked = found
        if asked != question:
            raise CursorError(
                "belongs to a request with other parameters",
                "repeat the parameters of the page that it came with",
            )
        return key

    def _parse(self, text: str) -> tuple[Key, str] | None:
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            _, key, asked = self._adapter.validate_json(raw, strict=True)
        except ValueError:  # pydantic's ValidationError is one.
            return None
        return (key, asked) if all(map(_is_storable, key)) else None


def question(request: Request) -> str:
    """Return a digest of a request's path and parameters, whatever page of the list it asks for."""
    asked = [
        pair for pair in request.query_params.multi_items() if pair[0] not in ("cursor", "limit")
    ]
    text = json.dumps([request.url.path, *sorted(asked)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_storable(value: object) -> bool:
    """Whether a database can compare a column with the value; in a forged cursor it may be any."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, int):
        return 0 <= value < 2**63
    return not isinstance(value, datetime) or value.utcoffset() == timedelta(0)
