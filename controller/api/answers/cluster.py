"""What is said of the cluster, and of everything at a glance."""

from datetime import datetime

from contract.verdicts import Mode
from controller.api.answers.base import Answer
from controller.api.answers.nodes import Conditions, NodeAnswer


class ClusterAnswer(Answer):
    """The Swarm, and how fresh what is known of it is."""

    swarm_id: str
    data_path_port: int
    synced_at: datetime
    sync_error: str | None
    sync_error_at: datetime | None
    sync_reason: str | None
    sync_seconds: float | None
    sync_share: float | None
    mode: Mode | None
    """Set by a person, over the settings; null: as the settings say."""
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    breaker_tripped_at: datetime | None
    breaker_reason: str | None
    conditions: Conditions


class StatusAnswer(Answer):
    """Everything at a glance."""

    version: str
    mode: str
    """As the settings say."""
    leader: str | None
    """The controller that leads, HOST:PID:random; None: nobody does at the moment."""
    leading: bool
    """Whether it is the one that answers."""
    cluster: ClusterAnswer | None
    readiness: dict[str, dict[str, int]]
    """How many nodes have which status of `Ready`, and for which reason."""
    nodes: list[NodeAnswer]
    """Some of the nodes, those that are not ready first."""
