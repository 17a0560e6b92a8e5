"""The controller's settings."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr

from contract.runtime.settings import (
    UNCLAIMED_SECONDS,
    BrokerUrl,
    Settings,
    minutes,
)


def _listen(value: str) -> str:
    if (
        not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*):\d{1,5}", value)
        or int(value.rpartition(":")[2]) > 65535
    ):
        raise ValueError("must be HOST:PORT")
    return value


_HOST = r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\]"


def _hosts(value: str) -> str:
    if value and not all(re.fullmatch(_HOST, each.strip()) for each in value.split(",")):
        raise ValueError("must be host names or addresses without a port, separated by commas")
    return value


DEFAULT_LISTEN = "127.0.0.1:8479"


class CoreSettings(Settings):
    """What `vxctl controller` and `vxctl up` have in common."""

    database_url: Annotated[
        SecretStr,
        Field(description="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"),
    ] = SecretStr("sqlite:////var/lib/vxlan-operator/controller.db")
    docker_host: Annotated[
        str,
        Field(description="Docker API of a Swarm manager: unix:///PATH or tcp://HOST:PORT"),
    ] = "unix:///var/run/docker.sock"
    listen: Annotated[
        str, AfterValidator(_listen), Field(description="HOST:PORT of the HTTP API")
    ] = DEFAULT_LISTEN
    allowed_hosts: Annotated[
        str,
        AfterValidator(_hosts),
        Field(description="further host names of the HTTP API, separated by commas"),
    ] = ""
    mode: Annotated[
        Literal["observe", "enforce"], Field(description="observe: judge and report only")
    ] = "enforce"
    resync_seconds: Annotated[
        float,
        Field(ge=1, le=86_400, description="each node is looked at so often, without a reason"),
    ] = 60.0
    sync_seconds: Annotated[
        float, Field(ge=0.5, le=3600, description="the Swarm is looked at so often")
    ] = 2.0
    sync_share: Annotated[
        float,
        Field(gt=0, le=1, description="at most this share of the time the manager is asked"),
    ] = 0.1
    run_timeout_seconds: Annotated[
        float, Field(ge=1, le=3600, description="a run without a report is lost after so long")
    ] = 10.0
    run_retention_days: Annotated[
        float,
        Field(
            ge=0.04, le=3650, description="the run history (not the audit trail) is kept so long"
        ),
    ] = 7.0
    breaker_window_seconds: Annotated[
        float, Field(ge=1, le=1800, description="how far back removals count for the breaker")
    ] = 600.0
    breaker_node_removals: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="so many removals of a node trip its breaker"),
    ] = 200
    breaker_max_nodes_share: Annotated[
        float,
        Field(ge=0, le=1, description="more of the nodes with removals trip the cluster's breaker"),
    ] = 0.25
    breaker_min_nodes: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="so few nodes with removals never trip it"),
    ] = 5
    audit_retention_days: Annotated[
        int, Field(ge=0, le=36_500, description="audit rows are archived after so long; 0: never")
    ] = 0
    audit_archive_directory: Annotated[
        Path, Field(description="where audit rows go before they are pruned")
    ] = Path("/var/lib/vxlan-operator/audit")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"


class ControllerSettings(CoreSettings):
    """Settings of `vxctl controller`."""

    program: ClassVar[str] = "vxctl controller"

    broker_url: BrokerUrl = SecretStr("redis://127.0.0.1:6379/0")
    silence_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="without a message for so long, the controller tests its connection to the broker",
        ),
    ] = 20.0


class LocalSettings(CoreSettings):
    """Settings of `vxctl up`: controller and worker of one machine in one process."""

    program: ClassVar[str] = "vxctl up"

    database_url: Annotated[
        SecretStr, Field(description="sqlite:///FILE or postgresql+psycopg://...")
    ] = SecretStr("sqlite:////var/lib/vxlan-operator/local.db")
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
