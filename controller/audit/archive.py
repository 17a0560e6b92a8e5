"""Archives: audit rows with their hash chain as JSON lines, to be checked anywhere.

The first line has the position that the rows follow (`after`), the last one the end (`head`) and the number
of rows (`rows`): a file that was cut short has no last line. A name that ends in .gz is compressed.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from contract.runtime.errors import OperatorError
from contract.runtime.files import replacing
from controller.audit.chain import (
    CHAINED,
    SINCE_0_1_0,
    START,
    ChainCheck,
    ChainPosition,
    ChainRow,
    Fault,
    Finding,
)

_BATCH_ROWS: Final = 1_000
_MAX_LINE_BYTES: Final = 1_000_000


def line(row: ChainRow) -> str:
    """A row as a line."""
    values = dict(zip(CHAINED, row.values, strict=True))
    return _json({"id": row.id, **values, "hash": row.hash.hex()})


def first(after: ChainPosition) -> str:
    """The first line of a file."""
    return _json({"after": str(after)})


def last(head: ChainPosition, rows: int) -> str:
    """The last line of a file."""
    return _json({"head": str(head), "rows": rows})


def write(path: Path, after: ChainPosition, rows: Sequence[ChainRow], head: ChainPosition) -> None:
    """Write a compressed file, durably; replaces one of that name.

    Raises:
        OSError: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        replacing(path) as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
    ):
        for text in (first(after), *map(line, rows), last(head, len(rows))):
            packed.write(text.encode())


def check(
    paths: Iterable[Path], expected: Iterable[ChainPosition] = ()
) -> tuple[ChainPosition, int, Finding | None]:
    """Check the chain through files, in any order; return its end, its number of rows, and the first fault.

    Raises:
        OperatorError: a file cannot be read, is no archive, or was cut short.
    """
    files = sorted((_after(path), path) for path in paths)
    kept = set(expected)
    # A chain may begin at a kept position as well as at the first row.
    began = files[0][0] if files and files[0][0] in kept else START
    check, rows = ChainCheck(began, kept), 0
    for after, path in files:
        if after.position > check.end.position:
            missing = check.end.position + 1
            detail = f"no file has rows {missing} to {after.position}"
            return check.end, rows, Finding(Fault.MISSING, missing, None, detail)
        for batch in _batches(path):
            # An archive written again after a crash may overlap with the first one.
            new = [row for row in batch if row.position > check.end.position]
            finding = check.follow(new)
            if finding is not None:
                return check.end, rows, finding
            rows += len(new)
    return check.end, rows, None


def _after(path: Path) -> ChainPosition:
    for text in _lines(path):
        try:
            return ChainPosition.parse(json.loads(text)["after"])
        except (ValueError, KeyError, TypeError) as error:
            raise _not_an_archive(path, "its first line") from error
    raise _not_an_archive(path, "an empty file")


def _batches(path: Path) -> Iterator[list[ChainRow]]:
    """The rows of a file; raises if the last line is missing or wrong."""
    batch: list[ChainRow] = []
    rows, end = 0, None
    for number, text in enumerate(_lines(path)):
        if end is not None:
            raise _not_an_archive(path, "lines behind its last")
        if number == 0:
            continue
        try:
            found = json.loads(text)
            if "rows" in found:
                end = int(found["rows"])
                continue
            values = [found.get(name) if name in SINCE_0_1_0 else found[name] for name in CHAINED]
            row = ChainRow(found["id"], bytes.fromhex(found["hash"]), values)
            int.__index__(row.position)  # Compared with numbers from here on.
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _not_an_archive(path, f"line {number + 1}") from error
        batch.append(row)
        rows += 1
        if len(batch) == _BATCH_ROWS:
            yield batch
            batch = []
    if end != rows:
        raise OperatorError(
            f"{path} was cut short: it has {rows} rows and "
            + ("no last line" if end is None else f"{end} by its last line"),
            "export it again, or get it from a backup",
        )
    yield batch


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while text := file.readline(_MAX_LINE_BYTES):
                yield text
    except (OSError, EOFError) as error:
        raise OperatorError(f"{path} cannot be read: {error}", "name another file") from error


def _not_an_archive(path: Path, detail: str) -> OperatorError:
    return OperatorError(
        f"{path} is no archive of the audit trail ({detail})",
        "name files that `vxctl audit export` or the retention wrote",
    )


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), default=str) + "\n"
