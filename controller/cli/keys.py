"""The verbs about the controllers' keys: `vxctl keys`, `vxctl keys rotate` and `vxctl keys replace`."""

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.variables import PREFIX
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Actor, Output, Url, decision
from controller.cli.output import formats, table
from controller.cli.output.structured import Kind

_KIND: Final = Kind("key", lambda row: str(row["id"]), lambda row: str(row["id"]))
_NEXT: Final = Path("/var/lib/vxlan-operator/controller.key.next")
_JOIN_TOKENS: Final = (
    "join tokens made before still serve, for the former key vouches for this one; if the former is in other "
    "hands, revoke them (`vxctl node join-token list`), and give every worker a new one"
)
_REVOKED: Final = (
    "join tokens made before are revoked: make one for nodes that join (`vxctl node join-token create`); if "
    "the former key is in other hands, give it to every worker"
)


def keys(context: typer.Context, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    if context.invoked_subcommand is None:
        formats.show(Client(url).get("controller-keys")["items"], output, _show, kind=_KIND)


def rotate(
    file: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="File of the next private key, made if it is missing (mode 0600); every controller needs it "
            "beside its own key, with `.next` at its end.",
        ),
    ] = _NEXT,
    finish: Annotated[
        bool, typer.Option("--finish", help="Let the next key sign, once all ready nodes know it.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="With --finish: also if nodes lack it: they follow by their next request.",
        ),
    ] = False,
    revoke_join_tokens: Annotated[
        bool,
        typer.Option(
            "--revoke-join-tokens",
            help="With --finish: revoke all join tokens, which name the former key.",
        ),
    ] = False,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    for given, name in ((force, "--force"), (revoke_join_tokens, "--revoke-join-tokens")):
        if given and not finish:
            raise UsageError(f"{name} needs --finish", f"vxctl keys rotate --finish {name}")
    client = Client(url)
    if finish:
        wanted = {"force": force, "revoke_join_tokens": revoke_join_tokens}
        answer = client.post("controller-keys", "finish", body=decision(actor, None) | wanted)
    else:
        from contract.runtime.key_file import make_key, read_key

        key = read_key(file) or make_key(file)
        body = decision(actor, None) | {"public_key": key.public.text}
        answer = client.post("controller-keys", "next", body=body)

    def shown(row: dict[str, Any]) -> None:
        table.line(f"key {row['id']} is {row['state']}")
        if row["lacking"]:
            table.line(f"not known yet to: {_names(row['lacking'])}")
        if row["later"]:
            table.line(f"paused, ignored or not ready, told later: {_names(row['later'])}")
        if not row["lacking"] and not finish:
            table.line("all others know it" if row["later"] else "all nodes know it")
            table.line("`vxctl keys rotate --finish` lets it sign")
        if not finish and (fixed := _read_only_file()):
            table.line(
                f"before --finish, give all controllers {file} as {fixed}.next: a secret, in whose folder "
                "no controller can put it itself"
            )
        if finish:
            table.line(_REVOKED if revoke_join_tokens else _JOIN_TOKENS)

    formats.show(answer, output, shown, kind=_KIND)


def replace(
    database_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="The controllers' database; who may write it may do this."
        ),
    ],
    actor: Actor = None,
) -> None:
    from controller.access.store import By
    from controller.access.tokens import SYSTEM
    from controller.db.engine import open_database
    from controller.leadership.sqlite_lock import only_one
    from controller.trust import store

    by = By(SYSTEM, decision(actor, None)["actor"], datetime.now(UTC))
    try:
        with (
            only_one(database_url),
            closing(open_database(database_url)) as database,
            database.write() as session,
        ):
            lost = store.replace(session, by).id
    except store.KeyStateError as error:
        raise OperatorError(str(error), error.hint) from error
    table.line(
        f"key {lost} is retired: start one controller, and copy the key that it makes to the others"
    )
    table.line(
        "no worker believes that key: give each a new join token (`vxctl node join-token create`)"
    )


def _read_only_file() -> str | None:
    """Return the file of the controllers' key if it is in a folder that cannot be written, as a secret is."""
    given = os.environ.get(f"{PREFIX}SIGNING_KEY", "")
    return given if given and not os.access(Path(given).parent, os.W_OK) else None


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(formats.short(name) for name in names[:5]) + more


def _show(rows: list[dict[str, Any]]) -> None:
    columns = (
        ("ID", lambda row: row["id"]),
        ("STATE", lambda row: row["state"]),
        ("SINCE", lambda row: formats.ago(row["retired_at"] or row["created_at"])),
        ("PUBLIC KEY", lambda row: row["public_key"]),
    )
    table.table(columns, rows, empty="no keys")
