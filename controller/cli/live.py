"""Following a list by the server's events (`-w`): print the rows, and then each that changes."""

import json
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from contract.runtime.errors import OperatorError, UsageError
from controller.cli.client import Client, Parameter, UnavailableError
from controller.cli.output import formats, structured, style, table
from controller.cli.output.structured import Kind
from controller.cli.output.table import Columns, GrowingTable, Row

_FIRST_PAUSE_SECONDS: Final = 0.5
_MAX_PAUSE_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 60.0
"""The server sends something at least every 15 s: a connection that is silent for longer is dead."""
_MAX_KNOWN: Final = 2_000
"""Rows of a history that are remembered: a controller sends the newest 1,000 again, in another order."""
_MAX_EVENT: Final = 4_000_000
"""Characters of an event; what is longer is none of a controller."""


class Event(NamedTuple):
    """A server-sent event: added, modified, removed, synced or end."""

    type: str
    data: Any
    id: str | None


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Read server-sent events from their lines (html.spec.whatwg.org, 9.2.6).

    Raises:
        UnavailableError: data that is not JSON, or too long.
    """
    type_, id_ = "message", None
    data: list[str] = []
    size = 0
    for line in lines:
        if not line:
            if data:
                yield Event(type_, _parsed("\n".join(data)), id_)
            type_, data, size = "message", [], 0
            continue
        size += len(line)
        if size > _MAX_EVENT:
            raise UnavailableError(
                f"the controller sent an event longer than {_MAX_EVENT}", "try again"
            )
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                type_ = value
            case "data":
                data.append(value)
            case "id":
                id_ = value
            case _:  # A comment, which keeps the connection alive, or a field of the future.
                pass


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnavailableError(
            f"the controller sent an event that is not JSON: {text[:100]!r}", "try again"
        ) from error


class Printer:
    """Prints the rows of a list that is followed, flushed one by one.

    Args:
        columns: of a table.
        output: the format; `json` is one line a change, as `jsonl`.
        kind: of the rows.
    """

    def __init__(self, columns: Columns, output: str, kind: Kind) -> None:
        self._table = GrowingTable(columns, fold=output != "wide")
        self._output = output
        self.kind = kind
        self._fields: list[str] = []

    def print(self, changes: Sequence[tuple[str, Row]]) -> None:
        """Print rows with what became of each: added, modified or removed."""
        if self._output in formats.TEXT:
            rows = []
            for event, row in changes:
                first, *others = self._table.cells(row)
                rows.append([f"{first} (removed)" if event == "removed" else first, *others])
            self._table.print(rows)
        else:
            for event, row in changes:
                self._print_one(event, row)
        sys.stdout.flush()

    def _print_one(self, event: str, row: Row) -> None:
        if self._output in ("json", "jsonl"):
            change = {"event": event, "item": row}
            sys.stdout.write(json.dumps(change, separators=(",", ":")) + "\n")
        elif self._output == "yaml":
            sys.stdout.write("---\n" + structured.as_yaml({"event": event, "item": row}))
        elif self._output == "name":
            sys.stdout.write(structured.names([row], self.kind)[0] + "\n")
        else:
            fields = self._fields or ["event", *row]
            if not self._fields and style.current().headings:
                structured.write_csv_line(fields)
            self._fields = fields
            structured.write_csv_line([event, *(row.get(name) for name in fields[1:])])


class _Known:
    """The rows that were printed: a controller that was started again sends all of them again.

    Args:
        kind: of the rows; a run that is not among the newest ones has not gone.
    """

    def __init__(self, kind: Kind) -> None:
        self._id = _device_key if kind is structured.DEVICE else kind.id
        self._may_go = kind in (structured.NODE, structured.DEVICE)
        self._rows: dict[str, Row] = {}

    def note(self, event: str, row: Row) -> None:
        """Note a row that was printed."""
        key = self._id(row)
        self._rows.pop(key, None)
        if event != "removed":
            self._rows[key] = row
        if not self._may_go and len(self._rows) > _MAX_KNOWN:
            del self._rows[next(iter(self._rows))]

    def news(self, rows: Sequence[Row]) -> list[tuple[str, Row]]:
        """Return what became of the known rows, from all rows that there are now."""
        news = []
        present = {self._id(row): row for row in rows}
        for key, row in present.items():
            if self._rows.get(key) != row:
                news.append(("modified" if key in self._rows else "added", row))
        if self._may_go:
            news += [("removed", row) for key, row in self._rows.items() if key not in present]
        return news


def _device_key(row: Row) -> str:
    return json.dumps([row["node_id"], row["netns"], row["ifindex"]])


def refuse_with(*, names: Sequence[str] | None, redraw: bool) -> None:
    """Refuse what `-w` cannot do.

    Raises:
        UsageError: it is asked for names, an order, or to redraw.
    """
    if names:
        raise UsageError("-w follows a list, not names", "omit the names, or use --watch")
    if redraw:
        raise UsageError("-w and --watch exclude each other", "-w prints changes, --watch redraws")
    if style.current().sort_by is not None:
        raise UsageError("-w prints changes as they come", "omit --sort-by")


def follow(
    client: Client, path: str, filters: Mapping[str, Parameter], printer: Printer
) -> NoReturn:
    """Print the rows of a list and what changes, until Ctrl-C.

    When the connection ends it is made again, from the last event on, with growing pauses; that is said on
    standard error. A controller that does not know that event sends all rows: what changed is printed.

    Raises:
        OperatorError: the controller refuses the question.
    """
    last: str | None = None
    pause = _FIRST_PAUSE_SECONDS
    known = _Known(printer.kind)

    def tell(changes: Sequence[tuple[str, Row]]) -> None:
        printer.print(changes)
        for event, row in changes:
            known.note(event, row)

    while True:
        present: list[Row] | None = []
        try:
            for event in events(_lines(client, path, filters, last)):
                pause = _FIRST_PAUSE_SECONDS
                last = event.id or last
                if event.type == "end":
                    raise _ended(event.data)
                if event.type == "synced":
                    # Resumed, it has no rows; what changed meanwhile follows.
                    tell(known.news(present) if present else [])
                    present = None
                elif event.type == "added" and present is not None:
                    present.append(event.data)
                elif event.type in ("added", "modified", "removed"):
                    tell([(event.type, event.data)])
            problem = "the controller ended the connection"
        except UnavailableError as error:
            problem = error.problem
        if present:  # It broke off amid the first rows: they come again.
            last = None
        table.note(f"{problem}; asking again in {pause:.1f} s")
        time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 -- spreads clients, hides nothing
        pause = min(2 * pause, _MAX_PAUSE_SECONDS)


def _lines(
    client: Client, path: str, filters: Mapping[str, Parameter], last: str | None
) -> Iterator[str]:
    headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last})
    rest = ""
    for text in client.text(
        path, headers=headers, silence=_SILENCE_SECONDS, watch="true", **filters
    ):
        *lines, rest = (rest + text).replace("\r\n", "\n").split("\n")
        if len(rest) > _MAX_EVENT:
            raise UnavailableError(
                f"the controller sent an event longer than {_MAX_EVENT}", "try again"
            )
        yield from lines


def _ended(problem: Any) -> OperatorError:
    """Return why the server ended it, as an error that a retry may help."""
    details = problem if isinstance(problem, dict) else {}
    detail = str(details.get("detail") or details.get("title") or "the controller ended it")
    return UnavailableError(detail, str(details.get("hint") or "try again"))
