"""The verbs about nodes' keys: `vxctl node keys`, `trust`, `revoke` and `rotate`."""

from typing import Annotated, Any, Final

import typer

from controller.cli.client import Client
from controller.cli.options import (
    DEFAULT_URL,
    Actor,
    MaybeNode,
    NodeArgument,
    Output,
    Reason,
    Url,
    decision,
    without_kind,
)
from controller.cli.output import formats, table
from controller.cli.output.structured import Kind

KIND: Final = Kind("key", lambda row: str(row["id"]), lambda row: str(row["id"]))
KeyOrText = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Id of a key that the worker has shown (`vxctl node keys`), or a public key of 43 characters "
        "(`vxlan-worker key` on the node shows both).",
        callback=without_kind("key"),
    ),
]
MaybeKey = Annotated[
    str | None,
    typer.Argument(
        metavar="KEY",
        help="Id of a key (default: all of the node).",
        callback=without_kind("key"),
    ),
]


def keys(node: MaybeNode = None, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    formats.show(Client(url).get("node-keys", node=node)["items"], output, _show, kind=KIND)


def trust(
    node: NodeArgument,
    key: KeyOrText,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    answer = Client(url).post("nodes", node, "keys", key, "trust", body=decision(actor, None))
    formats.show(answer, output, lambda row: table.line(_described(row)), kind=KIND)


def revoke(
    node: NodeArgument,
    key: MaybeKey = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    path = ("nodes", node, "keys", *([] if key is None else [key]), "revoke")
    answer = Client(url).post(*path, body=decision(actor, None))

    def shown(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            table.line(_described(row))

    formats.show(answer["items"], output, shown, kind=KIND)


def rotate(
    node: NodeArgument,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Ask for it no more: the present key stays.")
    ] = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    path = ("nodes", node, "keys", "rotate", *(["withdraw"] if withdraw else []))
    answer = Client(url).post(*path, body=decision(actor, reason))

    def shown(row: dict[str, Any]) -> None:
        kept = "its worker is not asked to replace it any more"
        table.line(f"{_described(row)}; {kept if withdraw else _asked(row)}")

    formats.show(answer, output, shown, kind=KIND)


def _asked(row: dict[str, Any]) -> str:
    asked_at = row["rotation_asked_at"]
    return "" if asked_at is None else f"its worker is asked to replace it, {formats.ago(asked_at)}"


def _described(row: dict[str, Any]) -> str:
    return (
        f"key {row['id']} of {formats.short(row['node_name'] or row['node_id'])} is {row['state']}"
    )


def _show(rows: list[dict[str, Any]]) -> None:
    columns = (
        ("NODE", lambda row: formats.short(row["node_name"] or row["node_id"])),
        ("KEY", lambda row: row["id"]),
        ("STATE", lambda row: row["state"]),
        ("SINCE", lambda row: formats.ago(row["decided_at"] or row["created_at"])),
        ("WHY", lambda row: "; ".join(filter(None, (row["origin"], _asked(row))))),
    )
    table.table(columns, rows, empty="no keys: no worker has shown one")
