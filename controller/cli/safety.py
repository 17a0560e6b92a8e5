"""The verbs by which people hold the operator back: pause, mode, and the breaker."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from contract.runtime.errors import OperatorError
from controller.cli.client import Client, network_path, node_path
from controller.cli.options import DEFAULT_URL, Actor, Form, Reason, Url, said
from controller.cli.output import formats, table
from controller.cli.output.formats import Output

MaybeNode = Annotated[
    str | None, typer.Argument(metavar="NODE", help="Id, unique id prefix or hostname of a node.")
]
NetworkOption = Annotated[
    str | None,
    typer.Option("--network", metavar="NET", help="A network: id, unique id prefix or name."),
]
ClusterOption = Annotated[bool, typer.Option("--cluster", help="The whole Swarm.")]


class ModeWord(StrEnum):
    """What can be set."""

    OBSERVE = "observe"
    ENFORCE = "enforce"
    DEFAULT = "default"


def install(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(pause)
    app.command()(resume)
    app.command()(mode)
    group = typer.Typer(help="Show the breaker: what counts against which limit.")
    group.callback(invoke_without_command=True)(breaker)
    group.command()(reset)
    app.add_typer(group, name="breaker")


def pause(
    node: MaybeNode = None,
    network: NetworkOption = None,
    cluster: ClusterOption = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Start no more runs of a node or of all nodes, or remove no more devices of a network."""
    path = _path(node, network, cluster, "/pause")
    answer = Client(url).post(path, said(actor, reason))
    _tell(answer, "is paused", output)


def resume(
    node: MaybeNode = None,
    network: NetworkOption = None,
    cluster: ClusterOption = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Undo a pause; what was left alone meanwhile is looked at once, now."""
    path = _path(node, network, cluster, "/resume")
    answer = Client(url).post(path, said(actor, reason))
    _tell(answer, "is not paused by hand", output)


def mode(
    mode: Annotated[
        ModeWord,
        typer.Argument(
            metavar="MODE", help="observe: judge and report only; enforce; default: as others say."
        ),
    ],
    node: MaybeNode = None,
    network: NetworkOption = None,
    cluster: ClusterOption = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Say what may be done on a node, to a network's devices, or anywhere; the strictest wins."""
    path = _path(node, network, cluster, "/mode")
    answer = Client(url).post(path, said(actor, reason) | {"mode": mode.value})
    _tell(answer, f"has the mode {mode.value}", output)


def breaker(context: typer.Context, url: Url = DEFAULT_URL, output: Form = Output.TABLE) -> None:
    """Show the breaker: what counts against which limit, and what has tripped."""
    if context.invoked_subcommand is not None:
        return
    answer = Client(url).get("/api/v1/breaker")
    if output is Output.JSON:
        formats.as_json(answer)
    else:
        _show_breaker(answer)


def reset(
    node: MaybeNode = None,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Let a node remove again, or without NODE everybody; first find out why it tripped."""
    answer = Client(url).post("/api/v1/breaker/reset", said(actor, reason), node=node)
    if output is Output.JSON:
        formats.as_json(answer)
        return
    for name in answer["reset"]:
        table.line(f"The breaker of {name} is reset.")
    if not answer["reset"]:
        table.line("No breaker had tripped there: nothing was changed.")
    if answer["breaker"]["tripped_at"]:
        table.line("That of the cluster has tripped: `vxctl breaker reset` without NODE resets it.")


def _path(node: str | None, network: str | None, cluster: bool, action: str) -> str:
    """The path of what is meant, which must be one thing."""
    if (node is not None) + (network is not None) + cluster != 1:
        raise OperatorError(
            "exactly one target is needed", "name one NODE, or --network NET, or --cluster"
        )
    if network is not None:
        return network_path(network, action)
    return f"/api/v1/cluster{action}" if node is None else node_path(node, action)


def _tell(answer: dict[str, Any], done: str, output: Output) -> None:
    if output is Output.JSON:
        formats.as_json(answer)
        return
    was = "" if answer["changed"] else ", as before: nothing was changed"
    table.line(f"{answer['name']} ({answer['id']}) {done}{was}")
    state = "paused" if answer["paused"] else answer["effective_mode"]
    reasons = "; ".join(answer["reasons"])
    table.line(f"All considered: {state}, because {reasons}")


def _show_breaker(answer: dict[str, Any]) -> None:
    if answer["tripped_at"]:
        table.line(
            f"TRIPPED {formats.ago(answer['tripped_at'])}: {answer['reason']}. "
            "Nothing is removed anywhere until `vxctl breaker reset`."
        )
    window = f"the last {answer['window_seconds']:g} s"
    table.line(
        f"{answer['nodes_removing']} node(s) removed devices in {window}; "
        f"{answer['nodes_allowed']} may before the cluster's breaker trips."
    )
    table.line(f"A node's own trips at {answer['node_removals']} removals.")
    if not answer["nodes"]:
        return
    table.line("")
    table.table(
        ("NODE", "ID", "REMOVALS", "BREAKER"),
        [
            (
                node["hostname"],
                node["id"],
                f"{node['removals']}/{answer['node_removals']}",
                f"tripped {formats.ago(node['tripped_at'])}: {node['reason']}"
                if node["tripped_at"]
                else "-",
            )
            for node in answer["nodes"]
        ],
        empty="",
    )
