"""Tokens as text: making, reading, hashing and naming them."""

import hashlib
import re
import secrets
from typing import Final, NamedTuple

from controller.db.states import CONTROLLER, SCAN

_FORM: Final = re.compile(r"vxo_([0-9a-f]{8})_[0-9A-Za-z_-]{43}", re.ASCII)
_LENGTH: Final = 56
NAME_PATTERN: Final = r"^[0-9A-Za-z][0-9A-Za-z._@-]{0,63}$"
"""Of a token's name: it stands in the audit trail, in paths and on command lines."""
SYSTEM: Final = "system"
"""The actor of what a controller does with tokens by itself."""
RESERVED: Final = frozenset({CONTROLLER, SYSTEM, SCAN, "anonymous", "operator", "worker"})
"""Names that no token and no claimed name may have: they are the program's own actors, or look like them."""


class Secret(NamedTuple):
    """A token as its owner has it. Never log or store `text`."""

    id: str
    """Public: the key of its row, and the part of it that lists show."""
    text: str

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the text (32 bytes). A slow hash guards weak passwords; this has 256 random bits."""
        return hashlib.sha256(self.text.encode()).digest()

    @classmethod
    def parse(cls, text: str) -> "Secret | None":
        """Read a token; None: the text is none."""
        found = _FORM.fullmatch(text) if len(text) == _LENGTH else None
        return None if found is None else cls(found[1], text)

    @classmethod
    def generate(cls) -> "Secret":
        """Make a new token: `vxo_`, 8 hexadecimal digits, `_`, 256 random bits in 43 characters."""
        id_ = secrets.token_hex(4)
        return cls(id_, f"vxo_{id_}_{secrets.token_urlsafe(32)}")


def checked_name(name: str) -> str:
    """Return a name that a token may have; raise ValueError if it may not."""
    if re.fullmatch(NAME_PATTERN, name, re.ASCII) is None:
        raise ValueError(
            "must be 1 to 64 letters, digits and . _ - @, and begin with a letter or digit"
        )
    if name.lower() in RESERVED:
        raise ValueError(f"must not be {name!r}: that is an actor of the controller itself")
    return name
