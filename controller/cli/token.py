"""The verbs about API tokens: `vxctl token create`, `list` and `revoke`."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import OperatorError, UsageError
from controller.access.token_file import write_token
from controller.access.tokens import SYSTEM, Secret, checked_name
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Actor, Output, Url, decision
from controller.cli.output import formats, table
from controller.cli.output.structured import Kind
from controller.db.states import Role
from controller.timespec import parse_duration

_KIND: Final = Kind.of("token", "name", "id")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name: the actor in the audit trail.")]
Expires = Annotated[
    str | None, typer.Option(metavar="TIME", help="Life, such as 12h or 90d (default: no end).")
]
NewFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the token to this new file instead (mode 0600)."),
]


def create(
    name: Name,
    role: Annotated[Role, typer.Option(help="What it may do.")],
    expires: Expires = None,
    file: NewFile = None,
    database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Store it in this database, without a controller."),
    ] = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    check_new(file)
    life = None if expires is None else seconds(expires)
    if database_url is None:
        body = decision(actor, None) | {"name": name, "role": role, "seconds": life}
        answer = Client(url).post("tokens", body=body)
    else:
        answer = _store(database_url, name, role, life, decision(actor, None)["actor"])
    if file is not None:
        _write(file, answer.pop("token"))
    if output == "table":
        end = (
            "" if answer["expires_at"] is None else f", until {formats.clock(answer['expires_at'])}"
        )
        line = f"token {answer['name']} ({answer['id']}) with the role {answer['role']}{end}"
        table.line(f"{line}, in {file}" if file else f"{line}; it is shown this once:")
        if file is None:
            table.line(answer["token"])
    else:
        formats.show(answer, output, lambda _: None, kind=_KIND)


def list_(
    revoked: Annotated[bool, typer.Option("--revoked", help="Also the revoked ones.")] = False,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    answer = Client(url).get("tokens", revoked="true" if revoked else None)
    formats.show(answer["items"], output, _show, kind=_KIND)


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or id of a token.")],
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    answer = Client(url).post("tokens", name, "revoke", body=decision(actor, None))
    formats.show(
        answer,
        output,
        lambda row: table.line(f"token {row['name']} ({row['id']}) is revoked"),
        kind=_KIND,
    )


def _show(rows: list[dict[str, Any]]) -> None:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("ID", lambda row: row["id"]),
        ("ROLE", lambda row: row["role"]),
        ("CREATED", lambda row: formats.ago(row["created_at"])),
        ("LAST USED", lambda row: ago(row["last_used_at"])),
        (
            "EXPIRES",
            lambda row: "-" if row["expires_at"] is None else formats.clock(row["expires_at"]),
        ),
        ("REVOKED", lambda row: ago(row["revoked_at"])),
    )
    table.table(columns, rows, empty="no tokens")


def ago(time: str | None) -> str:
    """Return a time as an age, and none as `-`."""
    return "-" if time is None else formats.ago(time)


def check_new(file: Path | None) -> None:
    """Raise `UsageError` for a file that is there: before a token is made that could not be written."""
    if file is not None and file.exists():
        raise UsageError(f"{file} exists", "name a file that does not exist")


def seconds(text: str) -> float:
    """Read the life of a token; raise `UsageError` for another text."""
    try:
        return parse_duration(text).total_seconds()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--expires {text!r}: {error}", "write it as 12h, 30d or 8w") from error


def _write(file: Path, token: str) -> None:
    secret = Secret.parse(token)
    if secret is None:
        raise OperatorError(
            "the controller's answer has no token", "upgrade vxctl or the controller"
        )
    try:
        write_token(file, secret)
    except OSError as error:
        raise OperatorError(
            f"the token was created, and {file} cannot be written: {error.strerror or error}",
            "revoke it, and name another file",
        ) from error


def _store(
    database_url: str, name: str, role: Role, seconds: float | None, claimed_name: str | None
) -> dict[str, Any]:
    """Create a token in the database itself: who may write that needs no token."""
    from datetime import timedelta

    from controller.access import store
    from controller.db.engine import open_database

    now, secret = datetime.now(UTC), Secret.generate()
    end = None if seconds is None else now + timedelta(seconds=seconds)
    try:
        with closing(open_database(database_url)) as database, database.write() as session:
            row = store.create(
                session,
                secret,
                name=checked_name(name),
                role=role,
                expires_at=end,
                by=store.By(SYSTEM, claimed_name, now),
                reason=", by vxctl in the database",
            )
            stored = {"id": row.id, "name": row.name, "role": row.role.value}
    except store.NameTakenError as error:
        raise OperatorError(str(error), error.hint) from error
    except ValueError as error:
        raise UsageError(f"{name!r} {error}", "choose another name") from error
    return stored | {"expires_at": end and end.isoformat(), "token": secret.text}
