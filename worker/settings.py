"""The worker's settings."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr

from contract.messages import SwarmId
from contract.runtime.settings import (
    UNCLAIMED_SECONDS,
    BrokerUrl,
    Settings,
    minutes,
)


class WorkerSettings(Settings):
    """Settings of `vxlan-worker run`."""

    program: ClassVar[str] = "vxlan-worker run"

    node_id: Annotated[
        SwarmId,
        Field(description="Swarm id of this node: docker info -f '{{.Swarm.NodeID}}'"),
    ]
    broker_url: BrokerUrl = SecretStr("redis://127.0.0.1:6379/0")
    journal: Annotated[
        Path, Field(description="file that records every removal before it is made")
    ] = Path("/var/lib/vxlan-operator/journal.jsonl")
    grace_seconds: Annotated[
        float,
        Field(
            ge=0.2,
            le=3600,
            description="how long a device whose network is not wanted here must have carried nothing",
        ),
    ] = 5.0
    unclaimed_seconds: Annotated[
        float,
        Field(
            le=86_400,
            description="how long nobody must have taken up a device whose network is wanted here, "
            "without any rejected task; at least 60, or 0: such a device is never removed for that",
        ),
        AfterValidator(minutes),
    ] = UNCLAIMED_SECONDS
    mode: Annotated[
        Literal["observe", "enforce"],
        Field(description="the most this node allows; observe: judge and report only"),
    ] = "enforce"
    max_removals_per_run: Annotated[
        int, Field(ge=1, le=10_000, description="at most so many removals in one run")
    ] = 100
    silence_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="without a request for so long, the worker tests its connection to the broker",
        ),
    ] = 60.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"
