"""Audit rows as a file: JSON lines that carry the hash chain, so that it can be checked anywhere.

The first line says after which place of the chain the rows follow (`after`), each other line is a row with
its position and hash, and the last says up to where (`head`) and how many (`rows`): a file that was
cut short has no last line. A name that ends in .gz is compressed.
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
    START,
    ChainCheck,
    ChainPosition,
    ChainRow,
    Fault,
    Finding,
)

_ROWS: Final = 1_000
_LINE: Final = 1_000_000
"""Longer than any line of ours."""


def line(row: ChainRow) -> str:
    """A row as a line."""
    values = dict(zip(CHAINED, row.says, strict=True))
    return _json({"id": row.id, **values, "hash": row.hash.hex()})


def first(after: ChainPosition) -> str:
    """The first line of a file."""
    return _json({"after": str(after)})


def last(head: ChainPosition, rows: int) -> str:
    """The last line of a file."""
    return _json({"head": str(head), "rows": rows})


def write(path: Path, after: ChainPosition, rows: Sequence[ChainRow], head: ChainPosition) -> None:
    """Write a file, compressed, and make sure that it is on disk under its name; replaces one of that name.

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
    """Follow the chain through files, given in any order; return where it ends, its rows, what is wrong.

    Raises:
        OperatorError: a file cannot be read, is not one of ours, or was cut short.
    """
    files = sorted((_after(path), path) for path in paths)
    kept = set(expected)
    # What follows a place that was kept is as good as what follows the beginning.
    began = files[0][0] if files and files[0][0] in kept else START
    walk, rows = ChainCheck(began, kept), 0
    for after, path in files:
        if after.position > walk.mark.position:
            return walk.mark, rows, _gap(walk.mark, after)
        for batch in _batches(path):
            # An archive that was begun anew after a crash may have more rows than the first.
            new = [row for row in batch if row.position > walk.mark.position]
            finding = walk.follow(new)
            if finding is not None:
                return walk.mark, rows, finding
            rows += len(new)
    return walk.mark, rows, None


def _gap(end: ChainPosition, after: ChainPosition) -> Finding:
    return Finding(
        Fault.MISSING,
        end.position + 1,
        None,
        f"no file has rows {end.position + 1} to {after.position}",
    )


def _after(path: Path) -> ChainPosition:
    for text in _lines(path):
        try:
            return ChainPosition.parse(json.loads(text)["after"])
        except (ValueError, KeyError, TypeError) as error:
            raise _not_ours(path, "its first line") from error
    raise _not_ours(path, "an empty file")


def _batches(path: Path) -> Iterator[list[ChainRow]]:
    """The rows of a file; checks its last line."""
    batch: list[ChainRow] = []
    rows, end = 0, None
    for number, text in enumerate(_lines(path)):
        if end is not None:
            raise _not_ours(path, "lines behind its last")
        if number == 0:
            continue
        try:
            said = json.loads(text)
            if "rows" in said:
                end = int(said["rows"])
                continue
            row = ChainRow(
                said["id"], bytes.fromhex(said["hash"]), [said[name] for name in CHAINED]
            )
            int.__index__(row.position)  # Compared with numbers from here on.
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _not_ours(path, f"line {number + 1}") from error
        batch.append(row)
        rows += 1
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if end != rows:
        raise OperatorError(
            f"{path} was cut short: it has {rows} rows and "
            + ("no last line" if end is None else f"its last line says {end}"),
            "export it again, or get it from a backup",
        )
    yield batch


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while text := file.readline(_LINE):
                yield text
    except (OSError, EOFError) as error:
        raise OperatorError(f"{path} cannot be read: {error}", "name another file") from error


def _not_ours(path: Path, what: str) -> OperatorError:
    return OperatorError(
        f"{path} is no archive of the audit trail ({what})",
        "name files that `vxctl audit export` or the retention wrote",
    )


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), default=str) + "\n"
