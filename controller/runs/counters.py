"""Prometheus metrics of what this process did: runs closed, devices removed, errors, refusals, streams."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from contract.runtime.consumer import EXPIRED, FAILED
from controller.db.states import RunState

PREFIX: Final = "vxlan_operator_"

RUNS: Final = Counter(
    f"{PREFIX}runs_closed", "Runs that this process closed, by state.", ["state"], registry=None
)
RUN_SECONDS: Final = Histogram(
    f"{PREFIX}run_seconds",
    "Time from a run's request to its report, of runs that this process closed; lost ones are not counted.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=None,
)
REMOVALS: Final = Counter(
    f"{PREFIX}removals", "Devices removed, by the reports that this process stored.", registry=None
)
DROPPED: Final = Counter(
    f"{PREFIX}messages_dropped",
    "Messages that this process took and could not use, though it did not refuse them.",
    ["reason"],
    registry=None,
)
DATABASE_ERRORS: Final = Counter(
    f"{PREFIX}database_errors", "Database errors in this process.", registry=None
)
WATCH_ERRORS: Final = Counter(
    f"{PREFIX}watch_errors",
    "Errors, but for those of the database, in reading lists that clients follow.",
    registry=None,
)
STREAM_CLIENTS: Final = Gauge(
    f"{PREFIX}stream_clients", "Clients that follow lists of this process now.", registry=None
)
TOKENS_REFUSED: Final = Counter(
    f"{PREFIX}tokens_refused",
    "Requests that this process refused for their token: it is not valid, or its role does not suffice.",
    ["reason"],
    registry=None,
)
INVALID_TOKEN: Final = "invalid"  # noqa: S105 -- a label
INSUFFICIENT_ROLE: Final = "role"
NO_ROOM: Final = "no_room"
NOT_STORED: Final = "not_stored"
for _reason in (EXPIRED, FAILED, NO_ROOM, NOT_STORED):
    DROPPED.labels(_reason)
for _state in RunState:
    if _state is not RunState.RUNNING:
        RUNS.labels(_state.value)
for _reason in (INVALID_TOKEN, INSUFFICIENT_ROLE):
    TOKENS_REFUSED.labels(_reason)


def count_dropped(reason: str, messages: int = 1) -> None:
    """Count messages that were lost here: `EXPIRED`, `FAILED`, `NO_ROOM` or `NOT_STORED`."""
    DROPPED.labels(reason).inc(messages)


def count_run(state: RunState, removed: int, seconds: float) -> None:
    """Count a run that its report closed, its removals, and the time since its request."""
    RUNS.labels(state.value).inc()
    REMOVALS.inc(removed)
    RUN_SECONDS.observe(max(seconds, 0.0))
