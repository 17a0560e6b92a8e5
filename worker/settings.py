"""The settings of `vxlan-worker run`."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from contract.messages import SwarmId
from contract.runtime.settings import BrokerUrl, LogLevel, RemovalSettings


class WorkerSettings(RemovalSettings):
    """Settings of `vxlan-worker run`."""

    node_id: Annotated[
        SwarmId, Field(description="Swarm id of this node: docker info -f '{{.Swarm.NodeID}}'")
    ]
    broker_url: BrokerUrl = SecretStr("redis://127.0.0.1:6379/0")
    mode: Annotated[
        Literal["observe", "enforce"],
        Field(description="observe: judge and report only, whatever the controller's mode"),
    ] = "enforce"
    max_removals_per_run: Annotated[
        int, Field(ge=1, le=10_000, description="maximum number of removals in one run")
    ] = 100
    silence_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="seconds without a request before the worker tests its broker connection",
        ),
    ] = 60.0
    log_level: LogLevel = "info"
