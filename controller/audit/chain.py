"""The audit trail's hash chain as arithmetic: what a hash covers, and where a chain is broken.

A row's hash is the SHA-256 of the hash before it (32 bytes; zeros before the first row) followed by
what the row says: a JSON list of the `CHAINED` values in that order, without spaces, in ASCII, times in
UTC with microseconds. Knows neither database nor file: whoever holds an archive can check it with this.
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
    "evidence", "run_id", "worker_version", "position",
)  # fmt: skip
"""What a hash covers, in this order: all but the row's number, which each database gives by itself."""

_encode: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode


class ChainPosition(NamedTuple):
    """A place in the chain: `position:hash` is all that need be kept elsewhere to recognise it."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "ChainPosition":
        """The place that `str` wrote.

        Raises:
            ValueError: it is not one.
        """
        found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
        if found is None:
            raise ValueError("must be POSITION:HASH, as `vxctl audit verify` prints it")
        return cls(int(found[1]), bytes.fromhex(found[2]))


START: Final = ChainPosition(0, bytes(32))
"""Before the first row."""


class ChainRow(NamedTuple):
    """A row as the chain sees it.

    Attributes:
        id: the row's number in its database, to name it by.
        hash: as it is stored.
        says: its `CHAINED` values, as JSON can say them.
    """

    id: int | None
    hash: bytes
    says: Sequence[Any]

    @property
    def position(self) -> Any:
        """Where it stands; an integer, unless somebody has edited it."""
        return self.says[-1]


def link(before: bytes, says: Sequence[Any]) -> bytes:
    """The hash of a row that says this, after one with the hash `before`."""
    return hashlib.sha256(before + _encode(says).encode()).digest()


def plain(value: Any) -> Any:
    """As JSON can say it, the same from every database."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    return value


class Fault(StrEnum):
    """What can be wrong with a chain."""

    EDITED = "edited"
    """What the row says, or its hash, is not what was stored."""
    MISSING = "missing"
    INSERTED = "inserted"
    """The row was put in later: those around it fit without it."""
    REORDERED = "reordered"
    REWRITTEN = "rewritten"
    """Consistent in itself, but not the chain of which an earlier place was kept."""
    HEAD = "head does not match"
    ANCHOR = "anchor does not match"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong.

    Attributes:
        position: where, in the chain.
        id: of the row, where there is one.
        detail: in words.
    """

    fault: Fault
    position: int
    id: int | None
    detail: str


class ChainCheck:
    """Follows a chain from a place whose hash is known.

    Args:
        mark: the place; the row after it comes first.
        expected: places of the chain that were kept elsewhere.
    """

    def __init__(self, mark: ChainPosition, expected: Iterable[ChainPosition] = ()) -> None:
        self.mark = mark
        self._expected = {each.position: each.hash for each in expected}

    def follow(self, rows: Sequence[ChainRow]) -> Finding | None:
        """Go on over rows in the order of their positions, up to the first that is wrong."""
        for number, row in enumerate(rows):
            position, before = self.mark.position + 1, self.mark.hash
            if row.position != position or link(before, row.says) != row.hash:
                return self._why(rows[number:])
            self.mark = ChainPosition(position, row.hash)
            if self._expected.get(position, row.hash) != row.hash:
                kept = self._expected[position].hex()
                return Finding(
                    Fault.REWRITTEN,
                    position,
                    row.id,
                    f"the hash kept of this place is {kept}, here it is {row.hash.hex()}: "
                    "the chain up to here was made anew",
                )
        return None

    def _why(self, rows: Sequence[ChainRow]) -> Finding:
        """What is wrong with the first of these rows, as far as those behind it can tell."""
        wrong, position = rows[0], self.mark.position + 1
        if isinstance(wrong.position, int) and wrong.position > position:
            last = wrong.position - 1
            which = f"row {position}" if last == position else f"rows {position} to {last}"
            return Finding(
                Fault.MISSING, position, None, f"{which} of the chain: gone without an anchor"
            )
        for other in rows[1:]:
            if self._fits(other, self.mark):
                # Positions are given anew by whoever wants no gap to show; hashes they cannot make.
                later = any(
                    self._fits(wrong, ChainPosition(position, each.hash))
                    for number, each in enumerate(rows)
                    for position in (position + number - 1, position + number)
                )
                return Finding(
                    Fault.REORDERED if later else Fault.INSERTED,
                    position,
                    wrong.id,
                    f"the row that belongs here is row id {other.id}, now at {other.position}",
                )
        return Finding(
            Fault.EDITED,
            position,
            wrong.id,
            "what it says does not agree with its hash and the row before it",
        )

    @staticmethod
    def _fits(row: ChainRow, after: ChainPosition) -> bool:
        return link(after.hash, [*row.says[:-1], after.position + 1]) == row.hash
