"""Options and arguments that several verbs take."""

import getpass
import socket
from typing import Annotated, Final

import typer

from controller.cli.output.formats import Listing, Output

Url = Annotated[
    str,
    typer.Option(envvar="VXLAN_OPERATOR_URL", help="The controller's HTTP API."),
]
Form = Annotated[Output, typer.Option("--output", "-o", help="Form of output.")]
ListForm = Annotated[Listing, typer.Option("--output", "-o", help="Form of output.")]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Show it again every two seconds, until Ctrl-C.")
]
NodeOption = Annotated[
    str | None, typer.Option("--node", help="Only this node: id, unique id prefix or hostname.")
]
NodeArgument = Annotated[str, typer.Argument(help="Id, unique id prefix or hostname of a node.")]
NetworkArgument = Annotated[str, typer.Argument(help="Id, unique id prefix or name of a network.")]
Actor = Annotated[
    str | None, typer.Option("--as", help="On whose word; by default USER@HOST.", metavar="NAME")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the audit trail.")]

DEFAULT_URL: Final = "http://127.0.0.1:8479"


def default_actor() -> str:
    """Who runs this command, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A user id without a name: in a container, say.
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:100]


def said(actor: str | None, reason: str | None) -> dict[str, str]:
    """Who decides, and why, as the API takes it."""
    given = {"actor": default_actor() if actor is None else actor}
    return given if reason is None else given | {"reason": reason}
