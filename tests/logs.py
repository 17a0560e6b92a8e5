"""The logs of what tests start: a test that fails shows the ends of those that were written meanwhile."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_LINES: Final = 40
_FILES: Final = 12

STARTED: Final[dict[Path, None]] = {}
"""The logs of all servers that this process has started, the oldest first."""


def ends(folder: Path | None, since: float) -> Iterator[tuple[Path, str]]:
    """The last lines of the logs of servers, and of those in a folder, that were written since a time.

    Args:
        folder: of the test; None: it has none.
        since: seconds since 1970.
    """
    found = STARTED | dict.fromkeys(sorted(folder.rglob("*.log")) if folder else ())
    written = [path for path in found if _written_at(path) >= since]
    for path in written[-_FILES:]:
        lines = path.read_text(errors="replace").splitlines()
        yield path, "\n".join(lines[-_LINES:])


def _written_at(path: Path) -> float:
    """When a log was written to that has any text; else 0."""
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime if found.st_size else 0.0
    return 0.0
