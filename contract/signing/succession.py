"""How who was away for rotations comes to believe the controllers' key: each key vouches for the next.

A succession is a text of one line a key, the oldest first: the id of the key before, the key, and the
signature of the key before over it. It travels beside a message, and proves itself.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from contract.signing.keys import PublicKey, SigningKey

MAX_LINKS: Final = 16
"""Rotations that may be caught up with."""
_DOMAIN: Final = b"vxlan-operator/succession/1\0"
_LINE: Final = re.compile(r"([0-9a-f]{16}) ([A-Za-z0-9_-]{43}) ([A-Za-z0-9_-]{86})")
MAX_CHARACTERS: Final = MAX_LINKS * (16 + 1 + 43 + 1 + 86 + 1)


class Link(NamedTuple):
    """One rotation: ids and texts of keys, and the signature of the one before."""

    previous: str
    key: str
    signature: str


def vouch(previous: SigningKey, key: PublicKey) -> str:
    """Vouch for the key that follows a key of the controllers."""
    return previous.sign(_statement(key))


def write(links: Sequence[Link]) -> str:
    """Return the newest of these rotations, the oldest first, as a text; "": there are none."""
    return "\n".join(" ".join(link) for link in links[-MAX_LINKS:])


def follow(text: object, believed: Sequence[PublicKey], key_id: str) -> PublicKey | None:
    """Return the key of this id, if the keys that are believed lead to it; None: they do not.

    Args:
        text: a succession, from anybody.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return None
    known = {key.id: key for key in believed}
    for line in text.split("\n"):
        found = _LINE.fullmatch(line)
        if found is None or found[1] not in known:
            continue
        try:
            key = PublicKey.from_text(found[2])
        except ValueError:
            continue
        if known[found[1]].verifies(found[3], _statement(key)):
            known[key.id] = key
            if key.id == key_id:
                return key
    return None


def _statement(key: PublicKey) -> bytes:
    return _DOMAIN + key.text.encode()
