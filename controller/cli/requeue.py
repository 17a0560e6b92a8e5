"""The verb that asks for a run by hand, and can follow it to its end."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import uuid4

import typer

from contract.runtime.errors import OperatorError
from contract.runtime.text import printable
from controller.cli.client import Client, node_path
from controller.cli.options import (
    DEFAULT_URL,
    Actor,
    Form,
    NodeArgument,
    Reason,
    Url,
    said,
)
from controller.cli.output import formats, table
from controller.cli.output.formats import Output

_FAILED: Final = 1
_TIMED_OUT: Final = 3
_POLL_SECONDS: Final = 0.2
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_MAX_LENGTH: Final = 86_400


def install(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(requeue)


def requeue(
    node: NodeArgument,
    reason: Reason = None,
    actor: Actor = None,
    token: Annotated[
        str | None,
        typer.Option(help="Your name for this request: told again, it asks for nothing more."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Follow the run to its end. Exit status: 0 it succeeded, 1 it did not, "
            "2 an error, 3 time-out.",
        ),
    ] = False,
    timeout: Annotated[
        str, typer.Option(help="How long --wait waits: 90, 60s, 5m, 1h.", metavar="TIME")
    ] = "60s",
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Look at a node now, whatever its backoff says."""
    seconds = _seconds(timeout)
    client = Client(url)
    body = said(actor, reason) | {"token": token or str(uuid4())}
    asked = client.post(node_path(node, "/requeue"), body)
    as_table = output is Output.TABLE
    if as_table:
        table.line(_what_comes(asked))
    if not wait:
        if not as_table:
            formats.as_json(asked)
        return
    ended = _follow(client, asked, seconds)
    if as_table:
        for line in _timeline(ended):
            table.line(line)
    else:
        formats.as_json(ended.request | {"audit": ended.audit})
    if ended.trouble is not None:
        sys.stderr.write(printable(ended.trouble) + "\n")
    raise typer.Exit(ended.status)


@dataclass(frozen=True, slots=True)
class _Ended:
    """What `--wait` saw last.

    Attributes:
        request: as the API told it.
        audit: the rows of the run, in the order in which they were stored.
        status: the exit status.
        trouble: why the status is not 0, in words; None where it is.
    """

    request: dict[str, Any]
    audit: list[dict[str, Any]]
    status: int
    trouble: str | None = None


def _follow(
    client: Client,
    asked: dict[str, Any],
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _Ended:
    """Ask again and again until the run is closed or the time is over.

    A controller that does not answer meanwhile (it is started anew, say) is asked again as well.
    """
    deadline = monotonic() + seconds
    now, trouble = asked, None
    while not _is_closed(now):
        if monotonic() >= deadline:
            stands = f"not done after {seconds:g} s; the request stands (token {asked['token']})"
            return _Ended(now, [], _TIMED_OUT, stands + ("" if trouble is None else f"; {trouble}"))
        sleep(_POLL_SECONDS)
        try:
            now = client.get(f"/api/v1/requeues/{quote(asked['token'], safe='')}")
            trouble = None
        except OperatorError as error:
            trouble = error.problem
    run = now["run"]
    audit = client.get(f"/api/v1/audit/{run['id']}/timeline")["rows"]
    if run["state"] == "succeeded":
        return _Ended(now, audit, 0)
    return _Ended(now, audit, _FAILED, f"the run {_HOW.get(run['state'], run['state'])}")


_HOW: Final = {
    "failed": "failed; it is tried again",
    "refused": "was refused by the worker; it is tried again",
    "lost": "was lost: no report came; it is tried again when the worker is back",
}


def _is_closed(asked: dict[str, Any]) -> bool:
    return asked["run"] is not None and asked["run"]["state"] != "running"


def _what_comes(asked: dict[str, Any]) -> str:
    name = f"{asked['node_name']} ({asked['node_id']})"
    if _is_closed(asked):
        return f"{name}: this was asked for before, and run {asked['run']['id']} answered it"
    if asked["waits_for_run"]:
        return f"{name} is being looked at; it is looked at once more after that"
    if asked["node_state"] == "down":
        return f"{name} is down, as the Swarm says; it is looked at when it is up again"
    return f"{name} is looked at now"


def _timeline(ended: _Ended) -> list[str]:
    """What the run did, in lines."""
    run = ended.request["run"]
    if run is None:
        return []
    counts = f"{run['devices']} device(s), {run['orphans']} orphan(s), {run['removed']} removed"
    lines = [f"run {run['id']}: {run['state']}, {counts}"]
    if run["error"]:
        lines.append(f"  {run['error']}")
    for row in ended.audit:
        device = "" if row["name"] is None else f" {row['name']} in {row['netns']}"
        lines.append(f"  {formats.clock(row['at'])} {row['stage']}{device}: {row['reason']}")
    return lines


def _seconds(given: str) -> float:
    """How long a person means.

    Raises:
        OperatorError: it is no time, or none that can be waited for.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smh]?)", given)
    seconds = 0.0 if match is None else float(match[1]) * _UNITS[match[2]]
    if not 0 < seconds <= _MAX_LENGTH:
        raise OperatorError(
            f"--timeout {given!r} is no time between 0 and 24 hours", "give it as 60s, 5m or 1h"
        )
    return seconds
