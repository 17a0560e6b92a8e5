"""Refuses requests that a page of another web site makes a browser send: foreign hosts and origins.

A second guard beside tokens (`access`). The API is often on a person's own machine, through a tunnel to
loopback. That person's browser reaches it too, and sends what any page wants:

* A POST without a body needs no permission of the API (cross-site request forgery). But the browser says
  where it comes from, in `Origin` and `Sec-Fetch-Site`. `vxctl` and curl send neither.
* A page whose name is pointed to loopback later (DNS rebinding) counts as the API's own page, reads every
  answer, and sends any headers. But it cannot change `Host`, which stays the page's name. So names must be
  configured. An IP address needs no such trust: no DNS server is involved, and the page of an address comes
  from that address. If the API listens on one address, only that one and loopback are accepted.

`UNGUARDED` paths answer under any name, for probes and Prometheus: they name no node, network or device.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, Self

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api import SAFE_METHODS, problems
from controller.api.problem_types import FOREIGN

UNGUARDED: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_OWN_SITE: Final = frozenset({"same-origin", "none"})
"""What a browser sends for the API's own pages, and for a URL that a person typed."""
_NAVIGATE: Final = "navigate"
_PORTS: Final = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://(.+)")
_MAX_SHOWN: Final = 100
"""Characters of a header in an answer."""


class _Authority(NamedTuple):
    """HOST:PORT of a URL."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse it; None: invalid."""
        match = _AUTHORITY.fullmatch(text)
        if match is None:
            return None
        host, port = match.groups()
        return cls(_canonical(host), None if port is None else int(port))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _canonical(host: str) -> str:
    return str(_address(host) or host.lower().removesuffix("."))


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts under which the API may be addressed, with any port: tunnels change ports.

    Attributes:
        names: names and addresses, besides those of loopback.
        any_address: whether every IP address is accepted.
    """

    names: frozenset[str]
    any_address: bool

    @classmethod
    def of(cls, listen: str, allowed: str = "") -> Self:
        """Build it from the settings: the address (HOST:PORT), and further hosts, separated by commas."""
        host = listen.rpartition(":")[0]
        address = _address(host)
        wildcard = host == "" or (address is not None and address.is_unspecified)
        hosts = ["localhost", *allowed.split(","), *([] if wildcard else [host])]
        return cls(frozenset(_canonical(name.strip()) for name in hosts if name.strip()), wildcard)

    def __contains__(self, host: str) -> bool:
        """Whether a host (in the form of `_canonical`) is accepted."""
        address = _address(host)
        if address is not None and (address.is_loopback or self.any_address):
            return True
        return host in self.names


LOOPBACK: Final = Hosts(frozenset({"localhost"}), any_address=False)


class SameSiteOnly:
    """ASGI middleware that refuses requests of other web sites.

    Args:
        app: the app behind it.
        hosts: the accepted hosts.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http":
            refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
            if refusal is not None:
                answer = problems.problem(FOREIGN, *refusal)
        await answer(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Headers) -> tuple[str, str] | None:
        """Return the detail and hint of a refusal; None: the request is accepted."""
        if method in SAFE_METHODS and path in UNGUARDED:
            return None
        given = _all(headers, "host") or ""
        host = _Authority.parse(given)
        if host is None or host.host not in self._hosts:
            return (
                f"this controller is not known as {given[:_MAX_SHOWN]!r}",
                "use localhost or its address, or add that name to its VXLAN_OPERATOR_ALLOWED_HOSTS",
            )
        if method in SAFE_METHODS:
            # A link is followed; a script, an image or an EventSource of another site gets nothing.
            if headers.get("sec-fetch-mode", _NAVIGATE) == _NAVIGATE:
                return None
            site = _all(headers, "sec-fetch-site")
            if site is None or site in _OWN_SITE:
                return None
            return self._foreign(site)
        origin, site = _all(headers, "origin"), _all(headers, "sec-fetch-site")
        if (origin is None or _is_of(origin, host)) and (site is None or site in _OWN_SITE):
            return None
        return self._foreign(origin or site or "")

    @staticmethod
    def _foreign(page: str) -> tuple[str, str]:
        return (
            f"a page of another web site ({page[:_MAX_SHOWN]!r}) sent this request",
            "use vxctl; a proxy in front of the controller must pass Host on unchanged",
        )


def _all(headers: Headers, name: str) -> str | None:
    """Return the value of a header; several are joined, which is then never accepted."""
    values = headers.getlist(name)
    return ", ".join(values) if values else None


def _is_of(origin: str, host: _Authority) -> bool:
    """Whether an origin is the requested host with the same port."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return False
    scheme, authority = match.groups()
    address = _Authority.parse(authority)
    default = _PORTS[scheme]
    return address is not None and (address.host, address.port or default) == (
        host.host,
        host.port or default,
    )
