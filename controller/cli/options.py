"""Options and arguments of several verbs."""

import getpass
import socket
from typing import Annotated, Final, Literal

import typer

DEFAULT_URL: Final = "http://127.0.0.1:8479"

Output = Literal["table", "json"]
Listing = Literal["table", "wide", "json"]

Url = Annotated[str, typer.Option(envvar="VXLAN_OPERATOR_URL", help="HTTP API of the controller.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Output format.")]
ListingOption = Annotated[Listing, typer.Option("--output", "-o", help="Output format.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Redraw every 2 seconds until Ctrl-C.")]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Id, unique id prefix or hostname of a node.")
]
NetworkArgument = Annotated[
    str, typer.Argument(metavar="NETWORK", help="Id, unique id prefix or name of a network.")
]
NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node", metavar="NODE", help="Only this node: id, unique id prefix or hostname."
    ),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        "--network", metavar="NETWORK", help="Only this network: id, unique id prefix or name."
    ),
]
Actor = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Actor in the audit trail (default: USER@HOST)."),
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Reason in the audit trail.")
]


def decision(actor: str | None, reason: str | None) -> dict[str, str]:
    """Return the actor and the reason as the API takes them."""
    given = {"actor": _user_at_host() if actor is None else actor}
    return given if reason is None else given | {"reason": reason}


def _user_at_host() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A user id without a name, as in a container.
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:100]
