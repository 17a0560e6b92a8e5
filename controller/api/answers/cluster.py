"""Answers about the cluster, and about the status of everything."""

from collections.abc import Mapping
from datetime import datetime
from typing import Self

from contract.verdicts import Mode
from controller.api.answers.base import Answer
from controller.api.answers.nodes import Conditions, NodeAnswer
from controller.conditions.model import Stored
from controller.db.models import Cluster


class ClusterAnswer(Answer):
    """The Swarm, and the age of its reading."""

    swarm_id: str
    data_path_port: int
    synced_at: datetime
    sync_error: str | None
    sync_error_at: datetime | None
    sync_reason: str | None
    sync_seconds: float | None
    sync_share: float | None
    sync_manager: str | None
    """Docker API of the manager that the last full reading asked; null: there is only one."""
    managers_away: str | None
    """Why other managers could not be asked; null: they could, or there are none."""
    mode: Mode | None
    """Set by a person, instead of the settings' mode; null: not set."""
    mode_at: datetime | None
    """When a person last set or removed it."""
    mode_by: str | None
    mode_reason: str | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    paused_until: datetime | None
    """When the pause ends by itself; null: when it is resumed."""
    breaker_tripped_at: datetime | None
    breaker_reason: str | None
    conditions: Conditions
    """The stored ones, and those that the answering process knows by itself."""

    @classmethod
    def of(cls, cluster: Cluster, conditions: Stored) -> Self:
        """Build the answer; `conditions`: as of now."""
        return cls.from_row(cluster, conditions=conditions)


class StatusAnswer(Answer):
    """The status of everything."""

    version: str
    mode: str
    """Of the controller's settings."""
    effective_mode: Mode
    """Everywhere, by settings, decisions and the breaker: at a node or network it can be stricter."""
    paused: bool
    """Whether the cluster is paused: no runs are started."""
    mode_reasons: list[str]
    """Where the effective mode comes from."""
    leader: str | None
    """The controller that leads, HOST:PID:random; null: none at the moment."""
    leading: bool
    """Whether the answering controller leads."""
    conditions: Conditions
    """What the answering process knows by itself, also before the Swarm was read."""
    conditions_at: datetime | None
    """When the stored conditions of the cluster and all nodes were last derived; null: not yet."""
    cluster: ClusterAnswer | None
    readiness: Mapping[str, Mapping[str, int]]
    """The number of nodes by status and reason of `Ready`."""
    left_on_ready: Mapping[str, int]
    """The number of nodes that are ready and yet degraded, stalled or paused, by reason."""
    oldest_look_at: datetime | None
    """When the node was looked at that nobody has looked at for longest; null: none yet."""
    nodes: list[NodeAnswer]
    """Some of the nodes: not ready, then ready with something left, then the others."""
