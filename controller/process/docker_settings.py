"""Settings of the way to Docker: the managers, and TLS to them that is always verified."""

import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from contract.runtime.client_tls import check_files, unusable
from contract.runtime.dockerd import Docker, DockerTls
from contract.runtime.errors import UsageError
from contract.runtime.settings import Settings

_UNIX: Final = re.compile(r"unix:///\S+")
_TCP: Final = re.compile(r"tcp://([0-9A-Za-z._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):\d{1,5}")
_MAX_HOSTS: Final = 15
"""Swarm's own advice is seven managers at most."""


def _hosts(value: str) -> str:
    hosts = [host.strip() for host in value.split(",")]
    for host in hosts:
        tcp = _TCP.fullmatch(host) and 0 < int(host.rpartition(":")[2]) <= 65535
        if not tcp and not _UNIX.fullmatch(host):
            raise ValueError("must be unix:///PATH or tcp://HOST:PORT, several separated by commas")
    if len(hosts) > _MAX_HOSTS or len(set(hosts)) < len(hosts):
        raise ValueError(f"must name each manager once, and {_MAX_HOSTS} at most")
    return ",".join(hosts)


class DockerSettings(Settings):
    """Settings of a program that reads the Swarm."""

    docker_host: Annotated[str, AfterValidator(_hosts)] = Field(
        "unix:///var/run/docker.sock",
        description="Docker APIs of managers, separated by commas: unix:///PATH or tcp://HOST:PORT; the "
        "next is asked when one is away",
    )
    docker_ca: str = Field(
        "",
        description="PEM file of the CAs that may have signed the certificates of tcp://; turns on TLS",
    )
    docker_cert: str = Field("", description="PEM file of this program's certificate for Docker")
    docker_key: str = Field("", description="PEM file of that certificate's key")
    docker_plain: Literal["false", "true"] = Field(
        "false",
        description="true: tcp:// beyond loopback without TLS, since the network is trusted",
    )

    def dockers(self) -> tuple[Docker, ...]:
        """Return the managers in the order in which they are asked.

        Raises:
            UsageError: the settings contradict each other, or a file cannot be used.
        """
        hosts = self.docker_host.split(",")
        over_tcp = [host for host in hosts if _TCP.fullmatch(host)]
        tls = self._docker_tls()
        if tls is not None and not over_tcp:
            raise UsageError(
                "certificates are given for a Docker API that needs none",
                "write VXLAN_OPERATOR_DOCKER_HOST as tcp://HOST:2376",
            )
        plain = [host for host in over_tcp if tls is None and not _is_loopback(host)]
        if plain and self.docker_plain == "false":
            raise UsageError(
                f"{plain[0]} is not loopback, and without TLS everybody on the way can change what is read",
                "set VXLAN_OPERATOR_DOCKER_CA, VXLAN_OPERATOR_DOCKER_CERT and VXLAN_OPERATOR_DOCKER_KEY; or, "
                "on a trusted network, VXLAN_OPERATOR_DOCKER_PLAIN=true",
            )
        return tuple(Docker(host, tls if host in over_tcp else None) for host in hosts)

    def _docker_tls(self) -> DockerTls | None:
        if not (self.docker_ca or self.docker_cert or self.docker_key):
            return None
        tls = DockerTls(self.docker_ca, self.docker_cert, self.docker_key)
        if not tls.ca or bool(tls.cert) != bool(tls.key):
            why = "the CA is always needed, and certificate and key belong together"
            raise unusable("Docker", "DOCKER", why)
        check_files("Docker", "DOCKER", *tls)
        return tls


def _is_loopback(host: str) -> bool:
    name = urlsplit(host).hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
