"""Recognising, in what Swarm says of a task, the fault that this operator exists for. Pure.

The texts come from nodes and people, so each function takes any text of any length in bounded time. The
wordings: moby libnetwork/drivers/overlay/ov_network.go.
"""

import re
from ipaddress import ip_network
from typing import Final

_MAX_LENGTH: Final = 4_000
"""Characters that are looked at. Real errors have a few hundred."""

_COLOUR: Final = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
"""A control sequence of a terminal (ECMA-48, 5.4): `grep --color` puts some inside the wording."""

_EXISTS: Final = "file exists"
_CREATING: Final = f"error creating vxlan interface: {_EXISTS}"
_PROBE: Final = f"failed to create testvxlan interface: {_CREATING}"
_BEGINNINGS: Final = (
    "vxlan interface creation failed for subnet ",
    "failed creating ingress network: ",
)
"""Wordings that end with `file exists` after some more words."""

_CIDR: Final = r"([0-9a-f:.]{2,45}/[0-9]{1,3})"
_SUBNETS: Final = (
    # The quotes are escaped where the error is part of a log line.
    re.compile(
        rf"""(?:sandbox join|interface creation) failed for (?:subnet )?[\\"']{{0,6}}{_CIDR}"""
    ),
    re.compile(rf"""{_CIDR}[\\"']{{0,6}}:\s{{0,80}}error creating vxlan interface"""),
)


def is_leak(error: str) -> bool:
    """Whether a task's error is that of a leaked VXLAN device, in the words of any engine since 17."""
    text = _plain(error).replace(_PROBE, "")
    return _CREATING in text or any(
        _EXISTS in text.partition(beginning)[2] for beginning in _BEGINNINGS
    )


def is_probe(error: str) -> bool:
    """Whether an error says that the device of dockerd's own probe was there already.

    Engines up to 23 make a device `testvxlan` with VNI 1 to learn whether the kernel has VXLAN, and
    go on if it exists: no network lacks anything.
    """
    return _PROBE in _plain(error)


def fault_subnet(error: str) -> str | None:
    """The subnet of the network that could not be joined, like `10.0.2.0/24`; None: it names none.

    Also where the error itself was cut off behind it.
    """
    text = _plain(error)
    for pattern in _SUBNETS:
        for found in pattern.finditer(text):
            try:
                return str(ip_network(found[1], strict=False))
            except ValueError:
                continue
    return None


def _plain(error: str) -> str:
    """The text that is looked at: no longer than need be, without colours, in lower case."""
    return _COLOUR.sub("", error[:_MAX_LENGTH]).lower()
