"""The verbs `vxctl wait node|run`: wait until a condition has a status, or a run has ended."""

import time
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import typer

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.exit_status import ExitStatus
from controller.cli.client import Client, UnavailableError
from controller.cli.options import DEFAULT_URL, NodeArgument, Output, Url
from controller.cli.output import formats, table
from controller.cli.output.structured import NODE, RUN, Kind
from controller.cli.requeue import seconds_of

_POLL_SECONDS: Final = 0.5
_STATUSES: Final = ("True", "False", "Unknown")

Timeout = Annotated[
    str, typer.Option(metavar="TIME", help="Maximum time, such as 90, 60s, 5m or 1h.")
]


class _State(NamedTuple):
    """An answer of the controller, whether it is what is waited for, and in words."""

    answer: dict[str, Any]
    met: bool
    text: str


def node(
    name: NodeArgument,
    wanted: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="CONDITION[=STATUS]",
            help="Condition of the node, as Ready (nothing is blocked there) or Degraded=False (nothing is "
            "left there either); the default status is True.",
        ),
    ] = "Ready",
    timeout: Timeout = "2m",
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    type_, _, status = wanted.partition("=")
    status = (status or "True").capitalize()
    if status not in _STATUSES:
        raise UsageError(
            f"--for {wanted!r}: a status is {', '.join(_STATUSES)}",
            "--for Ready, or --for Ready=False",
        )
    client = Client(url)

    def ask() -> _State:
        found = client.get("nodes", name)
        conditions = {row["type"]: row for row in found["conditions"]}
        match = next((key for key in conditions if key.lower() == type_.lower()), None)
        if match is None and conditions:
            raise UsageError(
                f"a node has no condition {type_!r}", f"--for one of {', '.join(conditions)}"
            )
        if match is None:
            return _State(found, False, f"{found['hostname']}: not judged yet")
        row = conditions[match]
        text = f"{found['hostname']}: {match} {row['status']}, {row['reason']}: {row['message']}"
        return _State(found, row["status"] == status, text)

    _wait(ask, seconds_of(timeout), output, NODE)


def run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id or unique id prefix of a run.")],
    wanted: Annotated[
        str, typer.Option("--for", metavar="finished|succeeded", help="What to wait for.")
    ] = "finished",
    timeout: Timeout = "2m",
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    if wanted not in ("finished", "succeeded"):
        raise UsageError(f"--for {wanted!r} is not known", "--for finished, or --for succeeded")
    client = Client(url)

    def ask() -> _State:
        found = client.get("audit", run, "timeline")["run"]
        if found is None:
            raise OperatorError(
                f"the run history no longer has {run!r}", f"`vxctl audit show {run}` shows its rows"
            )
        ended = found["state"] != "running"
        text = f"run {found['id']} on {found['node_name']}: {found['state']}"
        if ended and wanted == "succeeded" and found["state"] != "succeeded":
            raise _NeverError(_State(found, False, text))
        return _State(found, ended, text)

    _wait(ask, seconds_of(timeout), output, RUN)


class _NeverError(Exception):
    """What is waited for can no longer happen."""

    def __init__(self, state: _State) -> None:
        super().__init__(state.text)
        self.state = state


def _wait(ask: Callable[[], _State], timeout: float, output: str, kind: Kind) -> None:
    """Poll until it is met or the time is over, also through a restart of the controller."""
    deadline = time.monotonic() + timeout
    begin = time.monotonic()
    away = ""
    try:
        state = ask()
        while not state.met and (left := deadline - time.monotonic()) > 0:
            table.progress(
                f"{state.text}{away} ({formats.duration(round(time.monotonic() - begin))})"
            )
            time.sleep(min(_POLL_SECONDS, left))
            try:
                state, away = ask(), ""
            except UnavailableError as error:
                away = f"; {error.problem}"
    except _NeverError as error:
        state = error.state
        timeout = 0.0
    table.progress("")
    formats.show(state.answer, output, lambda _: table.line(state.text), kind=kind, rows="")
    if not state.met:
        after = f" after {formats.duration(timeout)}" if timeout else ""
        table.note(f"not met{after}{away}")
        raise typer.Exit(ExitStatus.NO)
