"""The verbs about notifications: `vxctl notify add`, `list`, `test`, `mute`, `unmute`, `rotate`, `remove`."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.exit_status import ExitStatus
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Actor, Output, Reason, Url, decision
from controller.cli.output import formats, table
from controller.cli.output.structured import Kind
from controller.db.states import TargetKind
from controller.timespec import parse_duration

_KIND: Final = Kind("notification", lambda row: str(row["name"]), lambda row: str(row["name"]))
_PATH: Final = "notifications"
_MAX_TEMPLATE_BYTES: Final = 16_000
_SHOWN: Final = 60

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a target.")]


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    kind: Annotated[
        TargetKind,
        typer.Argument(metavar="KIND", help="webhook, slack, email, apprise or heartbeat."),
    ],
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="A URL, or mail addresses separated by commas; - reads it from standard input, so no "
            "list of processes shows it.",
        ),
    ],
    event: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EVENT", help="May be repeated: tell these alone; default: all events."
        ),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File with the text of its notifications, with $variables."
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of a heartbeat: the time between two, such as 60s."),
    ] = None,
    remind_every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Tell a problem that lasts again after this time, 10m to 30d; off: never; default: 1d.",
        ),
    ] = None,
    actor: Actor = None,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    body = decision(actor, reason) | {
        "name": name,
        "kind": kind,
        "address": _address() if address == "-" else address,
        "events": event or None,
        "template": None if template is None else _template(template),
        "every_seconds": None if every is None else _seconds("--every", every),
        "remind_seconds": _remind_seconds(remind_every),
    }
    answer = Client(url).post(_PATH, body=body)
    if output != "table":
        formats.show(answer, output, lambda _: None, kind=_KIND)
        return
    table.line(f"{_named(answer)} is added; see whether it works: `vxctl notify test {name}`")
    _show_secret(answer)


def list_(url: Url = DEFAULT_URL, output: Output = "table") -> None:
    formats.show(Client(url).get(_PATH)["items"], output, _show, kind=_KIND)


def try_(name: Name, actor: Actor = None, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    answer = Client(url).post(_PATH, name, "test", body=decision(actor, None))
    formats.show(answer, output, _show_trial)
    if not answer["taken"]:
        raise typer.Exit(ExitStatus.NO)


def mute(
    name: Name,
    duration: Annotated[
        str,
        typer.Option("--for", metavar="TIME", help="Send nothing for this time: 30m, 2h or 1d."),
    ],
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    body = decision(actor, reason) | {"seconds": _seconds("--for", duration)}
    answer = Client(url).post(_PATH, name, "mute", body=body)

    def show(row: dict[str, Any]) -> None:
        end = formats.clock(row["muted_until"])
        table.line(
            f"{_named(row)} is muted until {end}: removals are not told, and problems that are there "
            "then are told then"
        )

    formats.show(answer, output, show, kind=_KIND)


def unmute(
    name: Name, actor: Actor = None, url: Url = DEFAULT_URL, output: Output = "table"
) -> None:
    answer = Client(url).post(_PATH, name, "unmute", body=decision(actor, None))
    formats.show(answer, output, lambda row: table.line(f"{_named(row)} is not muted"), kind=_KIND)


def rotate(
    name: Name, actor: Actor = None, url: Url = DEFAULT_URL, output: Output = "table"
) -> None:
    answer = Client(url).post(_PATH, name, "rotate", body=decision(actor, None))
    if output != "table":
        formats.show(answer, output, lambda _: None, kind=_KIND)
        return
    end = formats.clock(answer["rotation_until"])
    table.line(f"{_named(answer)} has a new secret; the former signs beside it until {end}")
    _show_secret(answer)


def remove(
    name: Name, actor: Actor = None, url: Url = DEFAULT_URL, output: Output = "table"
) -> None:
    answer = Client(url).post(_PATH, name, "remove", body=decision(actor, None))
    formats.show(answer, output, lambda row: table.line(f"{_named(row)} is removed"), kind=_KIND)


def _named(row: dict[str, Any]) -> str:
    return f"notification target {row['name']} ({row['kind']}, {row['address']})"


def _show_secret(answer: dict[str, Any]) -> None:
    if answer["secret"] is not None:
        table.line("Its receiver checks signatures with this secret, which is shown this once:")
        table.line(answer["secret"])


def _show(rows: list[dict[str, Any]]) -> None:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("KIND", lambda row: row["kind"]),
        ("ADDRESS", lambda row: row["address"]),
        ("EVENTS", _events),
        ("REMINDS", _reminds),
        ("STATE", _state),
        ("WAITING", lambda row: str(row["waiting"])),
        ("GIVEN UP", lambda row: str(row["given_up"] or "-")),
        (
            "LAST TAKEN",
            lambda row: formats.ago(row["delivered_at"]) if row["delivered_at"] else "-",
        ),
    )
    table.table(columns, rows, empty="no notification targets: `vxctl notify add` adds one")
    for row in rows:
        if row["error"] is not None:
            table.line(
                f"{row['name']} fails since {formats.clock(row['failing_since'])}: {row['error']}"
            )


def _events(row: dict[str, Any]) -> str:
    if row["kind"] == TargetKind.HEARTBEAT:
        return f"every {row['every_seconds']:g} s"
    names = ", ".join(row["events"] or ["all"])
    return names if len(names) <= _SHOWN else f"{names[:_SHOWN]}..."


def _reminds(row: dict[str, Any]) -> str:
    seconds = row["remind_seconds"]
    return "-" if seconds is None else f"every {formats.age_of(seconds)}"


def _state(row: dict[str, Any]) -> str:
    if row["muted_until"] is not None:
        return f"muted until {formats.clock(row['muted_until'])}"
    return "works" if row["error"] is None else "FAILS"


def _show_trial(answer: dict[str, Any]) -> None:
    status = "" if answer["status"] is None else f"status {answer['status']}"
    if answer["taken"]:
        table.line("It took the test" + (f": {status}" if status else ""))
    else:
        table.line(f"It did not take the test: {answer['error']}")
    if answer["lines"]:
        table.line("Its answer begins:", *(f"  {line}" for line in answer["lines"]))


def _address() -> str:
    text = sys.stdin.readline(4000).strip()
    if not text:
        raise UsageError("standard input has no address", "give it in a line")
    return text


def _template(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_TEMPLATE_BYTES)
        return content.decode().replace("\r\n", "\n").rstrip("\n")
    except OSError as error:
        raise OperatorError(
            f"{file} cannot be read: {error.strerror}", "name a file with the text"
        ) from error
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8", "name a file with the text") from None


def _remind_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    return 0.0 if text == "off" else _seconds("--remind-every", text)


def _seconds(option: str, text: str) -> float:
    try:
        seconds = parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise UsageError(f"{option} {text!r} is not a duration", "write it as 90s, 30m, 2h or 1d")
    return seconds
