"""Prometheus counters of what this process did: runs closed, devices removed, errors."""

from typing import Final

from prometheus_client import Counter

from controller.db.states import RunState

PREFIX: Final = "vxlan_operator_"

RUNS: Final = Counter(
    f"{PREFIX}runs_closed", "Runs that this process closed, by state.", ["state"], registry=None
)
REMOVALS: Final = Counter(
    f"{PREFIX}removals", "Devices removed, by the reports that this process stored.", registry=None
)
DATABASE_ERRORS: Final = Counter(
    f"{PREFIX}database_errors", "Database errors in this process.", registry=None
)
WATCH_ERRORS: Final = Counter(
    f"{PREFIX}watch_errors",
    "Errors, but for those of the database, in reading lists that clients follow.",
    registry=None,
)
for _state in RunState:
    if _state is not RunState.RUNNING:
        RUNS.labels(_state.value)


def count_run(state: RunState, removed: int) -> None:
    """Count a closed run and its removals."""
    RUNS.labels(state.value).inc()
    REMOVALS.inc(removed)
