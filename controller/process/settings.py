"""The settings of `vxctl controller` and `vxctl up`."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr

from contract.runtime.settings import BrokerUrl, LogLevel, RemovalSettings, Settings

_HOST: Final = r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\]"
_LISTEN: Final = r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*):\d{1,5}"


def _listen(value: str) -> str:
    if not re.fullmatch(_LISTEN, value) or int(value.rpartition(":")[2]) > 65535:
        raise ValueError("must be HOST:PORT")
    return value


def _hosts(value: str) -> str:
    if value and not all(re.fullmatch(_HOST, host.strip()) for host in value.split(",")):
        raise ValueError("must be host names or addresses without a port, separated by commas")
    return value


DatabaseUrl = Annotated[
    SecretStr,
    Field(description="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"),
]


class CoreSettings(Settings):
    """Settings of every controller."""

    database_url: DatabaseUrl = SecretStr("sqlite:////var/lib/vxlan-operator/controller.db")
    docker_host: Annotated[
        str, Field(description="Docker API of a Swarm manager: unix:///PATH or tcp://HOST:PORT")
    ] = "unix:///var/run/docker.sock"
    listen: Annotated[
        str, AfterValidator(_listen), Field(description="HOST:PORT of the HTTP API")
    ] = "127.0.0.1:8479"
    allowed_hosts: Annotated[
        str,
        AfterValidator(_hosts),
        Field(description="additional host names of the HTTP API, separated by commas"),
    ] = ""
    mode: Annotated[
        Literal["observe", "enforce"],
        Field(description="enforce: remove orphans; observe: judge and report only"),
    ] = "enforce"
    resync_seconds: Annotated[
        float,
        Field(ge=1, le=86_400, description="seconds between periodic reconciles of each node"),
    ] = 60.0
    sync_seconds: Annotated[
        float, Field(ge=0.5, le=3600, description="seconds between readings of the Swarm")
    ] = 2.0
    sync_share: Annotated[
        float, Field(gt=0, le=1, description="maximum share of the time spent reading the Swarm")
    ] = 0.1
    run_timeout_seconds: Annotated[
        float,
        Field(ge=1, le=3600, description="seconds without a report after which a run is lost"),
    ] = 10.0
    run_retention_days: Annotated[
        float,
        Field(
            ge=0.04,
            le=3650,
            description="days for which the run history is kept; the audit trail is kept for longer",
        ),
    ] = 7.0
    breaker_window_seconds: Annotated[
        float,
        Field(ge=1, le=1800, description="seconds for which a removal counts for the breaker"),
    ] = 600.0
    breaker_node_removals: Annotated[
        int,
        Field(
            ge=1, le=1_000_000, description="number of removals on a node that trips its breaker"
        ),
    ] = 200
    breaker_max_nodes_share: Annotated[
        float,
        Field(
            ge=0, le=1, description="share of removing nodes above which the cluster breaker trips"
        ),
    ] = 0.25
    breaker_min_nodes: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="number of removing nodes up to which the cluster breaker never trips",
        ),
    ] = 5
    audit_retention_days: Annotated[
        int,
        Field(ge=0, le=36_500, description="days after which audit rows are archived; 0: never"),
    ] = 0
    audit_archive_directory: Annotated[
        Path, Field(description="directory for the archives of pruned audit rows")
    ] = Path("/var/lib/vxlan-operator/audit")
    log_level: LogLevel = "info"


class ControllerSettings(CoreSettings):
    """Settings of `vxctl controller`."""

    broker_url: BrokerUrl = SecretStr("redis://127.0.0.1:6379/0")
    silence_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="seconds without a message before the controller tests its broker connection",
        ),
    ] = 20.0


class LocalSettings(CoreSettings, RemovalSettings):
    """Settings of `vxctl up`: controller and worker of one machine in one process."""

    database_url: DatabaseUrl = SecretStr("sqlite:////var/lib/vxlan-operator/local.db")
