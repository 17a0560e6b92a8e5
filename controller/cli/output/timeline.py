"""The timeline of a run in plain words: who asked, what was found, what was done, and how long it took."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from contract.verdicts import Stage
from controller.cli.output import formats
from controller.cli.output.audit_rows import Row, device

WORDS: Final = {
    Stage.REQUESTED: "asked for",
    Stage.VERDICT_CHANGED: "judged otherwise than before",
    Stage.DETECTED: "found to be an orphan",
    Stage.PLANNED: "written down, to be removed",
    Stage.REFUSED: "left alone: it had changed when it was read again",
    Stage.APPLIED: "removed, as the kernel confirmed",
    Stage.VANISHED: "gone by itself before it could be removed",
    Stage.FAILED: "not removed: the kernel refused",
    Stage.VERIFIED: "verified: a second look shows that it is gone",
    Stage.LINGERING: "still there after its removal, as a second look shows",
    Stage.UNCERTAIN: "outcome not known: the worker stopped in between, or the kernel did not answer",
    Stage.REQUEUED: "a run was asked for by hand",
    Stage.PAUSED: "paused",
    Stage.RESUMED: "resumed",
    Stage.MODE_CHANGED: "mode changed",
    Stage.BREAKER_TRIPPED: "breaker tripped: nothing more is removed until somebody resets it",
    Stage.BREAKER_RESET: "breaker reset",
    Stage.PRUNED: "old rows archived and deleted",
}
_LATE_SECONDS: Final = 60.0
_INDENT: Final = " " * 38


def tell(answer: dict[str, Any]) -> Iterator[str]:
    """The lines of a timeline, as the API gives it."""
    run, rows = answer["run"], answer["rows"]
    run_id = run["id"] if run is not None else rows[0]["run_id"]
    if run_id is not None:
        yield from _run(run, run_id, rows)
    about: dict[str, list[Row]] = {}
    for row in rows:
        about.setdefault(_subject(row), []).append(row)
    for subject, its in about.items():
        yield ""
        yield subject
        yield from _steps(its)


def _run(run: dict[str, Any] | None, run_id: str, rows: Sequence[Row]) -> Iterator[str]:
    if run is None:
        first = rows[0]
        yield f"Run {run_id} on node {first['node_name']} ({first['node_id']})"
        yield "  The run history no longer has it; this is what the audit trail says."
        return
    yield f"Run {run_id} on node {run['node_name']} ({run['node_id']})"
    counts = f"{run['devices']} device(s), {run['orphans']} orphan(s), {run['removed']} removed"
    last = None
    for name, words in (
        ("requested_at", f"asked for: {'; '.join(run['reasons'])}"),
        ("started_at", "the worker began to look, by the node's clock"),
        ("finished_at", f"the worker was done: {counts}"),
        ("closed_at", run["state"] if run["error"] is None else f"{run['state']}: {run['error']}"),
    ):
        if run[name] is not None:
            yield _line(run[name], last, words)
            last = run[name]
    if run["state"] == "running":
        yield f"{_INDENT}it is still under way"
    if not rows:
        yield "  It found nothing new, so the audit trail has no row of it."


def _subject(row: Row) -> str:
    if row["name"] is not None:
        netns = "the host namespace" if row["netns"] == "host" else f"namespace {row['netns']}"
        network = "no known network"
        if row["network_id"] is not None:
            network = f"network {row['network_name'] or '?'} ({row['network_id']})"
        return f"Device {device(row)} in {netns}: VNI {row['vni']}, UDP port {row['port']}, of {network}"
    if row["network_id"] is not None:
        return f"Network {row['network_name'] or '?'} ({row['network_id']})"
    if row["run_id"] is not None:
        return "The run"
    if row["node_id"] is not None:
        return f"Node {row['node_name']} ({row['node_id']})"
    return "The cluster"


def _steps(rows: Sequence[Row]) -> Iterator[str]:
    last = evidence = None
    for row in rows:
        urgency = "" if row["urgency"] is None else f" ({row['urgency']})"
        words = f"{WORDS[Stage(row['stage'])]}{urgency}: {row['reason']}"
        yield _line(row["at"], last, words)
        last = row["at"]
        if row["evidence"] not in (None, evidence):
            evidence = row["evidence"]
            yield f"{_INDENT}evidence: {evidence}"
        yield f"{_INDENT}on the word of {row['actor']}; row {row['id']}" + _late(row)


def _late(row: Row) -> str:
    late = _seconds(row["at"], row["stored_at"])
    return f", which came {formats.length(late)} later" if late > _LATE_SECONDS else ""


def _line(moment: str, last: str | None, words: str) -> str:
    took = "" if last is None else f"+{formats.length(_seconds(last, moment))}"
    return f"  {formats.clock(moment)}  {took:>9}  {words}"


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
