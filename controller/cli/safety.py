"""The verbs that hold the operator back: `pause`, `resume`, `mode`, `breaker`."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import typer

from contract.runtime.errors import UsageError
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Actor, MaybeNode, Output, Reason, Url, decision
from controller.cli.output import formats, structured, table
from controller.cli.output.columns import plain
from controller.cli.output.structured import Kind
from controller.timespec import parse_duration

NetworkTarget = Annotated[
    str | None,
    typer.Option(metavar="NET", help="Instead of NODE: a network's id, unique id prefix or name."),
]
ClusterTarget = Annotated[bool, typer.Option("--cluster", help="Instead of NODE: the whole Swarm.")]


def pause(
    node: MaybeNode = None,
    network: NetworkTarget = None,
    cluster: ClusterTarget = False,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="End the pause after this time: 30m, 2h or 1d."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End the pause at this ISO 8601 time."),
    ] = None,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    target, body = _target(node, network, cluster), decision(actor, reason)
    _decide("pause", target, body | _end(duration, until), "is paused", url, output)


def resume(
    node: MaybeNode = None,
    network: NetworkTarget = None,
    cluster: ClusterTarget = False,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    target, body = _target(node, network, cluster), decision(actor, reason)
    _decide("resume", target, body, "is not paused manually", url, output)


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
    output: Output = "table",
) -> None:
    target, body = _target(node, network, cluster), decision(actor, reason) | {"mode": mode}
    _decide("mode", target, body, f"has the mode {mode}", url, output)


def breaker(context: typer.Context, url: Url = DEFAULT_URL, output: Output = "table") -> None:
    if context.invoked_subcommand is None:
        formats.show(
            Client(url).get("breaker"), output, _show_breaker, kind=structured.NODE, rows="nodes"
        )


def reset(
    node: MaybeNode = None,
    reason: Reason = None,
    actor: Actor = None,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    answer = Client(url).post("breaker", "reset", body=decision(actor, reason), node=node)
    formats.show(answer, output, _show_reset)


def _end(duration: str | None, until: str | None) -> dict[str, float | str]:
    """Return the end of a pause as the API takes it."""
    if duration is not None and until is not None:
        raise UsageError("--for and --until exclude each other", "give one of them")
    if duration is not None:
        try:
            seconds = parse_duration(duration).total_seconds()
        except (ValueError, OverflowError):
            seconds = 0.0
        if seconds <= 0:
            problem = f"--for {duration!r} is not a duration"
            raise UsageError(problem, "write it as 90s, 30m, 2h or 1d")
        return {"seconds": seconds}
    if until is None:
        return {}
    try:
        end = datetime.fromisoformat(until)
        return {"until": (end if end.tzinfo is not None else end.astimezone()).isoformat()}
    except (ValueError, OverflowError):
        raise UsageError(
            f"--until {until!r} is not a time", "write it as 2026-05-01T14:00, or use --for 2h"
        ) from None


def _target(node: str | None, network: str | None, cluster: bool) -> tuple[str, ...]:
    """Return the path of the one target."""
    if (node is not None) + (network is not None) + cluster != 1:
        raise UsageError(
            "exactly one target is needed", "give one of NODE, --network NET and --cluster"
        )
    if network is not None:
        return ("networks", network)
    return ("cluster",) if node is None else ("nodes", node)


def _decide(
    action: str, target: tuple[str, ...], body: dict[str, Any], done: str, url: str, output: str
) -> None:
    """Post a decision, and say what is now so."""
    answer = Client(url).post(*target, action, body=body)
    kind = Kind.of(target[0].removesuffix("s"), "name", "id")
    formats.show(answer, output, partial(_show_decision, done), kind=kind)


def _show_decision(done: str, answer: dict[str, Any]) -> None:
    unchanged = "" if answer["changed"] else ", as before: nothing was changed"
    table.line(f"{answer['name']} ({answer['id']}) {done}{unchanged}")
    if answer["paused_until"]:
        end = answer["paused_until"]
        table.line(f"The pause ends by itself {formats.ago(end)} ({formats.clock(end)[:-4]})")
    effective = "paused" if answer["paused"] else answer["effective_mode"]
    table.line(f"Effective mode: {effective} ({'; '.join(answer['reasons'])})")


def _show_reset(answer: dict[str, Any]) -> None:
    lines = [f"The breaker of {name} is reset." for name in answer["reset"]]
    table.line(*(lines or ["No breaker had tripped there: nothing was changed."]))
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
        f"{answer['window_seconds']:g} s; the cluster breaker trips above {answer['nodes_allowed']}.",
        f"The breaker of a node trips at {limit} removals.",
    )
    if answer["nodes"]:
        columns = (
            ("NODE", lambda node: node["hostname"]),
            *plain("ID"),
            ("REMOVALS", lambda node: f"{node['removals']}/{limit}"),
            ("BREAKER", _tripped),
        )
        table.line("")
        table.table(columns, answer["nodes"], empty="")


def _tripped(node: dict[str, Any]) -> str:
    if not node["tripped_at"]:
        return "-"
    return f"tripped {formats.ago(node['tripped_at'])}: {node['reason']}"
