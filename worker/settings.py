"""The settings of `vxlan-worker run`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from contract.runtime.broker_settings import BrokerSettings
from contract.runtime.settings import LogFormat, LogLevel, RemovalSettings
from contract.runtime.startup import WaitAtStart


class WorkerSettings(RemovalSettings, BrokerSettings):
    """Settings of `vxlan-worker run`."""

    node_id: Annotated[str, StringConstraints(pattern=r"^([0-9a-z]{25})?$")] = Field(
        "",
        description="Swarm id of this node; by default, dockerd is asked, and the id is followed",
    )
    docker_socket: Path = Field(
        Path("/var/run/docker.sock"),
        description="dockerd's API on this node, asked for the node's Swarm id alone; may be missing",
    )
    mode: Literal["observe", "enforce"] = Field(
        "enforce", description="observe: judge and report only, whatever the controller's mode"
    )
    max_removals_per_run: int = Field(
        100, ge=1, le=10_000, description="maximum number of removals in one run"
    )
    silence_seconds: float = Field(
        60.0, ge=1, le=3600, description="seconds without a request before the broker is tested"
    )
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    wait_at_start: WaitAtStart = "auto"
