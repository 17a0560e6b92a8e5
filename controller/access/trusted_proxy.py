"""Login by a trusted proxy, which names the user and the user's groups in headers (forward auth)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

import structlog

from contract.runtime.errors import UsageError
from contract.runtime.text import printable
from contract.runtime.throttle import Throttle
from controller.access.roles import Identity
from controller.db.states import Role

log = structlog.get_logger(__name__)

LOG_SECONDS: Final = 10.0
"""Between debug lines of the same event: clients cause them."""
_MAX_SHOWN: Final = 200
"""Characters of a header in the log."""
_MAX_USER: Final = 128
_USER: Final = re.compile(rf"[0-9A-Za-z][0-9A-Za-z._@+-]{{0,{_MAX_USER - 1}}}", re.ASCII)
_HEADER: Final = re.compile(r"[0-9A-Za-z]+(-[0-9A-Za-z]+)*", re.ASCII)
_OTHERS: Final = frozenset(
    {
        "accept", "authorization", "connection", "content-length", "content-type", "cookie", "host",
        "if-none-match", "last-event-id", "origin", "sec-fetch-site", "transfer-encoding", "user-agent",
    }
)  # fmt: skip
"""Headers that clients send for something else."""


class ProxyHeadersError(Exception):
    """The trusted proxy names no user, or one that cannot be taken; `hint` says what to do."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.hint = (
            "correct the headers that the proxy sends (docs/security.md), or send the header "
            "`Authorization: Bearer TOKEN`"
        )


class NoRoleError(Exception):
    """The trusted proxy's user is in no group with a role; `hint` says which settings name them."""

    def __init__(self, user: str, header: str, count: int) -> None:
        super().__init__(
            f"{user} is in no group that has a role here (the proxy sent {count} in {header})"
        )
        self.hint = (
            "add the user to a group of VXLAN_OPERATOR_AUTH_PROXY_READ_GROUP, .._OPERATE_GROUP or "
            ".._ADMIN_GROUP, or use a token"
        )


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """Takes the word of some addresses for who the user is. Nobody else's headers count.

    Attributes:
        networks: where the proxy may be; not empty.
        user_header: the header with the user's name.
        groups_header: the header with the user's groups, separated by commas.
        roles: by group.
        throttle: of the log.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    user_header: str
    groups_header: str
    roles: Mapping[str, Role]
    throttle: Throttle = field(default_factory=partial(Throttle, LOG_SECONDS), compare=False)

    @classmethod
    def of(
        cls, addresses: str, user_header: str, groups_header: str, groups: Mapping[Role, str]
    ) -> Self | None:
        """Read the settings; None: no proxy is trusted.

        Args:
            addresses: addresses and networks (CIDR), separated by commas; "": none.
            groups: by role, the group that has it; "": none.

        Raises:
            UsageError: one is wrong; names it.
        """
        if not addresses.strip():
            return None
        networks = tuple(_network(text.strip()) for text in addresses.split(","))
        headers = {"user_header": user_header, "groups_header": groups_header}
        for name, header in headers.items():
            if _HEADER.fullmatch(header) is None or header.lower() in _OTHERS:
                raise _wrong(
                    name, header, "must be the name of a header of its own: letters, digits, -"
                )
        if user_header.lower() == groups_header.lower():
            raise _wrong("groups_header", groups_header, "must not be the header of the user")
        roles = {}
        for role in (Role.READ, Role.OPERATE, Role.ADMIN):  # The highest role of a group counts.
            group = groups.get(role, "").strip()
            if "," in group or not (group.isascii() and group.isprintable()):
                raise _wrong(f"{role}_group", group, "must be one group: ASCII, without a comma")
            if group:
                roles[group] = role
        if not roles:
            raise UsageError(
                "auth_proxy_from is set, and no group has a role: nobody could log in by the proxy",
                "set VXLAN_OPERATOR_AUTH_PROXY_READ_GROUP, .._OPERATE_GROUP or .._ADMIN_GROUP, "
                "or unset VXLAN_OPERATOR_AUTH_PROXY_FROM",
            )
        return cls(networks, user_header, groups_header, roles)

    def identify(self, address: str, headers: Callable[[str], Sequence[str]]) -> Identity | None:
        """Return the user that a request without a token is from; None: the proxy did not send it.

        Args:
            address: of the connection's other end, never of a header.
            headers: returns all values of a header.

        Raises:
            ProxyHeadersError: the proxy names no user, or one that cannot be taken.
            NoRoleError: none of the user's groups has a role.
        """
        users, groups = headers(self.user_header), headers(self.groups_header)
        if not self._trusts(address):
            if users or groups:
                self._log("headers of no trusted proxy ignored", address, users, groups)
            return None
        self._log("headers of the trusted proxy", address, users, groups)
        for name, values in ((self.user_header, users), (self.groups_header, groups)):
            if len(values) > 1:
                raise ProxyHeadersError(
                    f"the proxy sent the header {name} {len(values)} times: it must replace the one "
                    "that a client sends"
                )
        user = users[0].strip() if users else ""
        if not user:
            raise ProxyHeadersError(
                f"this needs a token, or a user from the proxy in the header {self.user_header}, and "
                "the request has neither"
            )
        if _USER.fullmatch(user) is None:
            raise ProxyHeadersError(
                f"the user in the header {self.user_header} must be 1 to {_MAX_USER} ASCII letters, "
                "digits and . _ - + @, and begin with a letter or digit"
            )
        named = [name.strip() for value in groups for name in value.split(",") if name.strip()]
        held = {self.roles[name] for name in named if name in self.roles}
        for role in (Role.ADMIN, Role.OPERATE, Role.READ):
            if role in held:
                # No token can have such a name: the audit trail tells the two apart.
                return Identity(f"{user} (proxy)", role, by_proxy=True)
        raise NoRoleError(user, self.groups_header, len(named))

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        return any(parsed in network for network in self.networks)

    def _log(self, event: str, address: str, users: Sequence[str], groups: Sequence[str]) -> None:
        if not self.throttle.is_due(event):
            return
        shown = {"user": users, "groups": groups}
        log.debug(
            event,
            address=address,
            **{name: printable(" | ".join(values)[:_MAX_SHOWN]) for name, values in shown.items()},
        )


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError:
        raise _wrong(
            "from", text, "must be addresses or networks such as 192.0.2.7 or 192.0.2.0/24 (no bit "
            "set behind the prefix), separated by commas",
        ) from None  # fmt: skip
    if network.prefixlen == 0:
        raise _wrong("from", text, "must not be every address: anybody could name any user")
    return network


def _wrong(name: str, value: str, must: str) -> UsageError:
    setting = f"auth_proxy_{name}"
    option = f"--{setting.replace('_', '-')}"
    return UsageError(
        f"{setting}: {must}, got {value[:_MAX_SHOWN]!r}",
        f"set VXLAN_OPERATOR_{setting.upper()} (or {option})",
    )
