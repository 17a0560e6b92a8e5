"""Roles of the API, what each allows, and the identity of a caller."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from controller.db.states import Role

_ORDER: Final = (Role.METRICS, Role.READ, Role.OPERATE, Role.ADMIN)
ALLOWING: Final[Mapping[Role, tuple[Role, ...]]] = {
    role: _ORDER[number:] for number, role in enumerate(_ORDER)
}
"""By needed role, the roles that allow it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose token, or whose login by the trusted proxy, was accepted.

    Attributes:
        name: the actor in the audit trail.
        expires_at: the end of the token; None: it has none.
        by_proxy: there is no token: the trusted proxy named the user.
    """

    name: str
    role: Role
    expires_at: datetime | None = None
    by_proxy: bool = False

    def has(self, needed: Role) -> bool:
        """Whether the caller may do what needs this role."""
        return self.role in ALLOWING[needed]


class ForbiddenError(Exception):
    """The caller's role does not allow this; `hint` says which one would."""

    def __init__(self, identity: Identity, needed: Role) -> None:
        super().__init__(
            f"{identity.name} has the role {identity.role}, and this needs the role {needed}"
        )
        self.hint = f"use a token with the role {needed}: `vxctl token create NAME --role {needed}`"
        if identity.by_proxy:
            group = f"VXLAN_OPERATOR_AUTH_PROXY_{needed.upper()}_GROUP"
            self.hint = f"log in as a user in the group of {group}, or {self.hint}"
