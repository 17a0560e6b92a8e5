"""Recognising, in what Swarm says of a task, the fault that this operator exists for. Pure."""

import re
from typing import Final

_FAULT: Final = re.compile(
    r"error creating vxlan interface: file exists"
    r"|vxlan interface creation failed for subnet .*file exists"
    r"|failed creating ingress network: .*file exists",
    re.IGNORECASE | re.DOTALL,
)


def is_leak(error: str) -> bool:
    """Whether a task's error is that of a leaked VXLAN device, in the words of any engine since 17.

    The wording: moby libnetwork/drivers/overlay/ov_network.go.
    """
    return _FAULT.search(error) is not None
