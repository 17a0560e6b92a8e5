"""The verbs that hold the operator back: `pause`, `resume`, `mode`, `breaker`."""

from functools import partial
from typing import Annotated, Any, Literal

import typer

from contract.runtime.errors import OperatorError
from controller.cli.client import Client, network_path, node_path
from controller.cli.options import DEFAULT_URL, Actor, Output, OutputOption, Reason, Url, decision
from controller.cli.output import formats, table
from controller.cli.output.columns import value

MaybeNode = Annotated[
    str | None, typer.Argument(metavar="NODE", help="Id, unique id prefix or hostname of a node.")
]
NetworkTarget = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NET",
        help="Instead of NODE: a network, by id, unique id prefix or name.",
    ),
]
ClusterTarget = Annotated[bool, typer.Option("--cluster", help="Instead of NODE: the whole Swarm.")]


def pause(
    node: MaybeNode = None,
    network: NetworkTarget = None,
    cluster: ClusterTarget = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: OutputOption = "table",
) -> None:
    """Pause runs of a node or of the cluster, or removals of a network's devices."""
    path = _path(node, network, cluster, "/pause")
    _decide(url, path, decision(actor, reason), "is paused", output)


def resume(
    node: MaybeNode = None,
    network: NetworkTarget = None,
    cluster: ClusterTarget = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: OutputOption = "table",
) -> None:
    """Undo a pause, and reconcile the nodes concerned now."""
    path = _path(node, network, cluster, "/resume")
    _decide(url, path, decision(actor, reason), "is not paused manually", output)


def mode(
    mode: Annotated[
        Literal["observe", "enforce", "default"],
        typer.Argument(
            metavar="MODE",
            help="observe: judge and report only; enforce: remove orphans; default: undo `vxctl mode`.",
        ),
    ],
    node: MaybeNode = None,
    network: NetworkTarget = None,
    cluster: ClusterTarget = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: OutputOption = "table",
) -> None:
    """Set the mode of a node, a network or the cluster; the strictest mode wins."""
    path = _path(node, network, cluster, "/mode")
    body = decision(actor, reason) | {"mode": mode}
    _decide(url, path, body, f"has the mode {mode}", output)


def breaker(context: typer.Context, url: Url = DEFAULT_URL, output: OutputOption = "table") -> None:
    """Show the breaker: removals, limits, and where it has tripped."""
    if context.invoked_subcommand is None:
        formats.show(Client(url).get("/api/v1/breaker"), output, _show_breaker)


def reset(
    node: MaybeNode = None,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: OutputOption = "table",
) -> None:
    """Allow removals again on a node, or everywhere without NODE. First find out why it tripped."""
    body = decision(actor, reason)
    formats.show(Client(url).post("/api/v1/breaker/reset", body, node=node), output, _show_reset)


def _path(node: str | None, network: str | None, cluster: bool, action: str) -> str:
    """Return the path of the one target."""
    if (node is not None) + (network is not None) + cluster != 1:
        raise OperatorError(
            "exactly one target is needed", "give one of NODE, --network NET and --cluster"
        )
    if network is not None:
        return network_path(network, action)
    return f"/api/v1/cluster{action}" if node is None else node_path(node, action)


def _decide(url: str, path: str, body: dict[str, str], done: str, output: Output) -> None:
    formats.show(Client(url).post(path, body), output, partial(_show_decision, done))


def _show_decision(done: str, answer: dict[str, Any]) -> None:
    unchanged = "" if answer["changed"] else ", as before: nothing was changed"
    table.line(f"{answer['name']} ({answer['id']}) {done}{unchanged}")
    effective = "paused" if answer["paused"] else answer["effective_mode"]
    table.line(f"Effective mode: {effective} ({'; '.join(answer['reasons'])})")


def _show_reset(answer: dict[str, Any]) -> None:
    for name in answer["reset"]:
        table.line(f"The breaker of {name} is reset.")
    if not answer["reset"]:
        table.line("No breaker had tripped there: nothing was changed.")
    if answer["breaker"]["tripped_at"]:
        table.line("The cluster breaker has tripped, too: reset it by `vxctl breaker reset`.")


def _show_breaker(answer: dict[str, Any]) -> None:
    if answer["tripped_at"]:
        table.line(
            f"TRIPPED {formats.ago(answer['tripped_at'])}: {answer['reason']}. "
            "Nothing is removed anywhere until `vxctl breaker reset`."
        )
    limit = answer["node_removals"]
    table.line(
        f"{answer['nodes_removing']} node(s) removed devices in the last "
        f"{answer['window_seconds']:g} s; the cluster breaker trips above {answer['nodes_allowed']}."
    )
    table.line(f"The breaker of a node trips at {limit} removals.")
    if answer["nodes"]:
        columns = (
            ("NODE", value("hostname")),
            ("ID", value("id")),
            ("REMOVALS", lambda node: f"{node['removals']}/{limit}"),
            ("BREAKER", _tripped),
        )
        table.line("")
        table.table(columns, answer["nodes"], empty="")


def _tripped(node: dict[str, Any]) -> str:
    if not node["tripped_at"]:
        return "-"
    return f"tripped {formats.ago(node['tripped_at'])}: {node['reason']}"
