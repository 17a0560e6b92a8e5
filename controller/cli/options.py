"""Options and arguments of several verbs."""

import getpass
import socket
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import typer

DEFAULT_URL: Final = "http://127.0.0.1:8479"

Url = Annotated[str, typer.Option(help="HTTP API of the controller.")]
"""In a verb's signature; `connection.connected` resolves it, and gives the verb `MaybeUrl` and the others."""
MaybeUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="HTTP API of the controller (VXLAN_OPERATOR_URL; default: the current context's, or "
        f"{DEFAULT_URL}).",
    ),
]
ContextName = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="CONTEXT",
        help="Controller of `vxctl config list` (VXLAN_OPERATOR_CONTEXT).",
    ),
]
Ca = Annotated[
    str | None,
    typer.Option(
        "--ca", metavar="FILE", help="CA of the controller's certificate (VXLAN_OPERATOR_CA)."
    ),
]
TokenFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="File with the API token (VXLAN_OPERATOR_TOKEN_FILE)."),
]
Format = Literal["table", "wide", "json", "jsonl", "yaml", "name", "csv"]
"""`jsonl` has one row per line, `name` KIND/NAME per line; `csv` is that of RFC 4180, without formulas."""
OUTPUT: Final = typer.Option("--output", "-o", help="Output format.", show_default=False)
LIST_OUTPUT: Final = typer.Option("--output", "-o", help="Output format.")
"""That of lists, which can also be sorted."""
Output = Annotated[Format, OUTPUT]
ListOutput = Annotated[Format, LIST_OUTPUT]
Watch = Annotated[
    bool, typer.Option("-w", help="Show the rows, and then each that changes, until Ctrl-C.")
]
Redraw = Annotated[
    bool, typer.Option("--watch", help="Redraw every 2 seconds on a terminal, until Ctrl-C.")
]


Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Start: 90s, 15m, 2h or 7d ago, a day, or an ISO 8601 time."),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="End (exclusive), in the formats of --since.")
]


def rows_limit(most: int = 100_000) -> Any:
    """Return the option `--limit` of a list of up to `most` rows."""
    return typer.Option(metavar="N", min=1, max=most, help="Maximum number of rows.")


Limit = Annotated[int, rows_limit()]


def without_kind(kind: str) -> Callable[[Any], Any]:
    """Return what takes `node/NAME`, as `-o name` prints it, for NAME."""

    def bare(value: Any) -> Any:
        if isinstance(value, str):
            return value.removeprefix(f"{kind}/")
        return value if value is None else [name.removeprefix(f"{kind}/") for name in value]

    return bare


_NAMED: Final = {
    "node": "id, unique id prefix or hostname",
    "network": "id, unique id prefix or name",
    "device": "NAME or NAME#IFINDEX",
    "run": "id, or id prefix",
}
"""How each kind of row is named."""


def _argument(kind: str) -> Any:
    help_ = f"{_NAMED[kind].capitalize()} of a {kind}."
    return typer.Argument(metavar=kind.upper(), help=help_, callback=without_kind(kind))


def only(kind: str) -> Any:
    """Return the option that restricts a list to one node or network."""
    help_ = f"Only this {kind}: {_NAMED[kind]}."
    return typer.Option(metavar=kind.upper(), help=help_, callback=without_kind(kind))


def only_these(kind: str) -> Any:
    """Return the arguments that restrict a list to rows by name."""
    return typer.Argument(
        metavar=kind.upper(),
        help=f"Only these: {_NAMED[kind]}.",
        callback=without_kind(kind),
        show_default=False,
    )


NodeArgument = Annotated[str, _argument("node")]
NetworkArgument = Annotated[str, _argument("network")]
MaybeNode = Annotated[str | None, _argument("node")]
NodeOption = Annotated[str | None, only("node")]
NetworkOption = Annotated[str | None, only("network")]
Actor = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="For whom you act: unchecked, beside the token's name in the audit trail (default: USER@HOST).",
    ),
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Reason in the audit trail.")
]


def decision(actor: str | None, reason: str | None) -> dict[str, str | None]:
    """Return the actor, by default USER@HOST, and the reason as the API takes them."""
    if actor is None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # A user id without a name, as in a container.
            user = "unknown"
        actor = f"{user}@{socket.gethostname()}"[:100]
    return {"actor": actor, "reason": reason}
