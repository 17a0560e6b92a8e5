"""Which addresses a notification may go to: checked after the name is resolved, and connected to as checked.

Otherwise a URL could make the controller speak to what only it reaches: a cloud's metadata service, a
database without a password, its own loopback by a name that resolves to it.
"""

import re
import socket
from collections.abc import Callable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from controller.notifications.errors import DeliveryError, TargetError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Sequence[str]]
"""Resolves a host name and port to addresses, or raises `OSError`."""

ALLOW: Final = "VXLAN_OPERATOR_NOTIFY_ALLOW"
_METADATA: Final = frozenset(
    map(
        ip_address,
        # AWS, Google, Azure and others; AWS and Google by IPv6; Alibaba; Oracle; Azure's wire server.
        [
            "169.254.169.254",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
        ],
    )
)
_SHARED: Final = ip_network("100.64.0.0/10")
"""RFC 6598, which `ipaddress` calls neither private nor global."""
_NAT64: Final = ip_network("64:ff9b::/96")
_EMBEDDED: Final = (ip_network("::/96"), ip_network("::ffff:0:0:0/96"))
"""IPv4-compatible (RFC 4291) and IPv4-translated (RFC 2765): the last 32 bits are an IPv4 address."""
_LOCAL_NAT64: Final = ip_network("64:ff9b:1::/48")
"""RFC 8215; the network within it says where the IPv4 address is (RFC 6052)."""
_MIN_SECRET: Final = 6
_MAX_URL: Final = 2000
_MAX_ADDRESSES: Final = 8


class Endpoint(NamedTuple):
    """A URL, taken apart."""

    tls: bool
    host: str
    port: int
    path: str
    """With the query."""

    @property
    def shown(self) -> str:
        """The URL for people: what is behind the host is often a secret."""
        scheme = "https" if self.tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == (443 if self.tls else 80) else f":{self.port}"
        return f"{scheme}://{host}{port}" + ("" if self.path == "/" else "/***")

    def hide(self, text: str) -> str:
        """Replace what is behind the host by `***`: servers repeat the path in their answers.

        Of the path and the query, as a whole and decoded; and each of their parts of six or more characters.
        """
        path, _, query = self.path.partition("?")
        wholes = {self.path, path, query}
        parts = {part for whole in (path, query) for part in re.split(r"[/&=;,+]", whole)}
        secret = {found for found in wholes if len(found) > 1}
        secret |= {found for found in parts if len(found) >= _MIN_SECRET}
        secret |= {unquote(found) for found in secret}
        if not secret:
            return text
        # The longest first, or its parts would be hidden alone.
        pattern = "|".join(re.escape(found) for found in sorted(secret, key=len, reverse=True))
        return re.sub(pattern, "***", text, flags=re.IGNORECASE)


def endpoint_of(url: str) -> Endpoint:
    """Take a URL apart.

    Raises:
        TargetError: it is none that can be used.
    """
    hint = "write it as https://HOST/PATH"
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise TargetError("the URL is too long, or has characters that no URL has", hint)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetError("the URL is wrong", hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetError("the URL is not one of http or https with a host", hint)
    if "@" in parts.netloc:
        raise TargetError(
            "the URL has a user name", "leave it out: the receiver checks the signature instead"
        )
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(tls, parts.hostname, port or (443 if tls else 80), path)


def networks_of(text: str) -> tuple[Network, ...]:
    """Read networks (CIDR) separated by commas; raise `ValueError` for another text."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


def checked(
    endpoint: Endpoint, allowed: Sequence[Network], lookup: Lookup = resolve
) -> Sequence[Address]:
    """Return the addresses of a host, all of which a notification may go to.

    Raises:
        DeliveryError: it has none, or one that is forbidden.
    """
    try:
        found = lookup(endpoint.host, endpoint.port)
        addresses = [ip_address(text.partition("%")[0]) for text in dict.fromkeys(found)]
    except (OSError, ValueError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no valid answer"
        raise DeliveryError(f"the name {endpoint.host} cannot be resolved: {reason}") from error
    if not addresses:
        raise DeliveryError(f"the name {endpoint.host} has no address")
    for address in addresses:
        if why := forbidden(address, allowed):
            of = "" if str(address) == endpoint.host else f"{endpoint.host} is "
            raise DeliveryError(f"not sent: {of}{address}, {why}")
    return addresses[:_MAX_ADDRESSES]


def forbidden(address: Address, allowed: Sequence[Network]) -> str | None:
    """Return why nothing may be sent to an address; None: it may."""
    inner = _inner(address)
    if inner is not None:
        return forbidden(inner, allowed)
    for translated in _translated(address):
        if why := forbidden(translated, allowed):
            return why
    if address in _METADATA:
        return "a cloud's metadata service, which is never allowed"
    for name in ("link_local", "unspecified", "multicast"):
        if getattr(address, f"is_{name}"):
            return f"a {name.replace('_', '-')} address, which is never allowed"
    if any(address in network for network in allowed if network.version == address.version):
        return None
    if address.is_loopback:
        kind = "loopback"
    elif address.is_private or address in _SHARED:
        kind = "private"
    elif address.is_reserved or not address.is_global:
        kind = "reserved"
    else:
        return None
    return f"a {kind} address: if that is meant, set {ALLOW} to its network on the controllers"


def _inner(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]


def _translated(address: Address) -> Sequence[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address may reach by a translator."""
    number = int(address)
    if isinstance(address, IPv4Address) or number <= 1:  # `::` and `::1` are themselves.
        return ()
    last = IPv4Address(number & 0xFFFFFFFF)
    if any(address in network for network in _EMBEDDED):
        return (last,)
    if address not in _LOCAL_NAT64:
        return ()
    # Bits 64 to 71 are left out of the others (RFC 6052, 2.2): of a network of 48, 56 or 64 bits.
    joined = number >> 64 << 56 | number & (1 << 56) - 1
    found = {last, *(IPv4Address(joined >> shift & 0xFFFFFFFF) for shift in (40, 32, 24))}
    # Where there is none, there are zeros.
    return sorted(one for one in found if int(one) >> 24) or (last,)
