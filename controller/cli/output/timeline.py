"""The timeline of a run in plain words: requests, findings, actions, and the time they took."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from contract.verdicts import STAGE_WORDS, Stage
from controller.cli.output import formats, phrases, table
from controller.cli.output.table import Row
from controller.db.states import with_claim

_LATE_SECONDS: Final = 60.0
_INDENT: Final = " " * 38


def show(answer: dict[str, Any]) -> None:
    """Print the timeline that the API gives."""
    run, rows = answer["run"], answer["rows"]
    run_id = run["id"] if run is not None else rows[0]["run_id"]
    if run_id is not None:
        table.line(*_run(run, run_id, rows))
    if answer.get("trace_url") is not None:
        table.line(f"  Trace: {answer['trace_url']}")
    subjects: dict[str, list[Row]] = {}
    for row in rows:
        subjects.setdefault(_subject(row), []).append(row)
    for subject, about in subjects.items():
        table.line("", subject, *_steps(about))


def _run(run: dict[str, Any] | None, run_id: str, rows: Sequence[Row]) -> Iterator[str]:
    on = rows[0] if run is None else run
    yield f"Run {run_id} on node {on['node_name']} ({on['node_id']})"
    if run is None:
        yield "  The run history no longer has it; this is from the audit trail."
        return
    last = None
    for name, text in (
        ("requested_at", f"requested: {'; '.join(run['reasons'])}"),
        ("started_at", "the worker began, by the node's clock"),
        ("finished_at", f"the worker finished: {phrases.run_counts(run)}"),
        ("closed_at", run["state"] if run["error"] is None else f"{run['state']}: {run['error']}"),
    ):
        if run[name] is not None:
            yield _line(run[name], last, text)
            last = run[name]
    if run["state"] == "running":
        yield f"{_INDENT}it is under way"
    if not rows:
        yield "  It found nothing new, so it has no rows in the audit trail."


def _subject(row: Row) -> str:
    network = "no known network"
    if row["network_id"] is not None:
        network = f"network {row['network_name'] or '?'} ({row['network_id']})"
    if row["name"] is not None:
        netns = "the host namespace" if row["netns"] == "host" else f"namespace {row['netns']}"
        return (
            f"Device {formats.device(row)} in {netns}: VNI {row['vni']}, UDP port {row['port']}, "
            f"of {network}"
        )
    if row["network_id"] is not None:
        return f"N{network.removeprefix('n')}"
    if row["run_id"] is not None:
        return "The run"
    if row["node_id"] is not None:
        return f"Node {row['node_name']} ({row['node_id']})"
    if row["stage"] in (Stage.TOKEN_CREATED, Stage.TOKEN_REVOKED):
        return "The API"
    return "The cluster"


def _steps(rows: Sequence[Row]) -> Iterator[str]:
    last = evidence = None
    for row in rows:
        urgency = "" if row["urgency"] is None else f" ({row['urgency']})"
        yield _line(
            row["at"], last, f"{STAGE_WORDS[Stage(row['stage'])]}{urgency}: {row['reason']}"
        )
        last = row["at"]
        if row["evidence"] not in (None, evidence):
            evidence = row["evidence"]
            yield f"{_INDENT}evidence: {evidence}"
        late = formats.seconds_between(row["at"], row["stored_at"])
        stored = f", stored {formats.duration(late)} later" if late > _LATE_SECONDS else ""
        yield f"{_INDENT}actor: {with_claim(row['actor'], row.get('claimed_name'))}; row {row['id']}{stored}"


def _line(time: str, last: str | None, text: str) -> str:
    took = "" if last is None else f"+{formats.duration(formats.seconds_between(last, time))}"
    return f"  {formats.clock(time)}  {took:>9}  {text}"
