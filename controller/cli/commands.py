"""The typer application `vxctl`: the tree of its verbs."""

from collections.abc import Callable
from typing import Any

import typer

from controller.cli import (
    audit,
    chain,
    db,
    describe,
    diff,
    doctor,
    events,
    explain,
    get,
    requeue,
    safety,
    serve,
    status,
    tree,
    version,
    wait,
)

app = typer.Typer(
    name="vxctl",
    help="Keep Docker Swarm nodes free of orphaned VXLAN devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _add(group: typer.Typer, *verbs: Callable[..., None]) -> None:
    for verb in verbs:
        group.command()(verb)


def _group(name: str, *verbs: Callable[..., None], **options: Any) -> None:
    """Add a group of verbs; without a verb it does its `callback`, or shows its help."""
    alone = "callback" in options
    group = typer.Typer(invoke_without_command=alone, no_args_is_help=not alone, **options)
    _add(group, *verbs)
    app.add_typer(group, name=name)


_add(app, serve.controller, serve.up, status.status, explain.explain, requeue.requeue)
_add(app, events.events, diff.diff, diff.plan)
_add(app, safety.pause, safety.resume, safety.mode, version.version, doctor.doctor)
_group(
    "get",
    get.nodes,
    get.networks,
    get.devices,
    get.runs,
    help="List nodes, networks, devices or runs.",
)
_group("describe", describe.node, describe.network, help="Show all about a node or a network.")
_group("tree", tree.network, tree.node, help="Show what hangs on a network or a node.")
_group("wait", wait.node, wait.run, help="Wait for a condition of a node, or a run.")
_group("breaker", safety.reset, callback=safety.breaker)
_group("audit", audit.show, audit.stats, chain.verify, chain.export, callback=audit.audit)
_group("db", db.current, db.upgrade, db.check, help="Show, upgrade or check the database schema.")
