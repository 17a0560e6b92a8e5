"""What a report says of its run that the database does not keep: exact times, and removals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self
from uuid import UUID

from contract.messages import DeviceIdentity, JournalEntry, ReconcileReport
from contract.verdicts import Stage

MAX_REMOVALS: Final = 100
"""Spans of removals in a trace, as many as a worker makes in a run by default; further ones are counted."""

_OUTCOMES: Final = frozenset(
    {Stage.REFUSED, Stage.APPLIED, Stage.VANISHED, Stage.FAILED, Stage.UNCERTAIN}
)
_CHECKED: Final = frozenset({Stage.VERIFIED, Stage.LINGERING})


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of a device, by its entries in the journal; all times by the node's clock.

    Attributes:
        first: its plan.
        outcome: what came of it; None: not known in this report.
        check: what a second look showed; None: there was none.
    """

    first: JournalEntry
    outcome: JournalEntry | None = None
    check: JournalEntry | None = None

    @classmethod
    def of(cls, entries: Sequence[JournalEntry]) -> Self:
        """Put the entries of one device together, in the order of the journal."""
        outcome = check = None
        for entry in entries:
            if entry.stage in _OUTCOMES:
                outcome = entry
            elif entry.stage in _CHECKED:
                check = entry
        return cls(entries[0], outcome, check)


@dataclass(frozen=True, slots=True)
class Finished:
    """A run whose report is stored. `started_at` and `finished_at` are by the node's clock.

    Attributes:
        stored_at: when its report was stored.
        sent_at: when the broker had taken the request; None: not known.
        more: number of removals without a span.
    """

    run_id: UUID
    node_id: str
    started_at: datetime
    finished_at: datetime
    stored_at: datetime
    sent_at: datetime | None
    removals: tuple[Removal, ...]
    more: int

    @classmethod
    def of(cls, report: ReconcileReport, stored_at: datetime, sent_at: datetime | None) -> Self:
        """Take over what is needed of a report, so that the rest of it is not kept."""
        about: dict[DeviceIdentity, list[JournalEntry]] = {}
        for entry in report.entries:
            if entry.run_id == report.run_id and entry.stage is not Stage.DETECTED:
                about.setdefault(entry.identity, []).append(entry)
        removals = [Removal.of(entries) for entries in about.values()]
        return cls(
            report.run_id,
            report.node_id,
            report.started_at,
            report.finished_at,
            stored_at,
            sent_at,
            tuple(removals[:MAX_REMOVALS]),
            len(removals[MAX_REMOVALS:]),
        )
