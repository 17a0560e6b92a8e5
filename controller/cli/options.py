"""Options and arguments of several verbs."""

import getpass
import socket
from typing import Annotated, Final, Literal

import typer

DEFAULT_URL: Final = "http://127.0.0.1:8479"

Url = Annotated[str, typer.Option(envvar="VXLAN_OPERATOR_URL", help="HTTP API of the controller.")]
OUTPUT: Final = typer.Option("--output", "-o", help="Output format.")
Output = Annotated[Literal["table", "json"], OUTPUT]
ListOutput = Annotated[Literal["table", "wide", "json"], OUTPUT]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Redraw every 2 seconds until Ctrl-C.")]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Id, unique id prefix or hostname of a node.")
]
NetworkArgument = Annotated[
    str, typer.Argument(metavar="NETWORK", help="Id, unique id prefix or name of a network.")
]
NodeOption = Annotated[
    str | None,
    typer.Option(metavar="NODE", help="Only this node: id, unique id prefix or hostname."),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(metavar="NETWORK", help="Only this network: id, unique id prefix or name."),
]
Actor = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Actor in the audit trail (default: USER@HOST)."),
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
