"""Retention: moves the oldest rows of the audit trail to archive files, in batches.

A batch is checked against its hashes, written and synced; then one transaction adds the anchor from which the
chain goes on, deletes the rows, and records the pruning. The step after a crash writes
the file again.
"""

from datetime import UTC, datetime, time, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import delete, insert

from contract.verdicts import Stage
from controller.audit import archive, verify
from controller.audit.append import Entry, append, links
from controller.audit.chain import CHAINED, ChainCheck, ChainPosition, plain
from controller.db.audit_models import AuditAnchor, AuditRow
from controller.db.engine import Database
from controller.db.states import CONTROLLER

log = structlog.get_logger(__name__)

ROWS: Final = 5_000
"""Rows of a batch, which is one archive file."""

_STORED_AT: Final = CHAINED.index("stored_at")


class AuditRetention:
    """Prunes rows that were stored more than `days` whole days (UTC) ago; archives go to `folder`."""

    def __init__(self, database: Database, *, days: int, folder: Path) -> None:
        self._database = database
        self._days = timedelta(days=days)
        self._folder = folder

    def step(self, now: datetime) -> int:
        """Prune one batch; return its number of rows.

        Whole days: else the row about a pruning would later be a batch of its own.
        """
        midnight = datetime.combine(now.astimezone(UTC), time(), UTC)
        before = plain(midnight - self._days)
        with self._database.read() as session:
            anchor = verify.last_anchor(session)
            rows = links(session, anchor.position, ROWS)
        rows = list(takewhile(lambda row: row.values[_STORED_AT] < before, rows))
        if not rows:
            return 0
        check = ChainCheck(anchor)
        finding = check.follow(rows)
        if finding is not None:
            log.error(
                "nothing is pruned: the audit trail is not intact; see `vxctl audit verify`",
                position=finding.position,
                detail=finding.detail,
            )
            return 0
        file = self._folder / f"audit-{anchor.position + 1:012}-{check.end.position:012}.jsonl.gz"
        try:
            archive.write(file, anchor, rows, check.end)
        except OSError as error:
            log.error(  # noqa: TRY400 -- the disk is at fault, not the code
                "nothing is pruned: the archive cannot be written; set "
                "VXLAN_OPERATOR_AUDIT_ARCHIVE_DIRECTORY to a folder with room",
                file=str(file),
                error=str(error),
            )
            return 0
        self._delete(check.end, len(rows), file, now)
        log.info("audit rows pruned", rows=len(rows), through=str(check.end), archive=str(file))
        return len(rows)

    def _delete(self, end: ChainPosition, rows: int, file: Path, now: datetime) -> None:
        with self._database.write() as session:
            # Of two that prune the same batch, one fails here and has changed nothing.
            session.execute(
                insert(AuditAnchor).values(
                    position=end.position, hash=end.hash, rows=rows, archive=str(file), at=now
                )
            )
            session.execute(delete(AuditRow).where(AuditRow.position <= end.position))
            entry = Entry(
                id=verify.pruned_id(end.position),
                stage=Stage.PRUNED,
                at=now,
                actor=CONTROLLER,
                reason=f"{rows} rows up to position {end.position} were older than "
                f"{self._days.days} days and went to {file}",
                evidence=str(end),
            )
            append(session, [entry], now)
