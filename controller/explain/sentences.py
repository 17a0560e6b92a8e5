"""Sentences of an explanation that need no controller: filled-in cures, and what a text lacks. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from controller.explain.reading import Finding

NO_FAULT: Final = (
    "This is not the error of a leaked VXLAN device (`error creating vxlan interface: file exists`), and "
    "none of its relatives that are known here."
)
LOOK_AT_LOG: Final = (
    "Look at Docker's log on the node (`journalctl -u docker`), and give the line with the error."
)

_PLAIN: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.:/-]{0,253}")
"""A name that a shell takes as it stands."""


def filled(cure: Sequence[str], names: Mapping[str, str | None]) -> list[str]:
    """Return a cure's sentences with names instead of NODE, SERVICE, NETWORK, SANDBOX and DEVICE.

    What is not known, or no shell would take, stays as it is.
    """
    known = {word: name for word, name in names.items() if name and _PLAIN.fullmatch(name)}
    if not known:
        return list(cure)
    words = re.compile(rf"\b({'|'.join(known)})\b")
    return [words.sub(lambda found: known[found[1]], sentence) for sentence in cure]


def missing(found: Finding, *, node: bool, network: bool) -> Iterator[str]:
    """Yield what to add to a text; `node`, `network`: whether those are known."""
    service = found.clues.service or ""
    service = service if _PLAIN.fullmatch(service) else "SERVICE"
    if not found.certain:
        yield (
            "The message is cut off, so this is probable, not certain: `docker service ps --no-trunc "
            f"{service}` shows all of it."
        )
    if not found.about.leak:
        return
    if not node:
        if found.device is not None:
            yield "No node's last report has this device: add the name of the node to the text."
        else:
            yield (
                "The text does not say which node it is of: add the line of `docker service ps --no-trunc "
                f"{service}` that it is from, or the node's name."
            )
    elif not network and found.device is None:
        yield (
            "The text does not say which network it is of: add the subnet that the whole message names, or "
            "the network's name."
        )
