"""Refuses what a web page of somebody else's has a browser ask: foreign hosts and foreign origins.

The API has no authentication, so who may ask is decided by who can reach it: often a person's own machine,
through a tunnel to loopback. That person's browser can reach it as well, and asks whatever any page wants:

* A POST without a body needs no permission of ours (cross-site request forgery). But the browser says where
  it comes from, in `Origin` and `Sec-Fetch-Site`. `vxctl` and curl send neither.
* A page whose name points to loopback a moment later (DNS rebinding) counts as the API's own page, reads
  everything, and sends whatever headers it likes. But it cannot change `Host`: that stays the page's name. So
  a name must be known to be ours. An IP address needs no such trust: no DNS server has a say in it, and the
  page of an address comes from that address. Yet where the API listens on one address, there is no need for
  others but loopback's.

`UNGUARDED` is answered under any name, as probes and Prometheus use: it says how things are, and names
no node, network or device.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, Self

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api import problems

UNGUARDED: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE: Final = frozenset({"same-origin", "none"})
"""What a browser says of our own pages, and of what a person typed."""
_PORTS: Final = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://(.+)")
_MAX_SHOWN: Final = 100
"""Characters of a header that an answer repeats."""


class _Place(NamedTuple):
    """HOST:PORT, as a URL has it."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read it; None: it is none."""
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
    """Under which hosts the API may be addressed, with any port: tunnels change that.

    Attributes:
        names: names and addresses, besides those of loopback.
        any_address: whether every IP address will do.
    """

    names: frozenset[str]
    any_address: bool

    @classmethod
    def of(cls, listen: str, allowed: str = "") -> Self:
        """By the settings: where the API listens (HOST:PORT), and further hosts, separated by commas."""
        host = listen.rpartition(":")[0]
        address = _address(host)
        wildcard = host == "" or (address is not None and address.is_unspecified)
        hosts = ["localhost", *allowed.split(","), *([] if wildcard else [host])]
        return cls(frozenset(_canonical(each.strip()) for each in hosts if each.strip()), wildcard)

    def __contains__(self, host: str) -> bool:
        """Whether this is one, as `_canonical` writes it."""
        address = _address(host)
        if address is not None and (address.is_loopback or self.any_address):
            return True
        return host in self.names


LOOPBACK: Final = Hosts(frozenset({"localhost"}), any_address=False)


class SameSiteOnly:
    """ASGI middleware: refuses requests that may be the wish of another web site.

    Args:
        app: what answers.
        hosts: under which hosts.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        answer = self._app
        if scope["type"] == "http":
            refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
            if refusal is not None:
                answer = problems.problem(403, "Refused", refusal)
        await answer(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Headers) -> str | None:
        """Why a request is refused, and what to do; None: it is not."""
        if method in _SAFE and path in UNGUARDED:
            return None
        said = _all(headers, "host") or ""
        host = _Place.parse(said)
        if host is None or host.host not in self._hosts:
            return (
                f"this controller is not known as {said[:_MAX_SHOWN]!r}; use localhost or the address that "
                "it listens on, or add that name to VXLAN_OPERATOR_ALLOWED_HOSTS of the controller"
            )
        if method in _SAFE:
            return None
        origin, site = _all(headers, "origin"), _all(headers, "sec-fetch-site")
        if (origin is None or _is_of(origin, host)) and (site is None or site in _OWN_SITE):
            return None
        return (
            f"a web page of another site ({(origin or site or '')[:_MAX_SHOWN]!r}) has a browser ask for "
            "this; use vxctl, or the controller's own page /docs (a proxy must pass Host on as it is)"
        )


def _all(headers: Headers, name: str) -> str | None:
    """The value of a header; several together, which are then nothing that anybody would accept."""
    values = headers.getlist(name)
    return ", ".join(values) if values else None


def _is_of(origin: str, host: _Place) -> bool:
    """Whether an origin is the host that is asked, with the same port."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return False
    scheme, authority = match.groups()
    address = _Place.parse(authority)
    default = _PORTS[scheme]
    return address is not None and (address.host, address.port or default) == (
        host.host,
        host.port or default,
    )
