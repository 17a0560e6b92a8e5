"""Pruning the audit trail: the oldest rows go to an archive file, and only then out of the database.

Only a prefix of the chain is ever pruned, in batches. A batch is checked against its hashes, written and
synced; then one transaction adds the anchor from which the chain goes on, deletes the rows, and records
that it did. A crash in between leaves a file that the next attempt writes again.
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
"""How many rows a batch, and an archive file, has at most."""

_STORED_AT: Final = CHAINED.index("stored_at")


class AuditRetention:
    """Prunes what is older than so many whole days (UTC).

    Args:
        database: what is pruned.
        days: how long rows stay, after they were stored.
        folder: where the archives go; one that outlives this machine's disk is better.
    """

    def __init__(self, database: Database, *, days: int, folder: Path) -> None:
        self._database = database
        self._days = timedelta(days=days)
        self._folder = folder

    def step(self, now: datetime) -> int:
        """Prune one batch; return how many rows that were.

        Whole days: else the row that tells of a pruning would be a batch of its own when its time comes.
        """
        midnight = datetime.combine(now.astimezone(UTC), time(), UTC)
        before = plain(midnight - self._days)
        with self._database.read() as session:
            anchor = verify.last_anchor(session)
            rows = links(session, anchor.position, ROWS)
        rows = list(takewhile(lambda row: row.says[_STORED_AT] < before, rows))
        if not rows:
            return 0
        walk = ChainCheck(anchor)
        finding = walk.follow(rows)
        if finding is not None:
            log.error(
                "nothing is pruned: the audit trail is not intact; see `vxctl audit verify`",
                position=finding.position,
                detail=finding.detail,
            )
            return 0
        file = self._folder / f"audit-{anchor.position + 1:012}-{walk.mark.position:012}.jsonl.gz"
        try:
            archive.write(file, anchor, rows, walk.mark)
        except OSError as error:
            log.error(  # noqa: TRY400 -- the disk is at fault, not the code
                "nothing is pruned: the archive cannot be written; set "
                "VXLAN_OPERATOR_AUDIT_ARCHIVE_DIRECTORY to a folder with room",
                file=str(file),
                error=str(error),
            )
            return 0
        self._delete(walk.mark, len(rows), file, now)
        log.info("audit rows pruned", rows=len(rows), through=str(walk.mark), archive=str(file))
        return len(rows)

    def _delete(self, mark: ChainPosition, rows: int, file: Path, now: datetime) -> None:
        with self._database.write() as session:
            # Whoever prunes the same batch at the same time fails here, and has changed nothing.
            session.execute(
                insert(AuditAnchor).values(
                    position=mark.position, hash=mark.hash, rows=rows, archive=str(file), at=now
                )
            )
            session.execute(delete(AuditRow).where(AuditRow.position <= mark.position))
            append(
                session,
                [
                    Entry(
                        id=verify.pruned_id(mark.position),
                        stage=Stage.PRUNED,
                        at=now,
                        actor=CONTROLLER,
                        reason=f"{rows} rows up to position {mark.position} were older than "
                        f"{self._days.days} days and went to {file}",
                        evidence=str(mark),
                    )
                ],
                now,
            )
