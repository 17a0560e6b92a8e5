"""The verbs about join tokens: `vxctl node join-token create`, `list` and `revoke`."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import OperatorError
from contract.runtime.files import create as create_file
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Actor, Output, Url, decision
from controller.cli.output import formats, table
from controller.cli.output.structured import Kind
from controller.cli.token import Expires, NewFile, ago, check_new, seconds

_KIND: Final = Kind("join-token", lambda row: str(row["id"]), lambda row: str(row["id"]))


def create(
    expires: Expires = None,
    file: NewFile = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    check_new(file)
    body = decision(actor, None) | {"seconds": None if expires is None else seconds(expires)}
    answer = Client(url).post("join-tokens", body=body)
    if file is not None:
        _write(file, answer.pop("token"), answer["id"])
    if output != "table":
        formats.show(answer, output, lambda _: None, kind=_KIND)
        return
    end = "" if answer["expires_at"] is None else f", until {formats.clock(answer['expires_at'])}"
    table.line(
        f"join token {answer['id']}{end}" + (f", in {file}" if file else "; it is shown this once:")
    )
    if file is None:
        table.line(answer["token"])


def list_(
    revoked: Annotated[bool, typer.Option("--revoked", help="Also the revoked ones.")] = False,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    answer = Client(url).get("join-tokens", revoked="true" if revoked else None)
    formats.show(answer["items"], output, _show, kind=_KIND)


def revoke(
    token: Annotated[str, typer.Argument(metavar="ID", help="Id of a join token.")],
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    answer = Client(url).post("join-tokens", token, "revoke", body=decision(actor, None))
    formats.show(
        answer, output, lambda row: table.line(f"join token {row['id']} is revoked"), kind=_KIND
    )


def _show(rows: list[dict[str, Any]]) -> None:
    columns = (
        ("ID", lambda row: row["id"]),
        ("CREATED", lambda row: formats.ago(row["created_at"])),
        ("BY", lambda row: row["created_by"]),
        ("LAST USED", lambda row: ago(row["last_used_at"])),
        (
            "EXPIRES",
            lambda row: "-" if row["expires_at"] is None else formats.clock(row["expires_at"]),
        ),
        ("REVOKED", lambda row: ago(row["revoked_at"])),
    )
    table.table(columns, rows, empty="no join tokens")


def _write(file: Path, token: str, id_: str) -> None:
    try:
        create_file(file, f"{token}\n".encode())
    except OSError as error:
        raise OperatorError(
            f"the join token was created, and {file} cannot be written: {error.strerror or error}",
            f"`vxctl node join-token revoke {id_}`, and name another file",
        ) from error
