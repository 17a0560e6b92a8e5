"""The audit trail's hash chain: what a hash covers, and how to check a chain, without database or file.

A row's hash is the SHA-256 of the hash before it (32 bytes; zeros before the first row) and a JSON list of
the row's `CHAINED` values in that order, without spaces, in ASCII, times in UTC with microseconds. Version
0.1.0 had neither `claimed_name` nor `key_id`: where one is null the list has no value for it. A key id stands
there as `{"key_id":"..."}`, so that it cannot be taken for a claimed name.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

CHAINED: Final = (
    "entry_id", "at", "stored_at", "stage", "actor", "node_id", "node_name", "network_id",
    "network_name", "netns", "ifindex", "name", "vni", "port", "verdict", "urgency", "reason",
    "evidence", "run_id", "worker_version", "claimed_name", "key_id", "position",
)  # fmt: skip
"""Columns that a hash covers, in this order, for ever: all but the row's number in the database."""

SINCE_0_1_0: Final = frozenset({"claimed_name", "key_id"})
"""Columns that rows and archives of version 0.1.0 lack."""

_encode: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode


POSITION: Final = r"([0-9]{1,18}):([0-9a-f]{64})"
"""The pattern of a position as text."""


class ChainPosition(NamedTuple):
    """A position of the chain with the hash there; as text `position:hash`."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "ChainPosition":
        """Read `position:hash`; raise ValueError if the text has another form."""
        found = re.fullmatch(POSITION, text)
        if found is None:
            raise ValueError("must be POSITION:HASH, as `vxctl audit verify` prints it")
        return cls(int(found[1]), bytes.fromhex(found[2]))


START: Final = ChainPosition(0, bytes(32))
"""Before the first row."""


class ChainRow(NamedTuple):
    """A row of the chain."""

    id: int | None
    """Its number in the database."""
    hash: bytes
    """As stored."""
    values: Sequence[Any]
    """Of the `CHAINED` columns, as `plain` returns them."""

    @property
    def position(self) -> Any:
        """An integer, unless the row was edited."""
        return self.values[-1]


def link(before: bytes, values: Sequence[Any]) -> bytes:
    """The hash of a row with these values behind a row with the hash `before`."""
    *covered, claimed_name, key_id, position = values
    if claimed_name is not None:
        covered.append(claimed_name)
    if key_id is not None:
        covered.append({"key_id": key_id})
    return hashlib.sha256(before + _encode([*covered, position]).encode()).digest()


def plain(value: Any) -> Any:
    """Convert a value to a JSON type, the same for every database."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    return value


class Fault(StrEnum):
    """Faults of a chain."""

    EDITED = "edited"
    """The row's values or its hash were changed."""
    MISSING = "missing"
    INSERTED = "inserted"
    """The row was added later: the rows around it fit without it."""
    REORDERED = "reordered"
    REWRITTEN = "rewritten"
    """Consistent, but another chain than the one whose position was kept."""
    HEAD = "head does not match"
    ANCHOR = "anchor does not match"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first fault of a chain; `id` is the row's, if there is a row."""

    fault: Fault
    position: int
    id: int | None
    detail: str


class ChainCheck:
    """Checks a chain, in batches of rows.

    Args:
        start: where the rows follow.
        expected: positions that were kept elsewhere and must be part of the chain.
    """

    def __init__(self, start: ChainPosition, expected: Iterable[ChainPosition] = ()) -> None:
        self.end = start
        self._expected = {kept.position: kept.hash for kept in expected}

    def follow(self, rows: Sequence[ChainRow]) -> Finding | None:
        """Check the next rows, in the order of their positions, up to the first fault."""
        for number, row in enumerate(rows):
            position, before = self.end.position + 1, self.end.hash
            if row.position != position or link(before, row.values) != row.hash:
                return self._find_fault(rows[number:])
            self.end = ChainPosition(position, row.hash)
            if self._expected.get(position, row.hash) != row.hash:
                detail = (
                    f"the hash kept of this position is {self._expected[position].hex()}, here it "
                    f"is {row.hash.hex()}: the chain up to here was rewritten"
                )
                return Finding(Fault.REWRITTEN, position, row.id, detail)
        return None

    def _find_fault(self, rows: Sequence[ChainRow]) -> Finding:
        """The fault of the first of these rows, as far as the rows behind it show."""
        wrong, position = rows[0], self.end.position + 1
        if isinstance(wrong.position, int) and wrong.position > position:
            last = wrong.position - 1
            which = f"row {position}" if last == position else f"rows {position} to {last}"
            detail = f"{which} of the chain: gone without an anchor"
            return Finding(Fault.MISSING, position, None, detail)
        for other in rows[1:]:
            if self._fits(other, self.end):
                # An editor can renumber positions to hide a gap, but cannot make fitting hashes.
                later = any(
                    self._fits(wrong, ChainPosition(after, row.hash))
                    for number, row in enumerate(rows)
                    for after in (position + number - 1, position + number)
                )
                fault = Fault.REORDERED if later else Fault.INSERTED
                detail = f"the row that belongs here is row id {other.id}, now at {other.position}"
                return Finding(fault, position, wrong.id, detail)
        detail = "its values do not agree with its hash and the row before it"
        return Finding(Fault.EDITED, position, wrong.id, detail)

    @staticmethod
    def _fits(row: ChainRow, after: ChainPosition) -> bool:
        return link(after.hash, [*row.values[:-1], after.position + 1]) == row.hash
