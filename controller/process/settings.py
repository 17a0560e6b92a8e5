"""The settings of `vxctl controller` and `vxctl up`."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr

from contract.runtime.broker_settings import BrokerSettings
from contract.runtime.errors import UsageError
from contract.runtime.settings import (
    ONLY_VARIABLE,
    LogFormat,
    LogLevel,
    RemovalSettings,
    file_of,
)
from contract.runtime.startup import WaitAtStart
from controller.process.docker_settings import DockerSettings
from controller.process.notify_settings import NotifySettings
from controller.traces.collector import Address, checked_url, headers_of
from controller.traces.link import checked_pattern

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


def _endpoint(value: SecretStr) -> SecretStr:
    return SecretStr(checked_url(value.get_secret_value()))


def _headers(value: SecretStr) -> SecretStr:
    headers_of(value.get_secret_value())
    return value


DatabaseUrl = Annotated[
    SecretStr, Field(description="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME")
]


class CoreSettings(DockerSettings, NotifySettings):
    """Settings of every controller."""

    database_url: DatabaseUrl = SecretStr("sqlite:////var/lib/vxlan-operator/controller.db")
    database_url_file: str = file_of("database_url", "the URL of the database")
    listen: Annotated[str, AfterValidator(_listen)] = Field(
        "127.0.0.1:8479", description="HOST:PORT of the HTTP API"
    )
    listen_cert: str = Field(
        "",
        description="PEM file of the certificate (with its chain) for HTTPS, read again on change",
    )
    listen_key: str = Field("", description="PEM file of the certificate's key")
    listen_plain: Literal["false", "true"] = Field(
        "false",
        description="true: listen beyond loopback without TLS, since the network is trusted or a proxy "
        "has it",
    )
    api_token_file: str = Field(
        "",
        description="file of the first API token, made at the first start; none: beside the database",
    )
    signing_key: str = Field(
        "",
        description="file of the controllers' private key, made at the first start; controllers of one "
        "database share it; none: beside the database",
    )
    allowed_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "", description="additional host names of the HTTP API, separated by commas"
    )
    auth_proxy_from: str = Field(
        "",
        description="addresses and networks (CIDR) of the proxy that may name users, separated by commas",
    )
    auth_proxy_user_header: str = Field(
        "Remote-User", description="header in which that proxy names the user"
    )
    auth_proxy_groups_header: str = Field(
        "Remote-Groups", description="header with the user's groups, separated by commas"
    )
    auth_proxy_read_group: str = Field("", description="group of that proxy with the role read")
    auth_proxy_operate_group: str = Field("", description="group with the role operate")
    auth_proxy_admin_group: str = Field("", description="group with the role admin")
    mode: Literal["observe", "enforce"] = Field(
        "enforce", description="enforce: remove orphans; observe: judge and report only"
    )
    resync_seconds: float = Field(
        60.0, ge=1, le=86_400, description="seconds between periodic reconciles of each node"
    )
    sync_seconds: float = Field(
        2.0, ge=0.5, le=3600, description="seconds between readings of the Swarm"
    )
    sync_share: float = Field(
        0.1, gt=0, le=1, description="maximum share of the time spent reading the Swarm"
    )
    run_timeout_seconds: float = Field(
        10.0, ge=1, le=3600, description="seconds without a report after which a run is lost"
    )
    run_retention_days: float = Field(
        7.0, ge=0.04, le=3650, description="days for which runs are kept (not their audit rows)"
    )
    breaker_window_seconds: float = Field(
        600.0, ge=1, le=1800, description="seconds for which a removal counts for the breaker"
    )
    breaker_node_removals: int = Field(
        200, ge=1, le=1_000_000, description="number of removals on a node that trips its breaker"
    )
    breaker_max_nodes_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of removing nodes above which the cluster breaker trips",
    )
    breaker_min_nodes: int = Field(
        5,
        ge=0,
        le=1_000_000,
        description="number of removing nodes up to which the cluster breaker never trips",
    )
    audit_retention_days: int = Field(
        0, ge=0, le=36_500, description="days after which audit rows are archived; 0: never"
    )
    audit_archive_directory: Path = Field(
        Path("/var/lib/vxlan-operator/audit"),
        description="directory for the archives of pruned audit rows",
    )
    # Not shown in errors: somebody may have put a password into it.
    traces_endpoint: Annotated[SecretStr, AfterValidator(_endpoint)] = Field(
        SecretStr(""),
        description="URL of a collector of traces, by OTLP over HTTP: http://HOST:4318/v1/traces; none: no "
        "traces",
    )
    traces_headers: Annotated[SecretStr, AfterValidator(_headers)] = Field(
        SecretStr(""),
        description="headers for that collector: NAME=VALUE, several separated by commas",
        json_schema_extra=ONLY_VARIABLE,
    )
    traces_headers_file: str = file_of("traces_headers", "headers for the collector of traces")
    traces_ca: str = Field(
        "",
        description="PEM file of the CAs that may have signed the collector's certificate; none: those of "
        "the system",
    )
    trace_url: Annotated[str, AfterValidator(checked_pattern)] = Field(
        "",
        description="URL of a run's trace, with {trace_id}: https://jaeger.example/trace/{trace_id}",
    )
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    wait_at_start: WaitAtStart = "auto"

    def collector(self) -> Address | None:
        """Return the collector of traces; None: there is none.

        Raises:
            UsageError: headers or a CA are given for no collector.
        """
        headers = headers_of(self.traces_headers.get_secret_value())
        if endpoint := self.traces_endpoint.get_secret_value():
            return Address(endpoint, headers, self.traces_ca)
        if headers or self.traces_ca:
            raise UsageError(
                "headers or a CA are given for a collector of traces, and no collector",
                "set VXLAN_OPERATOR_TRACES_ENDPOINT to http://HOST:4318/v1/traces",
            )
        return None


class ControllerSettings(CoreSettings, BrokerSettings):
    """Settings of `vxctl controller`."""

    join_token_file: str = Field(
        "",
        description="file with a join token to let nodes join by, which is stored at the first start with it",
    )
    silence_seconds: float = Field(
        20.0,
        ge=1,
        le=3600,
        description="seconds without a message before the controller tests its broker connection",
    )


class LocalSettings(CoreSettings, RemovalSettings):
    """Settings of `vxctl up`: controller and worker of one machine in one process."""

    database_url: DatabaseUrl = SecretStr("sqlite:////var/lib/vxlan-operator/local.db")
