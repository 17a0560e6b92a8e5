"""Options and arguments that several verbs take."""

from typing import Annotated, Final

import typer

from controller.cli.show import Output

Url = Annotated[
    str,
    typer.Option(envvar="VXLAN_OPERATOR_URL", help="The controller's HTTP API."),
]
Form = Annotated[Output, typer.Option("--output", "-o", help="Form of output.")]
NodeArgument = Annotated[str, typer.Argument(help="Id, unique id prefix or hostname of a node.")]

DEFAULT_URL: Final = "http://127.0.0.1:8479"
