"""The verb `vxctl requeue`: request a run, and with `--wait` follow it to its end."""

import sys
import time
from typing import Annotated, Any, Final
from uuid import uuid4

import typer

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.exit_status import ExitStatus
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Actor, NodeArgument, Output, Reason, Url, decision
from controller.cli.output import formats, phrases, table
from controller.cli.output.structured import Kind
from controller.timespec import parse_duration

_POLL_SECONDS: Final = 0.2
_MAX_TIMEOUT_SECONDS: Final = 86_400
REQUEST: Final = Kind.of("node", "node_name", "node_id")
_ENDS: Final = {
    "failed": "failed; the controller will retry",
    "refused": "was refused by the worker; the controller will retry",
    "lost": "was lost: no report came; the controller will retry when the worker is back",
}


def requeue(
    node: NodeArgument,
    reason: Reason = None,
    actor: Actor = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN", help="Idempotency token: the same again requests nothing more."
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait for the end of the run. Exit status: 1 it did not succeed, 3 timeout.",
        ),
    ] = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="Timeout of --wait, such as 90, 60s, 5m or 1h.")
    ] = "60s",
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    seconds = seconds_of(timeout)
    client = Client(url)
    body = decision(actor, reason) | {"token": token or str(uuid4())}
    request = client.post("nodes", node, "requeue", body=body)

    def announce(request: dict[str, Any]) -> None:
        table.line(_announce(request, _unknown(client, request)))
        sys.stdout.flush()

    if not wait:
        formats.show(request, output, announce, kind=REQUEST)
        if request.get("not_sent_because"):
            raise typer.Exit(ExitStatus.NO)
        return
    if output in formats.TEXT:
        announce(request)
    request, status, problem = _follow(client, request, seconds)
    formats.show(request, output, _show_run, kind=REQUEST)
    if problem is not None:
        table.note(problem)
    raise typer.Exit(status)


def _follow(
    client: Client, request: dict[str, Any], timeout: float
) -> tuple[dict[str, Any], ExitStatus, str | None]:
    """Poll until the run is closed or the time is over, also through a restart of the controller.

    Returns:
        The last answer with the run's audit rows, the exit status, and why it is not 0.
    """
    deadline = time.monotonic() + timeout
    problem = ""
    while not _is_closed(request):
        if time.monotonic() >= deadline:
            message = (
                f"not done after {timeout:g} s; the request remains (token {request['token']})"
                + (f"; not sent: {because}" if (because := request.get("not_sent_because")) else "")
            )
            return (
                request | {"audit": []},
                ExitStatus.NO,
                message + (problem or _trouble(client, request)),
            )
        time.sleep(_POLL_SECONDS)
        try:
            request = client.get("requeues", request["token"])
            problem = ""
        except OperatorError as error:
            problem = f"; {error.problem}"
    run = request["run"]
    request |= {"audit": client.get("audit", run["id"], "timeline")["rows"]}
    if run["state"] == "succeeded":
        return request, ExitStatus.DONE, None
    return request, ExitStatus.ERROR, f"the run {_ENDS.get(run['state'], run['state'])}"


def _unknown(client: Client, request: dict[str, Any]) -> str:
    """Return why nothing is known of the node now, so that no run may answer; empty: it is known."""
    if _is_closed(request) or request.get("not_sent_because"):
        return ""
    try:
        conditions = client.get("nodes", request["node_id"])["conditions"]
    except OperatorError as error:
        return error.problem
    return "".join(
        phrases.sentences(
            row for row in conditions if row["type"] == "Ready" and row["status"] == "Unknown"
        )
    )


def _trouble(client: Client, request: dict[str, Any]) -> str:
    """Return what is wrong with the node, which may be why no run has answered."""
    try:
        found = client.get("nodes", request["node_id"])
    except OperatorError as error:
        return f"; {error.problem}"
    return "".join(f"; {sentence}" for sentence in phrases.sentences(phrases.abnormal(found)))


def _is_closed(request: dict[str, Any]) -> bool:
    return request["run"] is not None and request["run"]["state"] != "running"


def _announce(request: dict[str, Any], unknown: str) -> str:
    name = f"{request['node_name']} ({request['node_id']})"
    if _is_closed(request):
        return f"{name}: run {request['run']['id']} already answered this request"
    if request.get("not_sent_because"):
        return f"{name}: the request is stored, but not sent: {request['not_sent_because']}"
    if unknown:
        return f"{name}: the request is stored, but nothing is known of the node now: {unknown}"
    if request["waits_for_run"]:
        return f"{name}: a run is under way; another one follows"
    return f"{name}: the run starts now"


def _show_run(request: dict[str, Any]) -> None:
    run = request["run"]
    if run is None:
        return
    if run["state"] == "running":
        table.line(f"run {run['id']}: no report has come yet")
        return
    table.line(f"run {run['id']}: {run['state']}, {phrases.run_counts(run)}")
    if run["error"]:
        table.line(f"  {run['error']}")
    for row in request["audit"]:
        device = "" if row["name"] is None else f" {row['name']} in {row['netns']}"
        table.line(f"  {formats.clock(row['at'])} {row['stage']}{device}: {row['reason']}")


def seconds_of(text: str) -> float:
    """Read the value of `--timeout`; seconds need no unit."""
    try:
        seconds = parse_duration(f"{text}s" if text[-1:].isdigit() else text).total_seconds()
    except (ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        raise UsageError(
            f"--timeout {text!r} is not a time between 0 and 24 hours", "write it as 60s, 5m or 1h"
        )
    return seconds
