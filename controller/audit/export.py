"""Export: the audit trail as a stream in the form of an archive, in bounded memory."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from controller.audit import archive, verify
from controller.audit.append import head_of, links
from controller.audit.chain import CHAINED, ChainPosition, ChainRow, plain
from controller.db.engine import Database

_ROWS: Final = 1_000
_STORED_AT: Final = CHAINED.index("stored_at")


class PrunedError(Exception):
    """Rows to export are in the archives of the retention, no longer in the database."""


def export(
    database: Database,
    *,
    after: ChainPosition | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[bytes]:
    """Stream the rows from `after` (None: the first) to the present end, each piece in its own transaction.

    `since` and `until` choose rows by the time of storing: from `since` and before `until`.
    If rows are pruned meanwhile, the stream breaks off without its last line.

    Raises:
        PrunedError: the first rows are not in the database any more.
    """
    with database.read() as session:
        begin, head = verify.last_anchor(session), head_of(session)
    if after is not None and after.position < begin.position:
        raise PrunedError(f"rows up to {begin.position} were pruned")

    def wanted(row: ChainRow) -> bool:
        # Times in one form compare as text.
        stored: str = row.values[_STORED_AT]
        return (since is None or stored >= plain(since)) and (
            until is None or stored < plain(until)
        )

    return _pieces(database, after or begin, head, wanted)


def _pieces(
    database: Database, mark: ChainPosition, head: ChainPosition, wanted: Callable[[ChainRow], bool]
) -> Iterator[bytes]:
    rows, exported = 0, None
    while mark.position < head.position:
        with database.read() as session:
            found = links(session, mark.position, min(_ROWS, head.position - mark.position))
        if not found or found[0].position != mark.position + 1:
            raise PrunedError(f"rows behind {mark.position} were pruned meanwhile")
        lines = []
        for row in found:
            if wanted(row):
                if exported is None:
                    lines.append(archive.first(mark))
                lines.append(archive.line(row))
                exported = ChainPosition(row.position, row.hash)
                rows += 1
            mark = ChainPosition(row.position, row.hash)
        if lines:
            yield "".join(lines).encode()
    end = archive.last(exported or mark, rows)
    yield (end if exported else archive.first(mark) + end).encode()
